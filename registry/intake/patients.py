"""PatientIntake: the one way of patient feeds to persons; the twin of ``accept.py``.

The order of calls: a face parses a message and says who sent it; here the sender and the authorities of its
ids are checked, the act is audited, the records are committed, and only then the face answers. A member feeds
its own authority and gives national numbers beside it; a system feeds the authorities that it was granted,
the open demo the whole affinity domain. Ids of authorities outside the domain are passed over (ITI TF-2
3.8.4.1.3).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from crosslight.runtime.audit import About, AuditLog
from crosslight.runtime.caller import Caller
from crosslight.runtime.clock import Clock
from crosslight.runtime.log import get_logger
from crosslight.standards.access import Face, Principal, not_granted
from crosslight.standards.dicom.record.record import number_of
from crosslight.standards.hl7.adt import Adt
from crosslight.standards.ids import Identifier, MemberId
from crosslight.standards.national import is_unread_number
from crosslight.standards.problem import Forbidden, Invalid
from crosslight.standards.region import Region
from crosslight.standards.study import Patient
from registry.identity.config import is_named, source_of
from registry.identity.store import IdentityStore
from registry.members.model import Directory

WAITS = "Kept: two national numbers are merged when an identity officer, or a second member, says so too."
log = get_logger("patients")


@dataclass(frozen=True, slots=True)
class _Domain:
    """The part of the affinity domain that one sender may feed."""

    region: Region
    directory: Directory
    principal: Principal

    @property
    def member(self) -> MemberId | None:
        return MemberId(self.principal.member) if self.principal.member is not None else None

    def granted(self, authority: str) -> bool:
        """Whether a sender that is no member may feed this authority."""
        return "open" in self.principal.roles or self.principal.grants.feeds(authority)

    def national(self, authority: str) -> bool:
        return authority in self.region.nationals

    def owner(self, authority: str) -> MemberId | None:
        own = self.directory.by_id(self.member) if self.member is not None else None
        member = own if own is not None and own.owns(authority) else self.directory.by_authority(authority)
        return member.id if member else None

    def local(self, authority: str) -> bool:
        """Whether ids of ``authority`` are records that this sender may feed."""
        if not authority or self.national(authority):
            return False
        owner = self.owner(authority)
        if self.member is not None:
            return owner == self.member
        return (owner is not None or authority == self.region.authority) and self.granted(authority)

    @property
    def links(self) -> bool:
        """Whether this sender may say that two national numbers are one person's."""
        return "open" in self.principal.roles or self.principal.grants.may("link")

    def asks(self, *authorities: str) -> bool:
        """Whether this sender may say, and not decide, that numbers of these are one person's."""
        if self.links:
            return False
        return all(self.national(a) and (self.member is not None or self.granted(a)) for a in authorities)

    def by_number(self, authority: str) -> bool:
        """Whether a national number alone makes a record that this sender may feed."""
        return self.national(authority) and (self.member is not None or self.granted(authority))


