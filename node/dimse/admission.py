"""Who may come in, and to what: what :mod:`node.dimse.upper` asks about a connection."""

from __future__ import annotations

import ssl
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from crosslight.runtime.log import get_logger
from crosslight.runtime.tls import refused_certificate
from crosslight.standards.dicom.query.models import ROOTS, agreed_to
from crosslight.standards.dicom.upper_layer.associate import AssociateAccept, AssociateRequest
from crosslight.standards.dicom.upper_layer.pdu import CALLED_UNKNOWN, CALLING_UNKNOWN, LIMIT_EXCEEDED
from crosslight.standards.problem import Busy, CrosslightError
from node.dimse.accounts import Account, Accounts
from node.dimse.arrivals import Arrivals
from node.dimse.association import Association, DimseService, by_field
from node.dimse.callers import Callers
from node.dimse.config import DimseConfig
from node.dimse.negotiation import agree, merged
from node.dimse.upper import AssociationRejected, UpperLayer

log = get_logger("dimse")

#: Raises what is to be said to whoever shows this certificate (``getpeercert()`` form), where it is refused.
Certified = Callable[[dict[str, Any]], None]


def anybody(certificate: dict[str, Any]) -> None:
    """Whoever has a certificate of the configured authorities."""


class Admission:
    """The rules of one listener, for all its connections.

    Args:
        config: The ``[dimse]`` section.
        services: What callers may ask.
        callers: Who may call.
        accounts: Where what they do is noted.
        certified: Asked about each certificate that a caller shows.

    Raises:
        ConfigError: two services answer the same.
    """

    def __init__(
        self,
        config: DimseConfig,
        services: Sequence[DimseService],
        callers: Callers,
        accounts: Accounts,
        certified: Certified,
    ) -> None:
        self.config, self.callers, self.accounts, self._certified = config, callers, accounts, certified
        self.services = by_field(services)
        self.supported = merged(sop_class for service in services for sop_class in service.sop_classes)
        self.arrivals = Arrivals(config)
        self._lock = threading.Lock()
        #: Associations by outcome, for metrics.
        self.associations: Counter[str] = Counter()

    def visit(self, upper: UpperLayer) -> Visit:
        """A connection has come.

        Raises:
            Busy: there is no room for it.
        """
        return Visit(self, upper)

    def check(self, certificate: dict[str, Any] | None, address: str) -> None:
        """Whether whoever showed this certificate may go on.

        Raises:
            CrosslightError: if not.
        """
        try:
            if certificate:
                self._certified(certificate)
        except CrosslightError as error:
            self.accounts.noted("dimse", error, address)
            raise

    def count(self, outcome: str) -> None:
        """Count an association by what became of it."""
        with self._lock:
            self.associations[outcome] += 1


class Visit:
    """One connection, as :class:`node.dimse.upper.Host` asks for it, in that connection's thread."""

    def __init__(self, rules: Admission, upper: UpperLayer) -> None:
        self._rules, self._upper = rules, upper
        self._arrival = rules.arrivals.connect(upper.cut, upper.address)
        self._account: Account | None = None

    def shown(self, certificate: dict[str, Any] | None) -> None:
        """A TLS handshake is over.

        Raises:
            CrosslightError: whoever showed this may not go on.
        """
        self._rules.check(certificate, self._upper.address)

    def failed(self, error: OSError) -> None:
        """A TLS handshake came to nothing."""
        if isinstance(error, ssl.SSLError) and (why := refused_certificate(error)):
            self._rules.accounts.noted("dimse", why, self._upper.address)

    def asked(self, request: AssociateRequest) -> tuple[AssociateAccept, Association]:
        """May this caller call, and what for?

        Raises:
            AssociationRejected: the association is not to be.
        """
        rules, address = self._rules, self._upper.address
        calling = rules.callers.calling(request.calling, address)
        if not calling.admitted:
            rules.count("refused")
            rules.accounts.deny(calling)
            raise AssociationRejected(CALLING_UNKNOWN)
        if rules.config.require_called_ae_title and request.called != rules.callers.ae_title:
            rules.count("refused")
            raise AssociationRejected(CALLED_UNKNOWN)
        try:
            rules.arrivals.ask(self._arrival, request.calling, address)
        except Busy as error:
            rules.count("busy")
            log.warning("association refused", address=address, reason=error.what)
            raise AssociationRejected(LIMIT_EXCEEDED) from None
        self._account = rules.accounts.open(calling)
        agreed = agree(request, rules.supported, rules.config.max_pdu_bytes, _extended)
        rules.count("accepted")
        return agreed.accept, Association(self._upper, rules.services, agreed.contexts, self._account)

    def ended(self) -> None:
        """The connection, and whatever came of it, is over: its room is free before the outcome is committed.

        A caller that opens an association for each object would take several at a time otherwise.
        """
        self._rules.arrivals.leave(self._arrival)
        if self._account is not None:
            self._account.settle()


def _extended(uid: str, info: bytes) -> bytes | None:
    """What we agree to of what is proposed of a SOP class (PS3.7 D.3.3.5)."""
    return agreed_to(uid, info) if uid in ROOTS else None
