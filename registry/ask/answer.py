"""What a question finds, in one reading transaction: persons, policy, rows, disputes (D2, D3, D20)."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

from crosslight.runtime.db import Tx
from crosslight.standards.ids import MemberId, hash8
from crosslight.standards.problem import Invalid
from crosslight.standards.records import changed
from crosslight.standards.region import Region
from registry.ask.absence import accession_naming
from registry.ask.filter import matches, window
from registry.ask.naming import Naming
from registry.ask.persons import MAX_NAMES, MAX_PERSONS, Owners, Persons
from registry.ask.policy import Policy, doubtful_members
from registry.ask.population_pages import OF_PATIENT, Scan, cursor_of, cursor_text, kind_of, place_of
from registry.ask.question import (
    ANY,
    MANY,
    ByObject,
    ByPatient,
    ByPopulation,
    DirectoryQuestion,
    Patients,
    Question,
    StudyFilter,
)
from registry.ask.results import QuestionResult, audited, current_names, has_accession, newest_first
from registry.identity.header import doubt
from registry.identity.model import Person, PersonKey, RecordKey
from registry.identity.store import IdentityStore
from registry.index.conflicts import in_conflict
from registry.index.model import Holding, PastVersion, XdsObject
from registry.index.population_window import Window
from registry.index.rows import DEPRECATED, Loaded, RowKey
from registry.index.store import IndexStore
from registry.members.model import KnownMembers
from registry.members.standing import is_foreign

MAX_PAGE = 1000  # holdings of one page


class Answering:
    """Answers one question for one caller.

    Args:
        tx: A reading transaction.
        index, identity: Stores in it.
        directory: Members.
        region: Whose numbers count.
        policy: What its caller may see.
    """

    def __init__(
        self,
        tx: Tx,
        index: IndexStore,
        identity: IdentityStore,
        directory: KnownMembers,
        region: Region,
        policy: Policy,
    ) -> None:
        self._tx = tx
        self._index = index
        self._identity = identity
        self._directory = directory
        self._region = region
        self._policy = policy
        self._persons = Persons(tx, identity, directory, region, policy)

    def answer(self, question: Question) -> QuestionResult:
        """What the question finds, as its caller may see it.

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
                return QuestionResult()

    # --- by patient -----------------------------------------------------------------------------------------

    def _by_patient(self, question: ByPatient) -> QuestionResult:
        persons, result = self._persons.select(question.patient, MAX_PERSONS)
        shown = {record.key for person in persons for record in person.records}
        keys = {record.part_of or record.key for person in persons for record in person.records}
        # of a record that two persons share, only the studies' headers say whose each is
        divided = any(record.parts or record.part_of for person in persons for record in person.records)
        if (
            not divided
            and not question.versions
            and len(keys) <= MAX_PERSONS
            and (question.limit or question.filter != ANY)
        ):
            studies = self._index.read.held(self._tx, keys)
            if question.cursor or len(studies) > MANY or question.filter.study_uids:
                return self._of_many(question, persons, result, studies)
        rows = self._index.read.by_records(self._tx, keys, deprecated=question.versions)
        owners = self._persons.owners((loaded.holding for loaded in rows), persons)
        rows = [loaded for loaded in owners.own(rows) if loaded.holding.whose in shown]
        holdings = [h for h in self._marked(rows, owners) if matches(question.filter, h, self._code)]
        current = {loaded.row.study_hash for loaded in rows if not loaded.row.flags & DEPRECATED}
        unread = self._index.objects.imaging.unread(self._tx, shown, current) if shown else 0
        if question.versions:
            holdings = self._of_one_person(self._with_past(rows, holdings), owners)
        objects = self._index.objects.by_records(self._tx, shown) if question.versions and shown else []
        result = replace(
            result, holdings=tuple(newest_first(holdings)), persons=tuple(persons), objects=tuple(objects)
        )
        return replace(result, unread=unread)

    def _of_many(
        self, question: ByPatient, persons: list[Person], result: QuestionResult, studies: list[int]
    ) -> QuestionResult:
        """Some of very many studies of persons whose records have no parts.

        ``studies`` are the hashes of them all, one for each holding.
        """
        keys = sorted({record.key for person in persons for record in person.records})
        unread = self._index.objects.imaging.unread(self._tx, keys, studies) if keys else 0
        result = replace(result, persons=tuple(persons), unread=unread)
        if question.filter != ANY:
            return replace(result, holdings=tuple(self._narrowed(question.filter, keys, persons)))
        if question.offset is None:
            return self._page_of(question, keys, result, len(studies))
        if len(persons) > 1:  # a study that two of them have is shown twice: pages are cut from the whole
            rows = self._index.read.by_records(self._tx, keys, deprecated=False)
            return replace(
                result, holdings=tuple(newest_first(self._marked(rows, self._owners_of(rows, persons))))
            )
        return self._page_of_studies(question, keys, result, len(set(studies)))

    def _narrowed(self, narrow: StudyFilter, keys: list[RecordKey], persons: list[Person]) -> list[Holding]:
        """What a filter finds of them: the index rules out what it can, the filter decides."""
        bounds = window(narrow, "started", 1, self._id)
        studies = [hash8(uid) for uid in narrow.study_uids]
        rows = self._index.read.some_of(self._tx, keys, bounds, studies) if bounds is not None else []
        holdings = self._marked(rows, self._owners_of(rows, persons))
        return newest_first(h for h in holdings if matches(narrow, h, self._code))

    def _owners_of(self, rows: Iterable[Loaded], persons: list[Person]) -> Owners:
        return self._persons.owners((loaded.holding for loaded in rows), persons)

    def _page_of(
        self, question: ByPatient, keys: list[RecordKey], result: QuestionResult, total: int
    ) -> QuestionResult:
        limit = max(1, min(question.limit, MAX_PAGE))
        rows = (
            self._index.read.newest(self._tx, keys, cursor_of(question.cursor, OF_PATIENT), limit + 1)
            if keys
            else []
        )
        page = rows[:limit]
        holdings = tuple(self._marked(page, self._owners_of(page, list(result.persons))))
        cursor = cursor_text(place_of(page[-1], "started"), OF_PATIENT) if len(rows) > limit else ""
        return replace(result, holdings=holdings, cursor=cursor, total=total)

    def _page_of_studies(
        self, question: ByPatient, keys: list[RecordKey], result: QuestionResult, total: int
    ) -> QuestionResult:
        read = self._index.read
        studies = read.newest_studies(self._tx, keys, question.offset or 0, question.limit)
        rows = read.some_of(self._tx, keys, Window(), studies) if studies else []
        holdings = newest_first(self._marked(rows, self._owners_of(rows, list(result.persons))))
        place = {study: n for n, study in enumerate(studies)}
        return replace(
            result, holdings=tuple(sorted(holdings, key=lambda h: place[hash8(h.study_uid)])), total=total
        )

    def _marked(self, rows: list[Loaded], owners: Owners) -> list[Holding]:
        """Holdings, those in conflict marked (D1)."""

        def persons(compared: Collection[Loaded]) -> dict[RowKey, int]:
            whose = self._persons.owners((loaded.holding for loaded in compared), owners.persons.values())
            return {loaded.row.key: int(whose.person(loaded.holding).key) for loaded in compared}

        def foreign(member: MemberId) -> bool:
            return is_foreign(self._directory.by_id(member))

        conflicts = in_conflict(self._index.read, self._tx, rows, persons, foreign) if rows else set()
        return [
            changed(loaded.holding, conflict=True) if loaded.row.key in conflicts else loaded.holding
            for loaded in rows
        ]

    def _with_past(self, rows: list[Loaded], holdings: list[Holding]) -> list[Holding]:
        wanted = {(h.record_key, h.study_uid, h.member) for h in holdings}
        wanted_rows = [
            loaded
            for loaded in rows
            if (loaded.holding.record_key, loaded.holding.study_uid, loaded.holding.member) in wanted
        ]
        whole = {
            (h.record_key, h.study_uid, h.member): h
            for h in self._index.read.with_past(self._tx, wanted_rows)
        }
        return [changed(whole[h.record_key, h.study_uid, h.member], conflict=h.conflict) for h in holdings]

    def _of_one_person(self, holdings: Iterable[Holding], owners: Owners) -> list[Holding]:
        """Holdings without past versions that describe somebody else (ADR 0016).

        A header that was corrected named another person before.
        """
        records = owners.records

        def alike(holding: Holding, version: PastVersion) -> bool:
            header = self._identity.header
            return not doubt(
                header(version.publication.record.patient), header(holding.publication.record.patient)
            )

        return [
            (
                changed(h, past=tuple(v for v in h.past if alike(h, v)))
                if h.past and self._policy.withholds_past(records[h.whose])
                else h
            )
            for h in holdings
        ]

    def _patients(self, question: Patients) -> QuestionResult:
        persons, result = self._persons.select(question.patient, max(1, min(question.limit, MAX_PERSONS)))
        return replace(result, persons=tuple(persons))

    # --- by object ------------------------------------------------------------------------------------------

    def _by_object(self, question: ByObject) -> QuestionResult:
        if question.n_names > MAX_NAMES:
            raise Invalid("Too many ids at once.", why=f"Limit here: {MAX_NAMES}.")
        by_name = self._rows_by_name(question)
        by_accession, whom = self._rows_by_accession(question)
        rows = by_name | by_accession
        gone = self._gone(question, rows.values())
        wanted = [
            loaded for loaded in rows.values() if question.versions or not loaded.row.flags & DEPRECATED
        ]
        owners = self._persons.owners(loaded.holding for loaded in wanted)
        named = {loaded.holding.fhir_id for loaded in by_name.values()}
        allowed = self._policy.rows(owners.own(wanted), owners.records, named=named)
        hidden = named - {loaded.holding.fhir_id for loaded in allowed}
        doubted = {loaded.holding.member for loaded in wanted if loaded.holding.fhir_id in hidden}
        holdings = self._marked(allowed, owners)
        if question.versions:
            holdings = self._with_past(allowed, holdings)
        holdings, owners = self._with_entries(question, holdings, owners)
        objects, whose = self._persons.of_objects(self._objects(question))
        persons = self._shown_persons(holdings, whose, owners)
        return QuestionResult(
            holdings=tuple(newest_first(holdings)),
            persons=tuple(persons),
            objects=tuple(objects),
            gone=gone,
            doubts=doubtful_members(persons) | doubted,
            unread=0 if holdings else self._of_no_study(),
            patients=audited((), persons),
            naming=whom,
        )

    def _rows_by_name(self, question: ByObject) -> dict[RowKey, Loaded]:
        """Rows by FHIR id or StudyInstanceUID: by their own names."""
        read, rows = self._index.read, dict[RowKey, Loaded]()
        if question.fhir_ids:
            rows |= {loaded.row.key: loaded for loaded in read.by_fhir_ids(self._tx, question.fhir_ids)}
        if question.study_uids:
            rows |= {loaded.row.key: loaded for loaded in read.by_studies(self._tx, question.study_uids)}
        return rows

    def _rows_by_accession(self, question: ByObject) -> tuple[dict[RowKey, Loaded], Naming]:
        """Rows by accession number, and how far those numbers were understood."""
        asked, read, tx = question.accessions, self._index.read, self._tx
        if not asked:
            return {}, Naming()
        same_value = read.by_accessions(tx, {number.value for number in asked})
        known = {number for loaded in same_value for number in loaded.holding.record.accessions}
        whom = accession_naming(
            asked, known, self._region, self._directory, lambda oid: read.issues_accessions(tx, oid)
        )
        rows = {loaded.row.key: loaded for loaded in same_value if has_accession(loaded.holding, asked)}
        return rows, whom

    def _with_entries(
        self, question: ByObject, holdings: list[Holding], owners: Owners
    ) -> tuple[list[Holding], Owners]:
        """``holdings`` and those that XDS names lead to, and the owners of all of them.

        Past versions that describe somebody else are taken from each.
        """
        entries = self._named(question, {(h.record_key, h.study_uid, h.member) for h in holdings})
        owners = self._persons.owners(entries, owners.persons.values())
        allowed = self._policy.holdings(
            (owners.owned(h) for h in entries), owners.records, named={h.fhir_id for h in entries}
        )
        return self._of_one_person([*holdings, *allowed], owners), owners

    def _shown_persons(
        self, holdings: Iterable[Holding], others: Iterable[Person], owners: Owners
    ) -> list[Person]:
        """The persons of these holdings, as the caller may see them, and ``others``, each once."""
        persons = self._policy.shown({owners.person(h).key: owners.person(h) for h in holdings}.values())
        keys = {person.key for person in persons}
        return persons + [person for person in others if person.key not in keys]

    def _gone(self, question: ByObject, rows: Iterable[Loaded]) -> tuple[str, ...]:
        """Ids that named something once (FHIR 410): withdrawn, moved, or deprecated and held by no other."""
        alive = [loaded for loaded in rows if not loaded.row.flags & DEPRECATED]
        dead = [loaded for loaded in rows if loaded.row.flags & DEPRECATED]
        gone = self._index.read.gone(self._tx, question.fhir_ids) if question.fhir_ids else set()
        gone |= {loaded.holding.fhir_id for loaded in dead} & set(question.fhir_ids)
        still_held = {loaded.holding.study_uid for loaded in alive}
        gone |= ({loaded.holding.study_uid for loaded in dead} - still_held) & set(question.study_uids)
        return tuple(sorted(gone - {loaded.holding.fhir_id for loaded in alive}))

    def _named(self, question: ByObject, have: set[tuple[RecordKey, str, MemberId]]) -> list[Holding]:
        """Holdings that an XDS name leads to; without versions only where it names the current one."""
        names = {*question.entry_uuids, *question.unique_ids}
        named = self._index.read.by_names(self._tx, names) if names else []
        named = [h for h in named if (h.record_key, h.study_uid, h.member) not in have]
        if question.versions:
            return named
        current = [changed(h, past=()) for h in named if h.state == "approved"]
        return [h for h in current if names & current_names(h)]

    def _objects(self, question: ByObject) -> list[XdsObject]:
        """Stored objects of these names, associations that touch them, and what those lead to."""
        objects, tx = self._index.objects, self._tx
        by_uuid: dict[str, XdsObject] = {}
        if question.unique_ids:
            by_uuid |= {o.entry_uuid: o for o in objects.by_unique_ids(tx, question.unique_ids)}
        uuids = {*question.entry_uuids, *by_uuid}
        if not uuids:
            return []
        if question.entry_uuids:
            by_uuid |= {o.entry_uuid: o for o in objects.by_uuids(tx, question.entry_uuids)}
        associations = objects.linking(tx, uuids)
        by_uuid |= {association.entry_uuid: association for association in associations}
        ends = {end for association in associations for end in association.links} - by_uuid.keys()
        by_uuid |= {o.entry_uuid: o for o in objects.by_uuids(tx, ends)} if ends else {}
        return list(by_uuid.values())

    # --- by population --------------------------------------------------------------------------------------

    def _by_population(self, question: ByPopulation) -> QuestionResult:
        limit = max(1, min(question.limit, MAX_PAGE))
        page = window(question.filter, question.order, min(limit + 1, MAX_PAGE), self._id, question.ascending)
        if page is None:
            return QuestionResult()
        seen: dict[PersonKey, Person] = {}
        kept, scan = list[Loaded](), Scan(page, cursor_of(question.cursor, kind_of(question)))
        while scan.more and len(kept) <= limit and not scan.enough:
            rows = scan.rows(self._index.read, self._tx)
            owners = self._persons.owners((loaded.holding for loaded in rows), seen.values())
            seen |= {person.key: person for person in owners.persons.values()}
            allowed = self._policy.rows(owners.own(rows), owners.records)
            kept += [loaded for loaded in allowed if matches(question.filter, loaded.holding, self._code)]
        after, more = scan.place, scan.more
        if len(kept) > limit:
            kept, more = kept[:limit], True
            after = place_of(kept[-1], question.order)
        owners = self._persons.owners((loaded.holding for loaded in kept), seen.values())
        holdings = self._marked(kept, owners)
        persons = self._policy.shown({owners.person(h).key: owners.person(h) for h in holdings}.values())
        cursor = cursor_text(after, kind_of(question)) if more and after is not None else ""
        unread = 0 if holdings or cursor else self._of_no_study()
        return QuestionResult(
            holdings=tuple(holdings),
            persons=tuple(persons),
            cursor=cursor,
            unread=unread,
            patients=audited((), persons),
        )

    def _of_no_study(self) -> int:
        """Documents of which nobody knows the study: any may be of what was asked for and not found."""
        return self._index.objects.imaging.of_no_study(self._tx)

    # --- members --------------------------------------------------------------------------------------------

    def _code(self, member_id: MemberId) -> str:
        member = self._directory.by_id(member_id)
        return member.code if member is not None else ""

    def _id(self, code: str) -> MemberId | None:
        member = self._directory.by_code(code)
        return member.id if member is not None else None
