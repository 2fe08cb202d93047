"""A record under which very many headers came: a local id that stands for nobody ("UNKNOWN").

Each new one is a part by itself.

What is compared with each other is bounded (``parts.MAX_COMPARED``). Beyond that a study costs the same
however many there are: only what came is looked at.
"""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from crosslight.runtime.db import Tx
from crosslight.standards.ids import Identifier
from registry.identity.header import PatientHeader, agree, doubt
from registry.identity.model import Texts
from registry.identity.record_parts import alike
from registry.identity.rows import Stored, chunks, load_by, marks
from registry.identity.tables import IdentityTables


class Crowd:
    """Adds headers to a record that has more than can be compared, in a caller's transaction.

    Args:
        store: The tables, and the region's rules.
        tx: The transaction.
        at: Microseconds since 1970, the time of the change.
        stored: The record, which is locked.
    """

    def __init__(self, store: IdentityTables, tx: Tx, at: int, stored: Stored) -> None:
        self._store = store
        self._tx = tx
        self._at = at
        self._stored = stored
        self.made: set[int] = set()  # the parts that were made
        self.numbers: set[Identifier] = set()  # that they claim

    def add(self, texts: Texts) -> bool:
        """Give every header that is new its part.

        Answers whether that was all there was to do, so that the whole record need not be compared.
        """
        came = {self._store.header(patient): patient for patient in texts.came}
        if {self._store.header(patient) for patient in texts.went} - came.keys():
            return False  # perhaps the last study with that header
        key, known = self._stored.record.key, dict[int, int]()
        for chunk in chunks({header.key for header in came}):
            sql = (
                "SELECT header_key, part_key FROM record_header WHERE record_key = ? AND header_key IN"
                f" ({marks(chunk)})"
            )
            known |= {row[0]: row[1] for row in self._tx.rows(sql, (key, *chunk))}
        if not all(s.record.active for s in load_by(self._tx, "record_key", set(known.values()) - {key})):
            return False  # one that was decided on and had no study comes back
        new = sorted(header for header in came if header.key not in known)
        if not new:
            return True
        own = [header for header in new if self._is_own(header)]
        place = (self._stored.record.patient.local.authority, self._stored.record.patient.local.value)
        sql = (
            "SELECT part FROM patient_record WHERE authority = ? AND local_id = ? ORDER BY part DESC LIMIT 1"
        )
        row = self._tx.row(sql, place)
        highest, seq = int(row[0]) if row is not None else 0, self._stored.headers + 1
        rows = [(int(key), header.key, int(key), seq) for header in own]
        for n, header in enumerate((header for header in new if header not in own), highest + 1):
            part = self._store.new_key()
            self._store.insert_part(self._tx, part, self._stored, n, self._at)
            described, claims, traced = self._store.described(
                self._stored.record.patient.local, [came[header]]
            )
            self._store.update(
                self._tx, part, described, self._stored.record.member, traced, self._at, digest=""
            )
            claimed = [(number.authority, number.value, part) for number in sorted(claims)]
            self._tx.insert_many("national_claim", ("authority", "value", "record_key"), claimed)
            rows.append((int(key), header.key, part, seq))
            self.made.add(part)
            self.numbers |= claims
        self._tx.insert_many("record_header", ("record_key", "header_key", "part_key", "seq"), rows)
        sql = "UPDATE patient_record SET headers = headers + ?, parts = parts + ? WHERE record_key = ?"
        self._tx.execute(sql, (len(rows), len(self.made), key))
        return True

    def _is_own(self, header: PatientHeader) -> bool:
        """Whether it is the record's: as a feed described it, or all but the same."""
        record = self._stored.record
        own = self._store.header(record.patient, record.national)
        if self._stored.fed or self._store.is_fed(self._tx, record.patient.local.authority):
            descriptions = [own, *(former_headers(self._stored.former) if self._stored.fed else ())]
            return any(follows(header, description, fed=self._stored.fed) for description in descriptions)
        return alike(header) == alike(own)


def former_headers(text: str) -> list[PatientHeader]:
    """The inverse of :func:`former_text`."""
    return [
        PatientHeader(tuple(Identifier(v, a) for a, v in numbers), born, sex, tuple(family), tuple(given))
        for numbers, born, sex, family, given in (orjson.loads(text) if text else ())
    ]


def former_text(headers: Sequence[PatientHeader]) -> str:
    """Former headers of a record as JSON, the oldest first."""
    plain = [
        ([(n.authority, n.value) for n in h.numbers], h.birth_date, h.sex, h.family, h.given) for h in headers
    ]
    return orjson.dumps(plain).decode() if plain else ""


def follows(header: PatientHeader, record: PatientHeader, *, fed: bool) -> bool:
    """Whether a study with ``header`` is of the person that the record describes.

    A feed's word joins what agrees with it.
    """
    return not doubt(header, record) or (fed and agree(header, record))
