"""Policy: which patient records and which of their studies a caller may see (D3).

Pure, run on rows; no face and no SQL here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from crosslight.standards.access import Face, Principal
from crosslight.standards.ids import MemberId
from registry.identity.model import (
    DisputedNotice,
    PatientRecord,
    PatientSelector,
    Person,
    PersonKey,
    RecordKey,
)
from registry.index.model import Holding, XdsObject
from registry.index.rows import Loaded
from registry.members.model import KnownMembers

#: Faces that can show two persons apart. On the others a number leads to one person and no other.
TELLS_APART = frozenset({"portal", "fhir"})


def _nobody() -> Collection[PersonKey]:
    return ()


@dataclass(frozen=True, slots=True)
class Policy:
    """What one caller may see through one face.

    Args:
        directory: Members, for whose records are whose.
        principal: Who asks.
        face: Through which face.
        opened: The persons of disputed identity that were shown to who asks, a while ago at most, under the
            number of their own holder (ADR 0037); looked up only where one is asked for.
    """

    directory: KnownMembers
    principal: Principal
    face: Face
    opened: Callable[[], Collection[PersonKey]] = _nobody

    @property
    def tells_apart(self) -> bool:
        """Whether the face can show two persons apart."""
        return self.face in TELLS_APART

    @property
    def follows_merges(self) -> bool:
        """Whether an id that was merged away (A40) still names its person.

        Not on XDS: such an id answers a stored query with nothing (ITI TF-2 3.18.4.1.2.3.9.1).
        """
        return self.face != "xds"

    def belongs(self, record: PatientRecord) -> bool:
        """Whether the caller sees a disputed record beside others.

        Its member's own users and the identity role do. The open demo does not: it shows what a
        clinician sees.
        """
        if "identity" in self.principal.roles:
            return True
        member = self.directory.by_id(record.member) if record.member is not None else None
        return member is not None and self.principal.organisation == member.code

    def sees(self, person: Person, selector: PatientSelector) -> bool:
        """Whether the caller may see ``person``, whom ``selector`` named.

        A person of disputed records alone is shown to those whom they belong to, and under their own number;
        then, for a while, by their id.
        """
        if not all_disputed(person) or self.names(person, selector):
            return True
        if all(self.belongs(record) for record in person.records):
            return True
        return bool(selector.fhir_id) and selector.fhir_id == person.fhir_id and person.key in self.opened()

    def names(self, person: Person, selector: PatientSelector) -> bool:
        """Whether ``selector`` names this very person: by a local number, or by the page's sealed address.

        That address was made for this caller, who had searched by such a number (ADR 0011).
        """
        sealed = self.face == "portal" and bool(selector.fhir_id) and selector.fhir_id == person.fhir_id
        return sealed or names_own(person, selector)

    def opens(self, persons: Iterable[Person], selector: PatientSelector) -> frozenset[PersonKey]:
        """Those of ``persons`` with disputed records of others that this question shows: what opens them."""
        return frozenset(
            person.key
            for person in persons
            if any(record.disputed and not self.belongs(record) for record in person.records)
            and self.names(person, selector)
        )

    def shown(self, persons: Iterable[Person]) -> list[Person]:
        """``persons`` as the caller may see them: without records of others that are in doubt."""
        visible = []
        for person in persons:
            records = tuple(
                record for record in person.records if not record.in_doubt or self.belongs(record)
            )
            if records:
                whole = len(records) == len(person.records)
                visible.append(person if whole else replace(person, records=records))
        return visible

    def beside(self, records: Iterable[PatientRecord]) -> list[PatientRecord]:
        """Those of these disputed records that the caller sees beside the person asked for."""
        return [r for r in records if self.tells_apart and self.belongs(r)]

    def notices(
        self,
        records: Iterable[PatientRecord],
        under: Collection[RecordKey] = (),
        beside: Collection[RecordKey] = (),
    ) -> tuple[DisputedNotice, ...]:
        """All that may be said of these records to anybody: that there is one, and at which member.

        Args:
            records: Those that are not the person's who was asked for.
            under: Those of them that claim no number of whom was asked for, and are in doubt under their
                local number.
            beside: Those of them that this caller is shown as persons of their own.
        """
        by_member: dict[MemberId, DisputedNotice] = {}
        for record in records:
            member = self.directory.by_id(record.member) if record.member is not None else None
            if member is not None:
                before = by_member.get(member.id)
                claims = record.key not in under or (before is not None and before.claims)
                shown = record.key in beside and (before is None or before.shown)
                by_member[member.id] = DisputedNotice(
                    member=member.id,
                    member_code=member.code,
                    member_name=member.name,
                    claims=claims,
                    shown=shown,
                )
        return tuple(sorted(by_member.values(), key=lambda notice: notice.member_code))

    def withholds_past(self, record: PatientRecord) -> bool:
        """Whether past versions of its studies may describe somebody whom the caller did not ask for.

        A local id that was given to two people has them, where a study's header was corrected from the one to
        the other.
        """
        return bool(record.parts or record.part_of is not None) and not self.belongs(record)

    def rows(
        self,
        rows: Collection[Loaded],
        records: Mapping[RecordKey, PatientRecord],
        *,
        named: Collection[str] = (),
    ) -> list[Loaded]:
        """Those of ``rows`` that may be shown where what was asked could be guessed.

        None of another's disputed records is.

        Args:
            rows: Holdings.
            records: The patient records that they are under.
            named: FHIR ids of holdings that were asked for by a name of their own.
        """
        kept = {h.fhir_id for h in self.holdings((loaded.holding for loaded in rows), records, named=named)}
        return [loaded for loaded in rows if loaded.holding.fhir_id in kept]

    def holdings(
        self,
        holdings: Iterable[Holding],
        records: Mapping[RecordKey, PatientRecord],
        *,
        named: Collection[str] = (),
    ) -> list[Holding]:
        """As :meth:`rows`.

        By its own name a disputed one is for whom it was shown to under its holder's number, a while ago at
        most; what is in doubt is not.
        """
        theirs = self.withheld(records.values())
        candidates = list(holdings)
        by_name = [h for h in candidates if h.whose in theirs and h.fhir_id in named]
        opened = self.opened() if by_name else ()
        shown = {h.whose for h in by_name if records[h.whose].person in opened}
        shown -= {key for key in shown if records[key].in_doubt}
        return [h for h in candidates if h.whose not in theirs or (h.whose in shown and h.fhir_id in named)]

    def objects(
        self, objects: Iterable[XdsObject], records: Mapping[RecordKey, PatientRecord]
    ) -> list[XdsObject]:
        """As :meth:`holdings`, of stored objects that were asked for by their own names."""
        theirs = self.withheld(records.values())
        opened = self.opened() if theirs else ()
        return [
            o
            for o in objects
            if o.record_key not in theirs
            or (not records[o.record_key].in_doubt and records[o.record_key].person in opened)
        ]

    def withheld(self, records: Iterable[PatientRecord]) -> set[RecordKey]:
        """Those of these records that are disputed or in doubt, and not the caller's."""
        return {r.key for r in records if (r.disputed or r.in_doubt) and not self.belongs(r)}


def all_disputed(person: Person) -> bool:
    """Whether nothing of this person is beyond doubt."""
    return bool(person.records) and all(record.disputed for record in person.records)


def names_own(person: Person, selector: PatientSelector) -> bool:
    """Whether ``selector`` gives a local number, or the minted id, of this person."""
    own = {(r.patient.local.authority, r.patient.local.value) for r in person.records}
    own.add((person.domain_id.authority, person.domain_id.value))
    values = {value for _, value in own}
    return any(
        (i.authority, i.value) in own or (not i.authority and i.value in values) for i in selector.identifiers
    )


def doubtful_members(
    persons: Iterable[Person], notices: Iterable[DisputedNotice] = ()
) -> frozenset[MemberId]:
    """Members where the identity of who was asked for is in doubt (D19)."""
    shown = {
        r.member for p in persons for r in p.records if (r.disputed or r.in_doubt) and r.member is not None
    }
    return frozenset(shown | {notice.member for notice in notices})