class PatientIntake:
    """Takes what a feed says of patients.

    Args:
        store: Where identities are kept.
        audit: The registry's audit.
        directory: The members, for their authorities.
        region: The affinity domain.
        clock: Time.
    """

    def __init__(
        self, store: IdentityStore, audit: AuditLog, directory: Directory, region: Region, clock: Clock
    ) -> None:
        self._store = store
        self._audit = audit
        self._directory = directory
        self._region = region
        self._clock = clock
        # messages with a national number that is none, by organisation; for metrics
        self.unread: Counter[str] = Counter()

    async def accept(self, adt: Adt, caller: Caller, face: Face) -> str:
        """Check, audit and commit one message that came by ``face``; committed when it returns.

        Returns:
            What its sender is to know beside that it was taken; '' where all of it was done.

        Raises:
            Forbidden: if the sender may not feed, or not this authority.
            Invalid: for an id outside the affinity domain, or one merged away.
            NotFound: for an unknown id of a merge.
        """
        principal = caller.principal
        named = [i for i in (*adt.identifiers, *((adt.subsumed,) if adt.subsumed else ())) if i.value]
        self._note_unread(adt, principal)
        about = About(patients=named, query={"event": adt.event})
        async with self._audit.act(
            caller, face, "feed", about, refusal="This sender may not feed patients."
        ) as act:
            domain = _Domain(self._region, self._directory, principal)
            said = ""
            if adt.subsumed is not None:
                said = await self._merge(adt, domain, principal)
            else:
                await self._feed(adt, domain, principal)
            act.done("partial" if said else "ok", fed=1, waits=int(bool(said)))
        return said

    def _note_unread(self, adt: Adt, principal: Principal) -> None:
        """Count a national number that is none.

        It is passed over, and audited as received: PID-3 may hold others.
        """
        region = self._region
        if any(
            is_unread_number(identifier, region.nationals, allow_test=region.allow_test_numbers)
            for identifier in adt.identifiers
        ):
            self.unread[principal.organisation or "-"] += 1
            log.warning("a national number that is none", code=principal.organisation)

    async def _feed(self, adt: Adt, domain: _Domain, principal: Principal) -> None:
        nationals = tuple(i for i in adt.identifiers if domain.national(i.authority))
        locals_ = [i for i in adt.identifiers if i.value and domain.local(i.authority)]
        records = locals_ or [i for i in nationals if i.value and domain.by_number(i.authority)][:1]
        if not records:
            if (known := self._of_the_domain(adt.identifiers)) is not None:
                raise Forbidden(
                    "This sender may not feed that authority.",
                    why=_whose(principal, known.authority),
                    where="PID-3.4",
                )
            raise Invalid(
                "No id is of an authority of this affinity domain.", why="ITI TF-2 3.8.4.1.3", where="PID-3.4"
            )
        for identifier in records:
            target = await self._store.find_cx(identifier)
            if target is not None and target.subsumed:
                raise Invalid(
                    "That id was merged away.", why="ITI TF-2 3.8.4.2: feed the surviving one.", where="PID-3"
                )
        patients = [
            (_narrowed(adt, identifier, nationals), domain.owner(identifier.authority))
            for identifier in records
        ]
        rules = self._store.rules
        await self._store.feed_all(
            patients,
            self._clock.now(),
            kind="feed" if is_named(principal, rules.feeds) else "header",
            who=principal.subject,
            traced=adt.traced if is_named(principal, rules.traced_from) else False,
            erase=adt.erase,
        )

    def _of_the_domain(self, identifiers: Sequence[Identifier]) -> Identifier | None:
        """The first id of an authority that somebody may feed."""
        known = (*self._region.nationals, self._region.authority)
        return next(
            (
                identifier
                for identifier in identifiers
                if identifier.value
                and (identifier.authority in known or self._directory.by_authority(identifier.authority))
            ),
            None,
        )

    async def _merge(self, adt: Adt, domain: _Domain, principal: Principal) -> str:
        assert adt.subsumed is not None  # noqa: S101 - parse_adt gives A40 its MRG-1
        if adt.event == "A40" and domain.asks(adt.survivor.authority, adt.subsumed.authority):
            return await self._asked(adt.survivor, adt.subsumed, principal)
        for identifier, where in ((adt.survivor, "PID-3"), (adt.subsumed, "MRG-1")):
            national = domain.national(identifier.authority)
            if domain.local(identifier.authority):
                continue
            if national and domain.member is None and domain.granted(identifier.authority):
                if domain.links:
                    continue
                raise Forbidden(
                    "This sender may not merge national numbers.",
                    why=not_granted(principal, "link"),
                    todo="Ask an identity officer of the region whether they are one person.",
                    where=where,
                )
            if self._of_the_domain((identifier,)) is not None:
                raise Forbidden(
                    "This sender may not merge that authority's ids.",
                    why=_whose(principal, identifier.authority),
                    where=where,
                )
            raise Invalid(
                "An id of the merge is outside the affinity domain.", why="ITI TF-2 3.8.4.2", where=where
            )
        # a new number: its record is made first
        if adt.event == "A47" and await self._store.find_cx(adt.survivor) is None:
            patient = _narrowed(
                adt, adt.survivor, tuple(i for i in adt.identifiers if domain.national(i.authority))
            )
            owner = domain.owner(adt.survivor.authority)
            await self._store.feed_all(
                [(patient, owner)], self._clock.now(), kind="header", who=principal.subject
            )
        await self._store.merge(
            adt.survivor, adt.subsumed, self._clock.now(), who=f"{principal.subject} {adt.event}"
        )
        return ""

    async def _asked(self, survivor: Identifier, subsumed: Identifier, principal: Principal) -> str:
        """A merge of national numbers by whoever may not link them: it waits."""
        member = MemberId(principal.member) if principal.member is not None else None
        source = f"member:{member}" if member is not None else source_of(principal)
        joined = await self._store.ask_merge(
            survivor, subsumed, self._clock.now(), member=member, source=source, who=principal.subject
        )
        if not joined:
            log.warning("a merge of national numbers waits for a person", code=principal.organisation)
        return "" if joined else WAITS


def _whose(principal: Principal, authority: str) -> str:
    """Why a sender may not feed an authority."""
    if principal.member is not None:
        return "A member feeds and merges its own."
    return not_granted(principal, "feed", authority)


def _narrowed(adt: Adt, local: Identifier, nationals: tuple[Identifier, ...]) -> Patient:
    """The patient under ``local`` with national numbers only.

    Other local numbers never join anything (D3). An outside study keeps the number it came with.
    """
    patient = adt.patient(local)
    original = number_of(patient)[1]
    return replace(
        patient, others=tuple(i for i in (*nationals, *((original,) if original else ())) if i != local)
    )
