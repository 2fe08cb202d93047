"""A node's DICOM listener (PS3.4, PS3.8).

The services of ``services/``, for callers that the configuration names.

Nothing here is shared between nodes: as many as you like fit in one process. It runs in threads of pynetdicom
(:mod:`node.dimse.upper` says which); the archive's ``ingest`` is made for that.
"""

from __future__ import annotations

import ssl
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pynetdicom import AE, evt

from crosslight.runtime.clock import Clock
from crosslight.runtime.log import get_logger
from crosslight.runtime.machine_errors import cannot_listen
from crosslight.runtime.tls import server_context
from crosslight.runtime.workers import Workers
from crosslight.standards.dicom.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION
from crosslight.standards.problem import Busy
from node.dimse.accounts import Accounts
from node.dimse.arrivals import Arrivals
from node.dimse.association import Association, DimseService, by_field
from node.dimse.callers import Callers
from node.dimse.config import DimseConfig
from node.dimse.server import Certified, Doorkeeper, NodeServer, agreed_contexts, anybody
from node.dimse.upper import UpperLayer

log = get_logger("dimse")

LOOK_EVERY_S = 5.0
_REJECTED_PERMANENT, _SERVICE_USER, _CALLING_UNKNOWN = 0x01, 0x01, 0x03  # PS3.8 Table 9-21
_NO_LIMIT = 1 << 20
_REJECTED_TRANSIENT, _PRESENTATION, _LOCAL_LIMIT = 0x02, 0x03, 0x02


class DimseListener:
    """Listens, lets callers in, and gives each association its services.

    Args:
        config: The ``[dimse]`` section.
        services: What callers may ask.
        callers: Who may call.
        accounts: Where what they do is noted.
        workers: For stopping without blocking the event loop.
        base: Folder that relative paths of the configuration start from.
        certified: Asked about each certificate that a caller shows, again when its answer may have changed.

    Raises:
        ConfigError: for a configuration that cannot be used.
    """

    def __init__(
        self,
        config: DimseConfig,
        services: Sequence[DimseService],
        callers: Callers,
        accounts: Accounts,
        workers: Workers,
        *,
        base: Path = Path(),
        certified: Certified = anybody,
    ) -> None:
        config.check()
        self._config = config
        self._callers = callers
        self._accounts = accounts
        self._workers, self._certified = workers, certified
        self._services = by_field(services)
        self._sop_classes = [sop_class for service in services for sop_class in service.sop_classes]
        self._tls = self._tls_context(base)
        self._arrivals = Arrivals(config)
        self._server: NodeServer | None = None
        self._lock = threading.Lock()
        #: Associations by outcome, for metrics.
        self.associations: Counter[str] = Counter()

    def _tls_context(self, base: Path) -> ssl.SSLContext | None:
        config = self._config
        if not config.tls_certificate:
            return None
        clients = base / config.tls_client_ca if config.tls_client_ca else None
        return server_context(base / config.tls_certificate, base / config.tls_key, client_ca=clients)

    # --- running --------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Bind and listen.

        Raises:
            ConfigError: when the port cannot be had.
        """
        handlers = [
            (evt.EVT_REQUESTED, self._requested),
            (evt.EVT_ACCEPTED, self._accepted),
            (evt.EVT_REJECTED, self._rejected),
        ]
        address = (self._config.host, self._config.port)
        try:
            self._server = NodeServer(
                self._settings(),
                address,
                self._sop_classes,
                handlers,
                self._ended,
                self._tls,
                Doorkeeper(arrivals=self._arrivals, noted=self._accounts.noted, certified=self._certified),
            )
        except OSError as error:
            raise cannot_listen(error, *address, "dimse.port") from error
        self._server.start()
        log.info("listening", name="dimse", address=address[0], port=self.port, aet=self._callers.ae_title)

    def _settings(self) -> AE:
        config = self._config
        ae = AE(self._callers.ae_title)
        ae.maximum_pdu_size = config.max_pdu_bytes
        ae.maximum_associations = _NO_LIMIT  # Arrivals bounds them, and knows whose they are
        ae.require_called_aet = config.require_called_ae_title
        ae.acse_timeout = config.acse_timeout_s
        ae.dimse_timeout = config.network_timeout_s
        ae.network_timeout = config.network_timeout_s
        ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        ae.implementation_version_name = IMPLEMENTATION_VERSION
        return ae

    @property
    def port(self) -> int:
        """The port that is listened on; 0 when stopped."""
        return int(self._server.server_address[1]) if self._server is not None else 0

    @property
    def objects(self) -> Counter[str]:
        """Objects by outcome, for metrics."""
        return self._accounts.objects

    def look(self) -> int:
        """End the associations of those whose certificates hold no longer; how many."""
        return self._server.look() if self._server is not None else 0

    async def watch(self, clock: Clock) -> None:
        """Look now and then, as certificates end, until cancelled."""
        while True:
            await clock.sleep(LOOK_EVERY_S)
            self.look()

    async def stop(self) -> None:
        """Stop listening, abort what is open, wait for its threads."""
        server, self._server = self._server, None
        if server is not None and not await self._workers.run(server.stop):
            log.warning("an association did not end")

    # --- an association, in its own thread ------------------------------------------------------------------

    def _requested(self, event: Any) -> None:
        """An association request: may this caller call?"""
        upper: UpperLayer = event.assoc
        calling = self._callers.calling(*upper.calling)
        if not calling.admitted:
            self._count("refused")
            self._accounts.deny(calling)
            upper.acse.send_reject(_REJECTED_PERMANENT, _SERVICE_USER, _CALLING_UNKNOWN)
            upper.kill()
            return
        try:
            self._arrivals.ask(upper.arrival, *upper.calling)
        except Busy as error:
            self._count("busy")
            log.warning("association refused", address=upper.address, reason=error.what)
            upper.acse.send_reject(_REJECTED_TRANSIENT, _PRESENTATION, _LOCAL_LIMIT)
            upper.kill()
            return
        upper.account = self._accounts.open(calling)

    def _accepted(self, event: Any) -> None:
        upper: UpperLayer = event.assoc
        if upper.account is not None:
            upper.carry(Association(upper, self._services, agreed_contexts(upper), upper.account))
        self._count("accepted")

    def _rejected(self, event: Any) -> None:
        self._count("refused")

    def _ended(self, upper: UpperLayer) -> None:
        if upper.account is not None:
            upper.account.settle()

    def _count(self, outcome: str) -> None:
        with self._lock:
            self.associations[outcome] += 1
