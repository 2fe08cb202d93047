"""AdtFeed: patient feeds (ITI-8) into identity; the twin of ``intake/accept.py``.

Each message is parsed, its sender and its authorities checked, audited, committed, and only then answered AA. A member's
certificate feeds its own authority and gives national numbers beside it; systems and the open demo feed the whole affinity
domain. Ids of authorities outside the domain are passed over (ITI TF-2 3.8.4.1.3).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

from crosslight.runtime.audit import About, AuditLog
from crosslight.runtime.caller import Caller
from crosslight.runtime.clock import Clock, Ids, dtm
from crosslight.runtime.credentials import principal_of
from crosslight.runtime.log import get_logger
from crosslight.runtime.mllp import Peer
from crosslight.runtime.tls import expires_at, peer_identity
from crosslight.standards.access import OPEN, Principal
from crosslight.standards.dicom.record.record import number_of
from crosslight.standards.hl7.ack import ack_for, render_ack
from crosslight.standards.hl7.adt import NATIONAL_NAMESPACES, Adt, MessageHeader, header_of, parse_adt
from crosslight.standards.hl7.message import parse_header, parse_message
from crosslight.standards.ids import Identifier, MemberId
from crosslight.standards.national import is_unread_number
from crosslight.standards.problem import CrosslightError, Forbidden, Invalid, OurError, Unauthenticated
from crosslight.standards.region import Region
from crosslight.standards.study import Patient
from registry.identity.config import is_named
from registry.identity.store import IdentityStore
from registry.members.model import Directory

log = get_logger("adt")


def certificate_principal(peer: Peer, directory: Directory, region: Region, clock: Clock) -> Principal:
    """Who a mutual TLS peer is.

    Raises:
        Unauthenticated: without a certificate of this region that holds now.
        Forbidden: for a member that is not active.
    """
    identity = peer_identity(peer.certificate)
    if identity.community != region.home_community_id or peer.certificate is None or expires_at(peer.certificate) < clock.now():
        raise Unauthenticated("The client certificate is not of this region, or has ended.", todo="Renew it, or join again.")
    if identity.kind != "member":
        return principal_of(identity)
    member = directory.by_code(identity.name)
    if member is None or member.status != "active":
        raise Forbidden("This member is not active.", todo="Ask the region's operator.")
    return principal_of(identity, name=member.name, number=int(member.id))


@dataclass(frozen=True, slots=True)
class _Domain:
    """The part of the affinity domain that one sender may feed."""

    region: Region
    directory: Directory
    member: MemberId | None  # None: all of it

    def national(self, authority: str) -> bool:
        return authority in self.region.nationals

    def owner(self, authority: str) -> MemberId | None:
        own = self.directory.by_id(self.member) if self.member is not None else None
        found = own if own is not None and own.owns(authority) else self.directory.by_authority(authority)
        return found.id if found else None

    def local(self, authority: str) -> bool:
        """Whether ids of ``authority`` are records that this sender may feed."""
        if not authority or self.national(authority):
            return False
        owner = self.owner(authority)
        if self.member is not None:
            return owner == self.member
        return owner is not None or authority == self.region.authority


class AdtFeed:
    """Takes patient feed messages.

    Args:
        store: Where identities are kept.
        audit: The registry's audit.
        directory: The members, for their authorities.
        region: The affinity domain.
        clock: Time.
        ids: For correlation and control ids.
        open_mode: Whether callers without credentials are the principal *open*.
    """

    def __init__(
        self,
        store: IdentityStore,
        audit: AuditLog,
        directory: Directory,
        region: Region,
        clock: Clock,
        ids: Ids,
        *,
        open_mode: bool = False,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._store, self._audit, self._directory, self._region = store, audit, directory, region
        self._clock, self._ids, self._open, self._changed = clock, ids, open_mode, changed
        self.unread: Counter[str] = Counter()  # messages with a national number that is none, by organisation; for metrics

    async def handle(self, data: bytes, peer: Peer) -> bytes:
        """Answer one message: the handler of :class:`~crosslight.runtime.mllp.MllpServer`. Never raises."""
        header: MessageHeader | None = None
        problem: CrosslightError | None = None
        try:
            header = header_of(parse_header(data))
            message = parse_message(data)
            caller = self._caller(peer)
            own = self._own_authority(caller.principal)
            await self.accept(parse_adt(message, namespaces=self._namespaces(), default_authority=own), caller)
        except CrosslightError as error:
            problem = error
            level = log.error if isinstance(error, OurError) else log.warning
            level("feed refused", kind=type(error).__name__, reason=error.what, peer=peer.address)
        except Exception:
            log.exception("unexpected", peer=peer.address)
            problem = OurError("Something went wrong here.", todo="Send it again later.")
        answer = ack_for(problem, header.control_id if header else "")
        return render_ack(answer, header, control_id=self._ids.uuid4().hex[:20], time=dtm(self._clock.now()))

    async def accept(self, adt: Adt, caller: Caller) -> None:
        """Check, audit and commit one message; committed when it returns.

        Raises:
            Forbidden: if the sender may not feed, or not this authority.
            Invalid: for an id outside the affinity domain, or one merged away.
            NotFound: for an unknown id of a merge.
        """
        principal = caller.principal
        named = [i for i in (*adt.identifiers, *((adt.subsumed,) if adt.subsumed else ())) if i.value]
        self._note_unread(adt, principal)
        about = About(patients=named, query={"event": adt.event})
        async with self._audit.act(caller, "hl7", "feed", about, refusal="This sender may not feed patients.") as act:
            domain = _Domain(self._region, self._directory, MemberId(principal.member) if principal.member is not None else None)
            if adt.subsumed is not None:
                await self._merge(adt, domain, principal)
            else:
                await self._feed(adt, domain, principal)
            act.done(fed=1)
        self._changed()

    def _note_unread(self, adt: Adt, principal: Principal) -> None:
        """A national number that is none is passed over, audited as received, and counted: PID-3 may hold others."""
        region = self._region
        if any(is_unread_number(one, region.nationals, allow_test=region.allow_test_numbers) for one in adt.identifiers):
            self.unread[principal.organisation or "-"] += 1
            log.warning("a national number that is none", code=principal.organisation)

    async def _feed(self, adt: Adt, domain: _Domain, principal: Principal) -> None:
        nationals = tuple(i for i in adt.identifiers if domain.national(i.authority))
        locals_ = [i for i in adt.identifiers if i.value and domain.local(i.authority)]
        records = locals_ or [i for i in nationals if i.value][:1]
        if not records:
            if any(i.value and self._directory.by_authority(i.authority) for i in adt.identifiers):
                raise Forbidden("This sender may not feed that authority.", why="A member feeds its own.", where="PID-3.4")
            raise Invalid("No id is of an authority of this affinity domain.", why="ITI TF-2 3.8.4.1.3", where="PID-3.4")
        for identifier in records:
            found = await self._store.find_cx(identifier)
            if found is not None and found.subsumed:
                raise Invalid("That id was merged away.", why="ITI TF-2 3.8.4.2: feed the surviving one.", where="PID-3")
        patients = [(_narrowed(adt, identifier, nationals), domain.owner(identifier.authority)) for identifier in records]
        rules = self._store.rules
        await self._store.feed_all(
            patients,
            self._clock.now(),
            kind="feed" if is_named(principal, rules.feeds) else "header",
            who=principal.subject,
            traced=adt.traced if is_named(principal, rules.traced_from) else False,
            erase=adt.erase,
        )

    async def _merge(self, adt: Adt, domain: _Domain, principal: Principal) -> None:
        assert adt.subsumed is not None  # noqa: S101 - parse_adt gives A40 its MRG-1
        for identifier, where in ((adt.survivor, "PID-3"), (adt.subsumed, "MRG-1")):
            national = domain.national(identifier.authority)
            if domain.local(identifier.authority) or (national and domain.member is None):
                continue
            if national or self._directory.by_authority(identifier.authority):
                raise Forbidden("This sender may not merge that authority's ids.", why="A member merges its own.", where=where)
            raise Invalid("An id of the merge is outside the affinity domain.", why="ITI TF-2 3.8.4.2", where=where)
        if adt.event == "A47" and await self._store.find_cx(adt.survivor) is None:  # a new number: its record is made first
            patient = _narrowed(adt, adt.survivor, tuple(i for i in adt.identifiers if domain.national(i.authority)))
            owner = domain.owner(adt.survivor.authority)
            await self._store.feed_all([(patient, owner)], self._clock.now(), kind="header", who=principal.subject)
        await self._store.merge(adt.survivor, adt.subsumed, self._clock.now(), who=f"{principal.subject} {adt.event}")

    def _caller(self, peer: Peer) -> Caller:
        """Who sent a message: the one maker of the MLLP listener's callers."""
        if self._open and not peer.certificate:
            principal = OPEN
        else:
            principal = certificate_principal(peer, self._directory, self._region, self._clock)
        return Caller(principal=principal, correlation=self._ids.uuid4().hex, peer=peer.address)

    def _own_authority(self, principal: Principal) -> str:
        member = self._directory.by_id(MemberId(principal.member)) if principal.member is not None else None
        return member.authority if member else ""

    def _namespaces(self) -> dict[str, str]:
        """Local names of authorities: NHS and CHI where the region has them, members' codes."""
        known = {name: oid for name, oid in NATIONAL_NAMESPACES.items() if oid in self._region.nationals}
        return known | {m.code: m.authority for m in self._directory.all()}


def _narrowed(adt: Adt, local: Identifier, nationals: tuple[Identifier, ...]) -> Patient:
    """The patient under ``local`` with national numbers only: other local numbers never join anything (D3). An outside study
    keeps the number it came with."""
    patient = adt.patient(local)
    original = number_of(patient)[1]
    return replace(patient, others=tuple(i for i in (*nationals, *((original,) if original else ())) if i != local))
