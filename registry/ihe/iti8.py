"""ITI-8 Patient Identity Feed over MLLP (ITI TF-2 3.8).

A message is parsed, taken in, and answered AA, or AE and AR with the reason.
What a message does to persons is ``registry.intake.patients``; it is answered when that has committed.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from crosslight.runtime.caller import Caller
from crosslight.runtime.clock import Clock, Ids, dtm
from crosslight.runtime.credentials import principal_of
from crosslight.runtime.log import get_logger
from crosslight.runtime.mllp import Peer
from crosslight.runtime.peers import tls_peer
from crosslight.runtime.refusals import Noted, noted_nowhere
from crosslight.standards.access import OPEN, Principal
from crosslight.standards.hl7.ack import ack_for, render_ack
from crosslight.standards.hl7.adt import NATIONAL_NAMESPACES, MessageHeader, header_of, parse_adt
from crosslight.standards.hl7.message import parse_header, parse_message
from crosslight.standards.ids import MemberId
from crosslight.standards.problem import CrosslightError, Forbidden, OurError, Unauthenticated
from crosslight.standards.region import Region
from registry.intake.patients import PatientIntake
from registry.members.model import Directory

log = get_logger("adt")


def certificate_principal(peer: Peer, directory: Directory) -> Principal:
    """Who a mutual TLS peer is.

    Raises:
        Unauthenticated: without a certificate of this region that holds now.
        Forbidden: for a suspended member.
    """
    shown = tls_peer(peer.certificate)
    directory.check_peer(shown)
    member = directory.by_code(shown.identity.name) if shown.identity.kind == "member" else None
    if member is None:
        return principal_of(shown.identity, grants=directory.system_grants(shown.identity.name))
    return principal_of(shown.identity, name=member.name, number=int(member.id))


class AdtFeed:
    """Takes patient feed messages.

    Args:
        patients: Where they go.
        directory: The members: who sends, and what their authorities are called.
        region: The affinity domain.
        clock: Time.
        ids: For correlation and control ids.
        open_mode: Whether callers without credentials are the principal *open*.
        noted: Told of callers whose certificate does not hold.
    """

    def __init__(
        self,
        patients: PatientIntake,
        directory: Directory,
        region: Region,
        clock: Clock,
        ids: Ids,
        *,
        open_mode: bool = False,
        noted: Noted = noted_nowhere,
    ) -> None:
        self._noted = noted
        self._patients, self._directory, self._region = patients, directory, region
        self._clock, self._ids, self._open = clock, ids, open_mode

    async def handle(self, data: bytes, peer: Peer) -> bytes:
        """Answer one message: the handler of :class:`~crosslight.runtime.mllp.MllpServer`. Never raises."""
        header: MessageHeader | None = None
        problem: CrosslightError | None = None
        text = ""
        try:
            header = header_of(parse_header(data))
            message = parse_message(data)
            caller = self._caller(peer)
            own = self._own_authority(caller.principal)
            adt = parse_adt(message, namespaces=self._namespaces(), default_authority=own)
            text = await self._patients.accept(adt, caller, "hl7")
        except CrosslightError as error:
            problem = error
            level = log.error if isinstance(error, OurError) else log.warning
            level("feed refused", kind=type(error).__name__, reason=error.what, peer=peer.address)
        except Exception:
            log.exception("unexpected", peer=peer.address)
            problem = OurError("Something went wrong here.", todo="Send it again later.")
        return self._answer(problem, header, text)

    def turn_away(self, data: bytes, error: CrosslightError) -> bytes:
        """The answer to a message that is not taken, whoever sent it: AR, to be repeated later."""
        header: MessageHeader | None = None
        with suppress(CrosslightError):
            header = header_of(parse_header(data))
        return self._answer(error, header)

    def _answer(self, problem: CrosslightError | None, header: MessageHeader | None, text: str = "") -> bytes:
        answer = ack_for(problem, header.control_id if header else "")
        if text:
            answer = replace(answer, text=text)
        return render_ack(answer, header, control_id=self._ids.uuid4().hex[:20], time=dtm(self._clock.now()))

    def _caller(self, peer: Peer) -> Caller:
        """Who sent a message: the one maker of the MLLP listener's callers."""
        if self._open and not peer.certificate:
            principal = OPEN
        else:
            try:
                principal = certificate_principal(peer, self._directory)
            except (Unauthenticated, Forbidden) as error:
                self._noted("hl7", error, peer.address)
                raise
        return Caller(principal=principal, correlation=self._ids.uuid4().hex, peer=peer.address)

    def _own_authority(self, principal: Principal) -> str:
        member = self._directory.by_id(MemberId(principal.member)) if principal.member is not None else None
        return member.authority if member else ""

    def _namespaces(self) -> dict[str, str]:
        """Local names of authorities: NHS and CHI where the region has them, members' codes."""
        known = {name: oid for name, oid in NATIONAL_NAMESPACES.items() if oid in self._region.nationals}
        return known | {m.code: m.authority for m in self._directory.all()}
