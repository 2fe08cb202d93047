"""Answering: what a question finds, in one reading transaction: persons, policy, rows, disputes (D2, D3,
D20).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

from crosslight.runtime.db import Tx
from crosslight.standards.access import Face, Principal
from crosslight.standards.ids import MemberId, hash8
from crosslight.standards.problem import Invalid
from crosslight.standards.region import Region
from registry.ask.absence import accession_naming
from registry.ask.filter import matches, window
from registry.ask.naming import Naming
from registry.ask.persons import MAX_NAMES, MAX_PERSONS, Owners, Persons
from registry.ask.policy import Policy, doubtful_members
from registry.ask.population_pages import OF_PATIENT, Scan, cursor_of, cursor_text, kind_of, place_of
from registry.ask.question import (
    MANY,
    ByObject,
    ByPatient,
    ByPopulation,
    DirectoryQuestion,
    Patients,
    Question,
    StudyFilter,
)
from registry.ask.results import Found, audited, current_names, has_accession, newest_first
from registry.identity.header import doubt
from registry.identity.model import Person, PersonKey, RecordKey
from registry.identity.store import IdentityStore
from registry.index.conflicts import in_conflict
from registry.index.model import Holding, PastVersion, XdsObject
from registry.index.population_window import Window
from registry.index.rows import DEPRECATED, Loaded
from registry.index.store import IndexStore
from registry.members.model import Directory

MAX_PAGE = 1000  # holdings of one page
ANY = StudyFilter()


class Answering:
    """Answers one question for one principal.

    Args:
        tx: A reading transaction.
        index, identity: Stores in it.
        directory: Members.
        region: Whose numbers count.
        principal: Who asks.
        face: Through which face.
    """

    def __init__(
        self,
        tx: Tx,
        index: IndexStore,
        identity: IdentityStore,
        directory: Directory,
        region: Region,
        principal: Principal,
        face: Face,
    ) -> None:
        self._tx = tx
        self._index = index
        self._identity = identity
        self._directory = directory
        self._region = region
        self._policy = Policy(directory, principal, face)
        self._persons = Persons(tx, identity, directory, region, self._policy)

    def answer(self, question: Question) -> Found:
        """What it finds.

        Raises:
            Invalid: a selector that names nobody, a cursor that is none of ours, too many ids.
        """
        match question:
            case ByPatient():
                return self._by_patient(question)
            case ByObject():
                return self._by_object(question)
            case ByPopulation():
                return self._by_population(question)
            case Patients():
                return self._patients(question)
            case DirectoryQuestion():
                return Found()

    # --- by patient -----------------------------------------------------------------------------------------

    def _by_patient(self, question: ByPatient) -> Found:
        persons, found = self._persons.select(question.patient, MAX_PERSONS)
        shown = {record.key for person in persons for record in person.records}
        keys = {record.part_of or record.key for person in persons for record in person.records}
        # then only headers say whose studies are
        divided = any(r.parts or r.part_of for p in persons for r in p.records)
        if (
            not divided
            and not question.versions
            and len(keys) <= MAX_PERSONS
            and (question.limit or question.filter != ANY)
        ):
            held = self._index.read.held(self._tx, keys)
            if question.cursor or len(held) > MANY or question.filter.study_uids:
                return self._of_many(question, persons, found, held)
        loaded = self._index.read.by_records(self._tx, keys, deprecated=question.versions)
        owners = self._persons.owners((one.holding for one in loaded), persons)
        loaded = [one for one in owners.own(loaded) if one.holding.whose in shown]
        holdings = [h for h in self._marked(loaded, owners) if matches(question.filter, h, self._code)]
        current = {one.row.study_hash for one in loaded if not one.row.flags & DEPRECATED}
        unread = self._index.objects.imaging.unread(self._tx, shown, current) if shown else 0
        if question.versions:
            holdings = self._of_one_person(self._with_past(loaded, holdings), owners)
        objects = self._index.objects.by_records(self._tx, shown) if question.versions and shown else []
        found = replace(
            found, holdings=tuple(newest_first(holdings)), persons=tuple(persons), objects=tuple(objects)
        )
        return replace(found, unread=unread)

    def _of_many(self, question: ByPatient, persons: list[Person], found: Found, held: list[int]) -> Found:
        """Some of very many studies of persons whose records have no parts; ``held``: hashes of them all."""
        keys = sorted({record.key for person in persons for record in person.records})
        unread = self._index.objects.imaging.unread(self._tx, keys, held) if keys else 0
        found = replace(found, persons=tuple(persons), unread=unread)
        if question.filter != ANY:
            return replace(found, holdings=tuple(self._narrowed(question.filter, keys, persons)))
        if question.offset is None:
            return self._page_of(question, keys, found, len(held))
        if len(persons) > 1:  # a study of two of them is two
            loaded = self._index.read.by_records(self._tx, keys, deprecated=False)
            return replace(
                found, holdings=tuple(newest_first(self._marked(loaded, self._owners_of(loaded, persons))))
            )
        return self._page_of_studies(question, keys, found, len(set(held)))

    def _narrowed(self, narrow: StudyFilter, keys: list[RecordKey], persons: list[Person]) -> list[Holding]:
        """What a filter finds of them: the index rules out what it can, the filter decides."""
        bounds = window(narrow, "started", 1, self._id)
        studies = [hash8(uid) for uid in narrow.study_uids]
        loaded = self._index.read.some_of(self._tx, keys, bounds, studies) if bounds is not None else []
        holdings = self._marked(loaded, self._owners_of(loaded, persons))
        return newest_first(h for h in holdings if matches(narrow, h, self._code))

    def _owners_of(self, loaded: Iterable[Loaded], persons: list[Person]) -> Owners:
        return self._persons.owners((one.holding for one in loaded), persons)

    def _page_of(self, question: ByPatient, keys: list[RecordKey], found: Found, total: int) -> Found:
        limit = max(1, min(question.limit, MAX_PAGE))
        loaded = (
            self._index.read.newest(self._tx, keys, cursor_of(question.cursor, OF_PATIENT), limit + 1)
            if keys
            else []
        )
        page = loaded[:limit]
        holdings = tuple(self._marked(page, self._owners_of(page, list(found.persons))))
        cursor = cursor_text(place_of(page[-1], "started"), OF_PATIENT) if len(loaded) > limit else ""
        return replace(found, holdings=holdings, cursor=cursor, total=total)

    def _page_of_studies(self, question: ByPatient, keys: list[RecordKey], found: Found, total: int) -> Found:
        read = self._index.read
        studies = read.newest_studies(self._tx, keys, question.offset or 0, question.limit)
        loaded = read.some_of(self._tx, keys, Window(), studies) if studies else []
        holdings = newest_first(self._marked(loaded, self._owners_of(loaded, list(found.persons))))
        place = {study: n for n, study in enumerate(studies)}
        return replace(
            found, holdings=tuple(sorted(holdings, key=lambda h: place[hash8(h.study_uid)])), total=total
        )

    def _marked(self, loaded: list[Loaded], owners: Owners) -> list[Holding]:
        """Holdings, those in conflict marked (D1)."""

        def persons(rows: Collection[Loaded]) -> dict[tuple[int, int, int], int]:
            whose = self._persons.owners((one.holding for one in rows), owners.persons.values())
            return {one.row.key: int(whose.person(one.holding).key) for one in rows}

        conflicts = in_conflict(self._index.read, self._tx, loaded, persons) if loaded else set()
        return [
            replace(one.holding, conflict=True) if one.row.key in conflicts else one.holding for one in loaded
        ]

    def _with_past(self, loaded: list[Loaded], holdings: list[Holding]) -> list[Holding]:
        wanted = {(h.record_key, h.study_uid, h.member) for h in holdings}
        some = [
            one
            for one in loaded
            if (one.holding.record_key, one.holding.study_uid, one.holding.member) in wanted
        ]
        whole = {(h.record_key, h.study_uid, h.member): h for h in self._index.read.with_past(self._tx, some)}
        return [replace(whole[h.record_key, h.study_uid, h.member], conflict=h.conflict) for h in holdings]

    def _of_one_person(self, holdings: Iterable[Holding], owners: Owners) -> list[Holding]:
        """Without past versions that describe somebody else: a header that was corrected named another person
        (ADR 0016).
        """
        records = owners.records

        def alike(holding: Holding, version: PastVersion) -> bool:
            header = self._identity.header
            return not doubt(
                header(version.publication.record.patient), header(holding.publication.record.patient)
            )

        return [
            (
                replace(h, past=tuple(v for v in h.past if alike(h, v)))
                if h.past and self._policy.withholds_past(records[h.whose])
                else h
            )
            for h in holdings
        ]

    def _patients(self, question: Patients) -> Found:
        persons, found = self._persons.select(question.patient, max(1, min(question.limit, MAX_PERSONS)))
        return replace(found, persons=tuple(persons))

    # --- by object ------------------------------------------------------------------------------------------

    def _by_object(self, question: ByObject) -> Found:
        asked = (
            question.fhir_ids,
            question.study_uids,
            question.accessions,
            question.entry_uuids,
            question.unique_ids,
        )
        if sum(len(names) for names in asked) > MAX_NAMES:
            raise Invalid("Too many ids at once.", why=f"Limit here: {MAX_NAMES}.")
        read, tx = self._index.read, self._tx
        loaded = (
            {one.row.key: one for one in read.by_fhir_ids(tx, question.fhir_ids)} if question.fhir_ids else {}
        )
        if question.study_uids:
            loaded |= {one.row.key: one for one in read.by_studies(tx, question.study_uids)}
        certain, whom = set(loaded), Naming()
        if question.accessions:
            found = read.by_accessions(tx, {a.value for a in question.accessions})
            numbers = {a for one in found for a in one.holding.record.accessions}
            whom = accession_naming(
                question.accessions,
                numbers,
                self._region,
                self._directory,
                lambda oid: read.issues_accessions(tx, oid),
            )
            loaded |= {one.row.key: one for one in found if has_accession(one.holding, question.accessions)}
        gone = self._gone(question, loaded.values())
        kept = [one for one in loaded.values() if question.versions or not one.row.flags & DEPRECATED]
        owners = self._persons.owners(one.holding for one in kept)
        # An accession number is easily guessed, a UID is not.
        kept = self._policy.rows(
            owners.own(kept), owners.records, named={loaded[key].holding.fhir_id for key in certain}
        )
        holdings = self._marked(kept, owners)
        if question.versions:
            holdings = self._with_past(kept, holdings)
        named = self._named(question, {(h.record_key, h.study_uid, h.member) for h in holdings})
        more = self._persons.owners(named, owners.persons.values())
        holdings += self._policy.holdings(
            (more.owned(h) for h in named), more.records, named={h.fhir_id for h in named}
        )
        holdings = self._of_one_person(holdings, more)
        objects = self._objects(question)
        persons = self._policy.shown({more.person(h).key: more.person(h) for h in holdings}.values())
        persons += [
            p for p in self._persons.of_objects(objects) if p.key not in {shown.key for shown in persons}
        ]
        return Found(
            holdings=tuple(newest_first(holdings)),
            persons=tuple(persons),
            objects=tuple(objects),
            gone=gone,
            doubts=doubtful_members(persons),
            unread=0 if holdings else self._of_no_study(),
            patients=audited((), persons),
            naming=whom,
        )

    def _gone(self, question: ByObject, loaded: Iterable[Loaded]) -> tuple[str, ...]:
        """Ids that named something once: withdrawn, moved, or deprecated and held by nobody else (FHIR
        410)."""
        alive = [one for one in loaded if not one.row.flags & DEPRECATED]
        dead = [one for one in loaded if one.row.flags & DEPRECATED]
        gone = self._index.read.gone(self._tx, question.fhir_ids) if question.fhir_ids else set()
        gone |= {one.holding.fhir_id for one in dead} & set(question.fhir_ids)
        gone |= ({one.holding.study_uid for one in dead} - {one.holding.study_uid for one in alive}) & set(
            question.study_uids
        )
        return tuple(sorted(gone - {one.holding.fhir_id for one in alive}))

    def _named(self, question: ByObject, have: set[tuple[RecordKey, str, MemberId]]) -> list[Holding]:
        """Holdings that an XDS name leads to; without versions only where it names the current one."""
        names = {*question.entry_uuids, *question.unique_ids}
        found = self._index.read.by_names(self._tx, names) if names else []
        found = [h for h in found if (h.record_key, h.study_uid, h.member) not in have]
        if question.versions:
            return found
        current = [replace(h, past=()) for h in found if h.state == "approved"]
        return [h for h in current if names & current_names(h)]

    def _objects(self, question: ByObject) -> list[XdsObject]:
        """Stored objects of these names, associations that touch them, and what is at those associations'
        other ends.
        """
        objects, tx = self._index.objects, self._tx
        found: dict[str, XdsObject] = {}
        if question.unique_ids:
            found |= {o.entry_uuid: o for o in objects.by_unique_ids(tx, question.unique_ids)}
        uuids = {*question.entry_uuids, *found}
        if not uuids:
            return []
        found |= (
            {o.entry_uuid: o for o in objects.by_uuids(tx, question.entry_uuids)}
            if question.entry_uuids
            else {}
        )
        linking = objects.linking(tx, uuids)
        found |= {o.entry_uuid: o for o in linking}
        ends = {end for o in linking for end in o.links} - found.keys()
        found |= {o.entry_uuid: o for o in objects.by_uuids(tx, ends)} if ends else {}
        return list(found.values())

    # --- by population --------------------------------------------------------------------------------------

    def _by_population(self, question: ByPopulation) -> Found:
        limit = max(1, min(question.limit, MAX_PAGE))
        page = window(question.filter, question.order, min(limit + 1, MAX_PAGE), self._id, question.ascending)
        if page is None:
            return Found()
        seen: dict[PersonKey, Person] = {}
        kept, scan = list[Loaded](), Scan(page, cursor_of(question.cursor, kind_of(question)))
        while scan.more and len(kept) <= limit and not scan.enough:
            rows = scan.rows(self._index.read, self._tx)
            owners = self._persons.owners((one.holding for one in rows), seen.values())
            seen |= {person.key: person for person in owners.persons.values()}
            allowed = self._policy.rows(owners.own(rows), owners.records)
            kept += [one for one in allowed if matches(question.filter, one.holding, self._code)]
        after, more = scan.place, scan.more
        if len(kept) > limit:
            kept, more = kept[:limit], True
            after = place_of(kept[-1], question.order)
        owners = self._persons.owners((one.holding for one in kept), seen.values())
        holdings = self._marked(kept, owners)
        persons = self._policy.shown({owners.person(h).key: owners.person(h) for h in holdings}.values())
        cursor = cursor_text(after, kind_of(question)) if more and after is not None else ""
        unread = 0 if holdings or cursor else self._of_no_study()
        return Found(
            holdings=tuple(holdings),
            persons=tuple(persons),
            cursor=cursor,
            unread=unread,
            patients=audited((), persons),
        )

    def _of_no_study(self) -> int:
        """Documents of which nobody knows the study: any of them may be of what was asked for and not
        found."""
        return self._index.objects.imaging.of_no_study(self._tx)

    # --- members --------------------------------------------------------------------------------------------

    def _code(self, member: MemberId) -> str:
        found = self._directory.by_id(member)
        return found.code if found is not None else ""

    def _id(self, code: str) -> MemberId | None:
        found = self._directory.by_code(code)
        return found.id if found is not None else None
