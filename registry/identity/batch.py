"""The one road of patients: those known are looked up together, new ones written together.

A record that changes goes alone (D2-D4).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Literal

import orjson

from crosslight.runtime.db import Tx
from crosslight.standards.ids import Identifier, MemberId
from crosslight.standards.names import family_keys
from crosslight.standards.problem import Conflict
from crosslight.standards.study import Patient, patient_from_json, patient_to_json
from registry.identity.compare import Comparison
from registry.identity.model import RecordKey, Texts
from registry.identity.numbers import canonicals, crowded, holders, lock_numbers, merged_into
from registry.identity.patient_feed import FeedOfOne
from registry.identity.relink import relink
from registry.identity.rows import chunks, marks, to_micros
from registry.identity.tables import IdentityTables

_COLUMNS = (
    "record_key",
    "person_key",
    "authority",
    "local_id",
    "member",
    "fhir_id",
    "minted",
    "birth_date",
    "family_key",
    "family_alt",
    "traced",
    "disputed",
    "created",
    "updated",
    "digest",
    "patient",
)
_TOGETHER = 200  # records linked at once


Kind = Literal["study", "header", "feed"]


class FeedBatch:
    """Patients in a caller's transaction, one or many. New records are there after :meth:`settle`.

    There are three kinds. A *study* brings its header: it makes a record where there is none, and
    :meth:`compare` looks at it once the study itself is written. A *header* is what a source that the region
    does not name says in a feed: it makes a record, or changes one in what leaves no doubt. A *feed* of a
    named source describes the record (D3).

    Args:
        store: The tables.
        tx: The transaction.
        now: The time of the change.
    """

    def __init__(self, store: IdentityTables, tx: Tx, now: datetime) -> None:
        self._store, self._tx, self._now = store, tx, now
        # local id -> record, digest of its last feed
        self._known: dict[Identifier, tuple[int, str] | None] = {}
        self._new: dict[Identifier, tuple[int, str]] = {}
        self._rows: list[tuple[Any, ...]] = []
        self._claims: dict[int, frozenset[Identifier]] = {}
        self._made: set[int] = set()  # records of this batch, which say what their first study says

    def prefetch(self, patients: Iterable[Patient]) -> None:
        """Look up the records of these patients together."""
        by_authority: dict[str, set[str]] = {}
        for patient in patients:
            by_authority.setdefault(patient.local.authority, set()).add(patient.local.value)
        for authority, values in sorted(by_authority.items()):
            self._known |= {Identifier(value, authority): None for value in values}
            for chunk in chunks(values):
                sql = (
                    "SELECT local_id, record_key, digest FROM patient_record "
                    f"WHERE authority = ? AND part = 0 AND local_id IN ({marks(chunk)})"
                )
                for value, key, digest in self._tx.rows(sql, (authority, *chunk)):
                    self._known[Identifier(value, authority)] = (key, digest)

    def feed(
        self,
        patient: Patient,
        member: MemberId | None,
        *,
        kind: Kind,
        who: str = "",
        traced: bool | None = None,
        erase: frozenset[str] = frozenset(),
    ) -> RecordKey:
        """The record of ``patient``, as it will be once the batch is settled.

        Repeating a feed changes nothing.

        What a feed leaves out stays as it is: a blank does not erase, and a national number that is not
        mentioned is not withdrawn. An identifier with an empty value withdraws the number of its authority; a
        new one replaces it.

        Args:
            patient: As the source describes them; ``local`` is the record.
            member: Whose authority it is, None for a foreign one.
            kind: Whose word it is, see above.
            who: Who says so, for the history.
            traced: Whether the numbers are traced, where the source is the authority on that; None takes
                ``patient.traced`` and never takes back what was said of the same number before.
            erase: Demographic fields that a feed blanks (``birth_date``, ``sex``, ``postcode``).

        Raises:
            Invalid: without authority or id, or for an invalid national number as the id.
        """
        local = self._store.checked_local(patient)
        place = Identifier(local.value, local.authority)
        digest = self._store.said(patient, member, traced, erase)
        if place not in self._known and place not in self._new:
            self.prefetch([replace(patient, local=local)])
        known = self._new.get(place) or self._known.get(place)
        if known is not None and (kind == "study" or known[1] == digest):
            return RecordKey(known[0])
        who = who or f"feed of {local.authority}"
        if known is None and member is not None and kind == "study":
            return self._add(patient, local, place, member, digest)
        self.settle()
        self._known.pop(place, None)  # what is in the tables is read again
        change = FeedOfOne(
            self._store, self._tx, self._now, patient, local, who=who, traced=traced, erase=erase
        )
        return change.apply(member, kind, digest)

    def _add(
        self, patient: Patient, local: Identifier, place: Identifier, member: MemberId, digest: str
    ) -> RecordKey:
        key, at = self._store.new_key(), to_micros(self._now)
        described, claims, traced = self._store.described(local, [patient])
        family, alternative = family_keys(described.name)
        self._rows.append(
            (
                key,
                key,
                local.authority,
                local.value,
                int(member),
                self._store.new_fhir_id(),
                self._store.minted(local),
                described.birth_date,
                family,
                alternative,
                int(traced),
                0,
                at,
                at,
                digest,
                orjson.dumps(patient_to_json(described)).decode(),
            )
        )
        self._new[place] = (key, digest)
        self._made.add(key)
        if claims:
            self._claims[key] = claims
        return RecordKey(key)

    def settle(self) -> None:
        """Write the new records and link them.

        Raises:
            Conflict: another transaction was first with one of them; this one must be undone.
        """
        rows, claims = self._rows, self._claims
        self._known |= self._new
        self._rows, self._claims, self._new = [], {}, {}
        if not rows:
            return
        written = self._tx.insert_many(
            "patient_record", _COLUMNS, rows, "ON CONFLICT (authority, local_id, part) DO NOTHING"
        )
        if written != len(rows):
            raise Conflict("A patient came from elsewhere at the same time.", todo="Try again.")
        self._link(claims)

    def _link(self, claims: dict[int, frozenset[Identifier]]) -> None:
        claimed = [
            (n.authority, n.value, key) for key, numbers in sorted(claims.items()) for n in sorted(numbers)
        ]
        self._tx.insert_many("national_claim", ("authority", "value", "record_key"), claimed)
        numbers = {n for claimed in claims.values() for n in claimed}
        lock_numbers(self._tx, numbers)
        shared = self._shared(numbers)
        alone = {key: claimed for key, claimed in claims.items() if not claimed & shared}
        holding = [
            (n.authority, n.value, key) for key, claimed in sorted(alone.items()) for n in sorted(claimed)
        ]
        self._tx.update_many("national_number", ("authority", "value"), ("person_key",), holding)
        self._relink({key: claimed for key, claimed in claims.items() if key not in alone})

    def _shared(self, numbers: Collection[Identifier]) -> set[Identifier]:
        """Those that another record claims, or that have a history: they need the whole of D3."""
        shared = crowded(self._tx, numbers, 1)
        shared |= {number for number, person in holders(self._tx, numbers).items() if person is not None}
        shared |= {number for number, last in canonicals(self._tx, numbers).items() if last != number}
        return shared | merged_into(self._tx, numbers).keys()

    def _relink(self, claims: dict[int, frozenset[Identifier]]) -> None:
        by_source: dict[str, list[int]] = {}
        sources = {
            key: place.authority
            for place, known in self._known.items()
            if known is not None
            for key in known[:1]
        }
        for key in claims:
            by_source.setdefault(sources.get(key, ""), []).append(key)
        for source, keys in sorted(by_source.items()):
            for start in range(0, len(keys), _TOGETHER):
                chunk = keys[start : start + _TOGETHER]
                numbers = frozenset[Identifier]().union(*(claims[key] for key in chunk))
                relink(
                    self._tx,
                    self._store,
                    chunk,
                    numbers,
                    at=to_micros(self._now),
                    who=f"feed of {source}",
                    why="feed",
                )

    def touch(self, newest: dict[RecordKey, datetime]) -> None:
        """As ``IdentityStore.touch_tx``, of many records; after :meth:`settle`."""
        rows = [(int(key), to_micros(moment)) for key, moment in sorted(newest.items())]
        self._store.touch_all(self._tx, rows)

    def _says_another(self, body: str, texts: Texts) -> bool:
        """Whether what came says anything but what the record says.

        A text that was there before may be of a study that went.
        """
        own = self._store.header(patient_from_json(orjson.loads(body)))
        return any(self._store.header(patient) != own for patient in texts.came)

    def compare(self, described: Mapping[RecordKey, int], touched: Mapping[RecordKey, Texts]) -> None:
        """Look at the headers that studies brought, once they are written.

        Args:
            described: Records under which studies came with patient texts that were not there before, and how
                many.
            touched: Records under which anything changed, and the patients of what came and went.
        """
        keys = {int(key) for key, texts in described.items() if key not in self._made or texts > 1}
        for chunk in chunks({int(key) for key in touched} - keys - self._made):
            columns = "record_key, headers, patient"
            sql = f"SELECT {columns} FROM patient_record WHERE record_key IN ({marks(chunk)})"
            for key, headers, body in self._tx.rows(sql, chunk):
                if headers > 1 or self._says_another(body, touched[RecordKey(key)]):
                    keys.add(key)
        if keys:
            Comparison(self._store, self._tx, to_micros(self._now), "header").run(keys, texts=touched)
