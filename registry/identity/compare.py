"""Comparing the headers of studies with the record that they came under.

What is not the record's is kept in parts of it.

A record of images alone is what its headers say together, the newest study last. A record that a named feed
describes is never changed by a header: it is compared with it. What is in doubt becomes a part of the record:
studies stay under their key with their own header, and a person, or a feed, decides whose they are.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import orjson

from crosslight.runtime.db import Tx
from crosslight.standards.ids import Identifier
from crosslight.standards.study import Patient, patient_to_json
from registry.identity.crowded_records import Crowd, follows, former_headers
from registry.identity.header import PatientHeader, agree, doubt
from registry.identity.merges import BY_FEED, decide_other, end_feeds_decision
from registry.identity.model import RecordKey, Texts
from registry.identity.record_parts import MAX_COMPARED, Seen, parts
from registry.identity.relink import relink
from registry.identity.rows import EMPTY, Stored, chunks, load_by, marks
from registry.identity.tables import IdentityTables


@dataclass(frozen=True, slots=True)
class _Text:
    """A header as it was written, and when the newest study with it began."""

    patient: Patient
    newest: int


@dataclass(slots=True)
class _Plan:
    """What becomes of one record."""

    stored: Stored
    texts: dict[PatientHeader, _Text]
    own: frozenset[PatientHeader] = frozenset()
    others: dict[int, frozenset[PatientHeader]] = field(default_factory=dict)  # by the part's key
    fresh: set[int] = field(default_factory=set)  # parts to be made
    # part -> who took its headers; None: nobody, they are gone
    emptied: dict[int, int | None] = field(default_factory=dict)
    # the record and those of its parts that are to be linked anew
    changed: set[int] = field(default_factory=set)


class Comparison:
    """Compares records with the headers of their studies, in a caller's transaction.

    Args:
        store: The tables, and the region's rules.
        tx: The transaction.
        at: Microseconds since 1970, the time of the change.
        who: Who caused it, for the history.
    """

    def __init__(self, store: IdentityTables, tx: Tx, at: int, who: str) -> None:
        self._store = store
        self._tx = tx
        self._at = at
        self._who = who
        # record -> header -> (part, order of arrival)
        self._known: dict[int, dict[int, tuple[int, int]]] = {}
        self._parts: dict[int, list[Stored]] = {}  # record -> its parts
        self._decided: set[int] = set()  # parts that a person or a feed decided on
        self._by_feed: dict[int, str] = {}  # those on which a feed alone did -> its decision

    def run(
        self,
        keys: Collection[int],
        *,
        rehomed: Collection[int] = (),
        changed: Iterable[Identifier] = (),
        texts: Mapping[RecordKey, Texts] | None = None,
    ) -> None:
        """Compare these records, write what follows, and link anew.

        Args:
            keys: Records, no parts.
            rehomed: Those that a feed gave to another person: who it was before keeps their FHIR id and their
                own.
            changed: Numbers whose claims changed before.
            texts: What came and went, where only that has to be looked at under a record that has very many
                headers.
        """
        records = [s for s in load_by(self._tx, "record_key", keys, lock=True) if s.record.part_of is None]
        numbers, seeds = set(changed), {int(key) for key in rehomed}
        crowded = [(s, (texts or {}).get(s.record.key)) for s in records if s.headers > MAX_COMPARED]
        for stored, came in crowded:
            if came is None:
                continue
            crowd = Crowd(self._store, self._tx, self._at, stored)
            if crowd.add(came):
                records.remove(stored)
                numbers |= crowd.numbers
                seeds |= crowd.made
        seen = self._store.headers_of(self._tx, [s.record.key for s in records])
        records = [s for s in records if not self._says_the_same(s, seen.get(s.record.key, ()))]
        self._load([s.record.key for s in records])
        for stored in records:
            plan = self._planned(stored, seen.get(stored.record.key, ()))
            numbers |= self._write(plan, rehomed=stored.record.key in rehomed)
            seeds |= plan.changed
        if seeds or numbers:
            relink(self._tx, self._store, seeds, numbers, at=self._at, who=self._who, why="headers")

    def _says_the_same(self, stored: Stored, seen: Sequence[tuple[Patient, int]]) -> bool:
        """Whether all studies say just what the record says, as most do; then there is nothing to plan."""
        own = self._store.header(stored.record.patient, stored.record.national)
        return (
            stored.headers == 1
            and not stored.parts
            and all(self._store.header(patient) == own for patient, _ in seen)
        )

    def _load(self, keys: Collection[int]) -> None:
        for chunk in chunks(keys):
            sql = (
                "SELECT record_key, header_key, part_key, seq FROM record_header WHERE record_key IN"
                f" ({marks(chunk)})"
            )
            for record, header, part, seq in self._tx.rows(sql, chunk):
                self._known.setdefault(record, {})[header] = (part, seq)
        for stored in load_by(self._tx, "part_of", keys, lock=True):
            self._parts.setdefault(int(stored.record.part_of or 0), []).append(stored)
        for chunk in chunks(
            {s.record.key for parts_of_record in self._parts.values() for s in parts_of_record}
        ):
            sql = (
                "SELECT record_key, decision_id, kind, why FROM identity_decision WHERE ended_at IS NULL "
                f"AND kind IN ('same', 'other') AND record_key IN ({marks(chunk)})"
            )
            for key, decision, kind, why in self._tx.rows(sql, chunk):
                if (kind, why) == ("other", BY_FEED) and key not in self._decided:
                    self._by_feed[key] = decision
                else:
                    self._by_feed.pop(key, None)
                self._decided.add(key)

    # --- deciding -------------------------------------------------------------------------------------------

    def _planned(self, stored: Stored, seen: Sequence[tuple[Patient, int]]) -> _Plan:
        texts: dict[PatientHeader, _Text] = {}
        for patient, newest in sorted(seen, key=lambda s: (s[1], orjson.dumps(patient_to_json(s[0])))):
            texts[self._store.header(patient)] = _Text(patient, newest)
        plan, known = _Plan(stored, texts), self._known.get(stored.record.key, {})
        self._taken_back(plan, known)
        settled = {h for h in texts if known.get(h.key, (0, 0))[0] in self._decided}
        loose = self._divided(plan, [h for h in texts if h not in settled], known)
        for header in settled:
            part = known[header.key][0]
            plan.others[part] = plan.others.get(part, frozenset()) | {header}
        self._named(plan, loose, known)
        return plan

    def _taken_back(self, plan: _Plan, known: Mapping[int, tuple[int, int]]) -> None:
        """A feed that says again what it said before ends its own decision.

        Studies that agree with it are the record's again.
        """
        stored, parts_by_feed = plan.stored, {part for part, _ in known.values()} & self._by_feed.keys()
        own = self._store.header(stored.record.patient, stored.record.national)
        for part in sorted(parts_by_feed if stored.fed else ()):
            if any(known.get(h.key, (0, 0))[0] == part and follows(h, own, fed=True) for h in plan.texts):
                end_feeds_decision(self._tx, self._by_feed.pop(part), self._at, self._who)
                self._decided.discard(part)

    def _divided(
        self, plan: _Plan, headers: Sequence[PatientHeader], known: Mapping[int, tuple[int, int]]
    ) -> list[frozenset[PatientHeader]]:
        """Notes which headers are the record's own; the others, in parts."""
        stored, own = plan.stored, self._store.header(plan.stored.record.patient, plan.stored.record.national)
        if stored.fed or self._store.is_fed(self._tx, stored.record.patient.local.authority):
            before = [own, *(former_headers(stored.former) if stored.fed else ())]
            plan.own = frozenset(
                h for h in headers if any(follows(h, description, fed=stored.fed) for description in before)
            )
            return parts([Seen(h, plan.texts[h].newest) for h in headers if h not in plan.own])
        already_own = {h for h in headers if known.get(h.key, (0, 0))[0] == stored.record.key} or (
            {own} & set(headers)
        )
        pool = [Seen(h, plan.texts[h].newest) for h in headers]
        # no study says any more what the record says: newcomers are compared with the record itself
        if not already_own:
            already_own, pool = {own}, [*pool, Seen(own)]
        senior = min(already_own, key=lambda h: (known.get(h.key, (0, -1))[1], h))
        blocks = parts(pool)
        plan.own = next(block for block in blocks if senior in block) & plan.texts.keys()
        return [block for block in blocks if senior not in block]

    def _named(
        self, plan: _Plan, loose: Sequence[frozenset[PatientHeader]], known: Mapping[int, tuple[int, int]]
    ) -> None:
        """Gives each loose part its key.

        That of a decided part that agrees with it, else of the part its headers were in, else a new one.
        """
        decided = dict(plan.others)
        taken = set(decided)

        def senior(block: frozenset[PatientHeader]) -> tuple[int, PatientHeader]:
            return min((known[h.key][1] if h.key in known else 1 << 30, h) for h in block)

        for block in sorted(loose, key=senior):
            same = [p for p, headers in sorted(decided.items()) if _one_person(block, headers)]
            were = sorted((known[h.key][1], known[h.key][0]) for h in block if h.key in known)
            keys = [k for _, k in were if k not in taken and k != plan.stored.record.key]
            key = same[0] if same else keys[0] if keys else self._store.new_key()
            if not same and not keys:
                plan.fresh.add(key)
            taken.add(key)
            plan.others[key] = plan.others.get(key, frozenset()) | block
        where = {h.key: p for p, headers in plan.others.items() for h in headers}
        where |= {h.key: int(plan.stored.record.key) for h in plan.own}
        for stored in self._parts.get(plan.stored.record.key, ()):
            if stored.record.key not in plan.others:
                old = [header for header, (part, _) in known.items() if part == stored.record.key]
                plan.emptied[stored.record.key] = next((where[h] for h in old if h in where), None)

    # --- writing --------------------------------------------------------------------------------------------

    def _write(self, plan: _Plan, *, rehomed: bool) -> set[Identifier]:
        """Writes the record and its parts; the numbers whose claims changed."""
        stored, numbers = plan.stored, set[Identifier]()
        record = stored.record
        in_the_parts = sum(1 for headers in plan.others.values() if headers)
        if (stored.headers, stored.parts) != (max(1, len(plan.texts)), in_the_parts):
            self._tx.execute(
                "UPDATE patient_record SET headers = ?, parts = ? WHERE record_key = ?",
                (max(1, len(plan.texts)), in_the_parts, record.key),
            )
        self._write_headers(plan)
        frozen = stored.fed or self._store.is_fed(self._tx, record.patient.local.authority)
        if plan.own and not frozen:
            numbers |= self._describe(stored, [plan.texts[h] for h in plan.own], plan.changed)
        existing = {s.record.key: s for s in self._parts.get(record.key, ())}
        highest = max((s.part for s in existing.values()), default=0)
        for n, key in enumerate(sorted(plan.fresh), highest + 1):
            self._store.insert_part(self._tx, key, stored, n, self._at)
        made = {s.record.key: s for s in load_by(self._tx, "record_key", plan.fresh)}
        plan.changed |= {int(record.key), *plan.fresh}
        for key, headers in plan.others.items():
            part = (existing | made)[RecordKey(key)]
            numbers |= self._describe(part, [plan.texts[h] for h in headers], plan.changed)
            self._stand(part, int(key not in self._decided), None, plan.changed)
        for key, taker in plan.emptied.items():
            numbers |= self._store.claim(self._tx, existing[RecordKey(key)], frozenset())
            self._stand(existing[RecordKey(key)], EMPTY if taker is None else 0, taker, plan.changed)
        if rehomed:
            self._left_behind(plan)
        return numbers

    def _stand(self, part: Stored, in_doubt: int, taker: int | None, changed: set[int]) -> None:
        """Writes how a part stands, where that is new."""
        if (part.in_doubt, part.record.subsumed_by) != (in_doubt, taker):
            sql = "UPDATE patient_record SET in_doubt = ?, subsumed_by = ? WHERE record_key = ?"
            self._tx.execute(sql, (in_doubt, taker, part.record.key))
            changed.add(int(part.record.key))
            self._store.moved(self._tx, [part.record] if part.created != self._at else [], self._at)

    def _write_headers(self, plan: _Plan) -> None:
        key, known = plan.stored.record.key, self._known.get(plan.stored.record.key, {})
        rows: list[tuple[int, int, int, int]] = []
        # what was decided comes back
        kept = {header: place for header, place in known.items() if place[0] in self._decided}
        if len(plan.texts) > 1 or plan.others or kept:
            part_of = {h: int(key) for h in plan.own} | {
                h: p for p, headers in plan.others.items() for h in headers
            }
            fresh = max((seq for _, seq in known.values()), default=0) + 1
            rows = [(int(key), h.key, part_of[h], known.get(h.key, (0, fresh))[1]) for h in sorted(part_of)]
            there = {h.key for h in part_of}
            rows += [
                (int(key), header, *place) for header, place in sorted(kept.items()) if header not in there
            ]
        if any(known.get(header, (part, 0))[0] != part for _, header, part, _ in rows):
            self._store.moved(self._tx, [plan.stored.record], self._at)
        if {r[1]: (r[2], r[3]) for r in rows} != known:
            self._tx.execute("DELETE FROM record_header WHERE record_key = ?", (key,))
            self._tx.insert_many("record_header", ("record_key", "header_key", "part_key", "seq"), rows)

    def _describe(self, stored: Stored, texts: Sequence[_Text], changed: set[int]) -> set[Identifier]:
        """Makes a record or a part what these headers say, and notes it where that is new.

        Returns the numbers whose claims changed.
        """
        local, before = stored.record.patient.local, stored.record
        ordered = sorted(texts, key=lambda t: (t.newest, self._store.header(t.patient)))
        patient, claims, traced = self._store.described(local, [t.patient for t in ordered])
        patient = replace(patient, postcode=patient.postcode or before.patient.postcode)
        if patient_to_json(patient) != patient_to_json(before.patient) or traced != stored.traced:
            self._store.update(self._tx, before.key, patient, before.member, traced, self._at, digest="")
            changed.add(int(before.key))
        return self._store.claim(self._tx, stored, claims)

    def _rename(self, plan: _Plan, former: int | None) -> None:
        """Who was known by an id goes on being known by it.

        The record gets the ids of the part that it is again, or new ones; the part that it was, where studies
        of that person are left, keeps the record's.
        """
        record = plan.stored.record
        sql = "UPDATE patient_record SET fhir_id = ?, minted = ? WHERE record_key = ?"
        back = {key for key, taker in plan.emptied.items() if taker == record.key}
        returned = next(
            (s for s in self._parts.get(record.key, ()) if s.record.key in back and s.record.active), None
        )
        names = (self._store.new_fhir_id(), self._store.minted(record.patient.local))
        if returned is not None:
            self._tx.execute(sql, (*names, returned.record.key))
            names = (returned.fhir_id, returned.minted)
        self._tx.execute(sql, (*names, record.key))
        if former is not None:
            self._tx.execute(sql, (plan.stored.fhir_id, plan.stored.minted, former))

    def _left_behind(self, plan: _Plan) -> None:
        """A feed gave this local id to another person.

        Who it was before keeps the ids that others know them by.

        Where the feed agrees with studies under the id, the others are another person's by its word; else
        they are in doubt.
        """
        record = plan.stored.record
        known = self._known.get(record.key, {})
        formerly_own = [
            (known.get(h.key, (0, 0))[1], part)
            for part, headers in plan.others.items()
            for h in headers
            if known.get(h.key, (record.key, 0))[0] == record.key
        ]
        self._rename(plan, min(formerly_own)[1] if formerly_own else None)
        if not formerly_own:
            return
        former = min(formerly_own)[1]
        for column in ("record_key", "other_key"):  # what people decided of that person stays theirs
            sql = f"UPDATE identity_decision SET {column} = ? WHERE {column} = ? AND ended_at IS NULL "
            self._tx.execute(sql + "AND kind IN ('same', 'apart')", (former, record.key))
        if plan.own:
            decide_other(
                self._tx, self._store.new_decision(), former, int(record.key), self._at, self._who, BY_FEED
            )


def _one_person(block: Collection[PatientHeader], other: Collection[PatientHeader]) -> bool:
    """Whether a newcomer is of a part that was decided on.

    No doubt between them, and number or birth date is the same.
    """
    return any(not doubt(a, b) and agree(a, b) for a in block for b in other)
