"""The archive's rows: every SQL statement that writes them.

Search is in ``search.py``, care in ``maintenance.py``.

Methods take a transaction, so that an ingest is one commit: instance, counts, metadata and change mark
together (D14).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from crosslight.runtime.clock import Clock
from crosslight.runtime.db import EmbeddedDb, Tx
from crosslight.runtime.db.schema import SchemaVersion
from crosslight.runtime.files import Files
from crosslight.standards.dicom.file.header import Attributes, Header
from node.archive import metadata_rows
from node.archive.bucket import Bucket
from node.archive.carried_rows import healed_here_tx
from node.archive.fault_rows import FAULTY, forget_strays_tx
from node.archive.layout import Layout
from node.archive.study_rows import Counted, StudyRows
from node.archive.variants import digest_of
from node.holdings import Received
from node.marks import Marks

SCHEMA = SchemaVersion("archive", schema=12, compat=12)

#: Rejection after which a new receipt of the instance makes it visible again (IHE RAD TF-3 4.66: retention
#: expired).
RESTORABLE = frozenset({"113039"})


@dataclass(frozen=True, slots=True)
class Storage:
    """Where one archive rests, for all that works on it.

    Database, folders, rows; and what they are written and dated by.
    """

    db: EmbeddedDb
    layout: Layout
    store: ArchiveStore
    files: Files
    clock: Clock
    bucket: Bucket | None = None  # where the objects go once they are on the disk; None: nowhere


Outcome = Literal["stored", "duplicate", "restored", "conflict"]
_SOP_CLASS = "00080016"
_INSTANCE = (
    "id", "sop_uid", "study_uid", "series_uid", "sop_class_uid", "transfer_syntax_uid", "number", "frames",
    "sha256", "size_bytes", "dataset_offset", "pixel_offset", "pixel_length", "frame_bits", "word_bytes",
    "tiff_preamble", "received_unix", "road", "peer", "kind", "hidden", "visible", "notes", "study_variant",
    "series_variant",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of an object beside its header."""

    sha256: bytes
    size_bytes: int  # of the data set
    dataset_offset: int
    pixel_offset: int
    pixel_length: int
    frame_bits: int = 0  # of a native frame; 0 = not known
    word_bytes: int = 1  # of a pixel cell
    tiff_preamble: bool
    received: Received
    received_unix: float
    study_json: bytes
    series_json: bytes
    large_zstd: bytes = b""  # of its large sequences, b'' for most objects
    notes: int = 0  # what was tolerated in it: bits of ``verdict.NOTES``


Arrived = tuple[Header, Facts]
Known = Literal["new", "duplicate", "conflict", "other"]
Kind = Literal["content", "note", "manifest"]


@dataclass(frozen=True, slots=True)
class Ingested:
    """Outcome of one object, and the studies whose content changed."""

    outcome: Outcome
    changed: tuple[str, ...] = ()


def _kind(header: Header) -> Kind:
    return "manifest" if header.is_manifest else "note" if header.rejection else "content"


def is_plain_content(arrived: Arrived) -> bool:
    """Whether an object changes nothing but its own rows, and these are small: they may follow in a group."""
    header, facts = arrived
    return _kind(header) == "content" and not facts.large_zstd


def _instance(header: Header, facts: Facts, hidden: str) -> tuple[Any, ...]:
    """A row of ``instance`` from ``sop_uid`` to ``notes``."""
    kind = _kind(header)
    return (
        header.sop_uid,
        header.study_uid,
        header.series_uid,
        header.sop_class_uid,
        header.transfer_syntax_uid,
        header.number,
        header.frames,
        facts.sha256,
        facts.size_bytes,
        facts.dataset_offset,
        facts.pixel_offset,
        facts.pixel_length,
        facts.frame_bits,
        facts.word_bytes,
        int(facts.tiff_preamble),
        facts.received_unix,
        facts.received.road,
        facts.received.peer,
        kind,
        hidden,
        int(kind == "content" and not hidden),
        facts.notes,
    )


def attribute_blobs(header: Header) -> tuple[bytes, bytes]:
    """The study's and the series' attribute sets as they rest; the series' also names the SOP class."""
    series = {**header.series, _SOP_CLASS: {"vr": "UI", "Value": [header.sop_class_uid]}}
    return orjson.dumps(header.study), orjson.dumps(series)


def patient_attributes(study_json: bytes) -> bytes:
    """Of a study's attribute set, the patient's (group 0010)."""
    return orjson.dumps(
        {tag: body for tag, body in orjson.loads(study_json).items() if tag.startswith("0010")}
    )


class ArchiveStore:
    """Rows of studies, series, instances, rejections; and the marks that move with them."""

    def __init__(self) -> None:
        self._rows = StudyRows()
        self.marks = Marks()

    # --- ingest ---------------------------------------------------------------------------------------------

    def known_tx(self, tx: Tx, header: Header, sha256: bytes) -> Known:
        """What :meth:`ingest_tx` will make of an object; ``other``: only it can tell, or rows change."""
        rows = tx.rows(
            f"SELECT sha256, transfer_syntax_uid, hidden, binned, {FAULTY} FROM instance WHERE sop_uid = ?",
            (header.sop_uid,),
        )
        if not rows:
            return "new"
        live = next((row for row in rows if not row[3]), None)
        if live is None or not live[0]:  # it lay elsewhere until now
            return "other"
        if live[0] != sha256 or live[1] != header.transfer_syntax_uid:
            return "conflict"
        return "other" if live[2] in RESTORABLE or live[4] else "duplicate"

    def ingest_many_tx(self, tx: Tx, arrived: Sequence[Arrived]) -> list[Ingested]:
        """As :meth:`ingest_tx` of each: a few statements for all that are content and were never here."""
        marks = ",".join("?" * len(arrived))
        sql = (
            f"SELECT sop_uid FROM instance WHERE sop_uid IN ({marks}) UNION ALL"
            f" SELECT sop_uid FROM rejection WHERE sop_uid IN ({marks})"
        )
        sop_uids = [header.sop_uid for header, _ in arrived]
        seen = {row[0] for row in tx.rows(sql, (*sop_uids, *sop_uids))}
        fresh, outcomes = list[Arrived](), dict[int, Ingested]()
        for place, (header, facts) in enumerate(arrived):
            if header.sop_uid not in seen and _kind(header) == "content":
                fresh.append((header, facts))
                seen.add(header.sop_uid)
                outcomes[place] = Ingested("stored", (header.study_uid,))
        self._insert_fresh_tx(tx, fresh)
        for place, (header, facts) in enumerate(arrived):
            if place not in outcomes:
                outcomes[place] = self.ingest_tx(tx, header, facts)
        return [outcomes[place] for place in range(len(arrived))]

    def _insert_fresh_tx(self, tx: Tx, fresh: Sequence[Arrived]) -> None:
        """Add visible instances, and count them by the rows that they change."""
        alike: dict[tuple[Any, ...], Counted] = {}
        changes: dict[str, list[float]] = {}
        for (header, facts), (_, *variants) in zip(fresh, self._write_tx(tx, fresh, ""), strict=True):
            key = (header.study_uid, header.series_uid, header.sop_class_uid, *variants)
            counted = Counted.of(header, variants[0], variants[1], facts.size_bytes)
            alike[key] = alike[key].and_more(counted) if key in alike else counted
            changes[header.study_uid] = [*changes.pop(header.study_uid, ()), facts.received_unix]
        for counted in alike.values():
            self._rows.add_tx(tx, counted)
        for study_uid, unix in changes.items():  # last what changed last
            self.marks.touch_tx(tx, study_uid, unix[-1], times=len(unix), first_unix=unix[0])

    def ingest_tx(self, tx: Tx, header: Header, facts: Facts) -> Ingested:
        """Add an instance (D23).

        A repeat of the same bytes changes nothing, or heals what is damaged here; other bytes under its UID
        are a conflict.
        """
        instances = tx.rows(
            "SELECT id, sha256, transfer_syntax_uid, hidden, binned FROM instance WHERE sop_uid = ?",
            (header.sop_uid,),
        )
        known = next((row for row in instances if not row[4]), None)
        if known is not None and not known[1] and facts.sha256:  # described until now: here it is
            self.forget_described_tx(tx, known[0])
            self.refresh_tx(tx, header.study_uid)
            instances, known = [row for row in instances if row is not known], None
        if known is not None:
            if known[1] != facts.sha256 or known[2] != header.transfer_syntax_uid:
                return Ingested("conflict")
            healed = healed_here_tx(tx, facts.sha256)
            if known[3] in RESTORABLE:
                tx.execute(
                    "UPDATE instance SET hidden = '', visible = (kind = 'content') WHERE id = ?", (known[0],)
                )
                tx.execute("DELETE FROM rejection WHERE sop_uid = ?", (header.sop_uid,))
                self._appeared_tx(tx, header, known[0])
                self.marks.touch_tx(tx, header.study_uid, facts.received_unix)
                return Ingested("restored", (header.study_uid,))
            return Ingested("restored" if healed else "duplicate")
        healed_here_tx(tx, facts.sha256)
        same = (facts.sha256, header.transfer_syntax_uid)
        revived = max(
            (row for row in instances if (row[1], row[2]) == same), key=lambda row: int(row[4]), default=None
        )
        hidden = self._rejected_tx(tx, header.sop_uid)
        if revived is not None:
            tx.execute(
                "UPDATE instance SET binned = 0, hidden = ?, visible = (kind = 'content' AND ? = ''),"
                " received_unix = ?, road = ?, peer = ? WHERE id = ?",
                (hidden, hidden, facts.received_unix, facts.received.road, facts.received.peer, revived[0]),
            )
            self._appeared_tx(tx, header, revived[0])
            self.marks.touch_tx(tx, header.study_uid, facts.received_unix)
            return Ingested("stored", (header.study_uid,))
        return self._insert_tx(tx, header, facts, hidden)

    def _insert_tx(self, tx: Tx, header: Header, facts: Facts, hidden: str) -> Ingested:
        ((_, study_variant, series_variant),) = self._write_tx(tx, [(header, facts)], hidden)
        kind = _kind(header)
        if kind == "note":
            return Ingested("stored", tuple(self._reject_tx(tx, header, facts.received_unix)))
        if kind != "content" or hidden:
            return Ingested("stored")
        self._rows.add_tx(tx, Counted.of(header, study_variant, series_variant, facts.size_bytes))
        self.marks.touch_tx(tx, header.study_uid, facts.received_unix)
        return Ingested("stored", (header.study_uid,))

    def _write_tx(self, tx: Tx, arrived: Sequence[Arrived], hidden: str) -> list[tuple[int, int, int]]:
        """Write instances, all hidden by ``hidden`` or none; id, study and series variant of each."""
        (last,) = tx.row("SELECT COALESCE(MAX(id), 0) FROM instance") or (0,)
        variants: dict[bytes, int] = {}
        written, rows = [], []
        for number, (header, facts) in enumerate(arrived, last + 1):
            of_study = self._variant_tx(tx, facts.study_json, variants)
            of_series = self._variant_tx(tx, facts.series_json, variants)
            written.append((number, of_study, of_series))
            rows.append((number, *_instance(header, facts, hidden), of_study, of_series))
        tx.insert_many("instance", _INSTANCE, rows)
        packed = metadata_rows.packed_tx(tx, [header for header, _ in arrived])
        numbered = [(number, *packed[n]) for n, (number, *_) in enumerate(written)]
        tx.insert_many("metadata", ("id", "zstd", "dictionary"), numbered)
        large = [
            (written[n][0], facts.large_zstd, int(header.large_unmeasured))
            for n, (header, facts) in enumerate(arrived)
            if facts.large_zstd
        ]
        tx.insert_many("large_metadata", ("id", "zstd", "unmeasured"), large)
        return written

    def _appeared_tx(self, tx: Tx, header: Header, instance: int) -> None:
        """Count an instance that was there, unseen, if it is seen now."""
        sql = "SELECT study_variant, series_variant, size_bytes FROM instance WHERE id = ? AND visible = 1"
        row = tx.row(sql, (instance,))
        if row is not None:
            self._rows.add_tx(tx, Counted.of(header, *row))

    def _variant_tx(self, tx: Tx, attributes: bytes, seen: dict[bytes, int]) -> int:
        if (known := seen.get(attributes)) is not None:
            return known
        digest = digest_of(attributes)
        row = tx.row("SELECT id FROM variant WHERE digest = ?", (digest,))
        if row is None:
            row = tx.row(
                "INSERT INTO variant (digest, attributes) VALUES (?, ?) RETURNING id", (digest, attributes)
            )
        assert row is not None  # noqa: S101 - RETURNING always gives a row
        seen[attributes] = int(row[0])
        return seen[attributes]

    def knows_whole_tx(self, tx: Tx, sha256: bytes) -> bool:
        """As :meth:`knows_content_tx`, and nothing is known to be wrong with it."""
        sql = f"SELECT {FAULTY} FROM instance WHERE sha256 = ? LIMIT 1"
        row = tx.row(sql, (sha256,))
        return row is not None and not row[0]

    def knows_content_tx(self, tx: Tx, sha256: bytes) -> bool:
        """Whether a row, live or in the bin, is kept in the file of this digest."""
        return tx.row("SELECT 1 FROM instance WHERE sha256 = ? LIMIT 1", (sha256,)) is not None

    def purge_tx(self, tx: Tx, number: int) -> None:
        """Forget an instance that is in the bin."""
        row = tx.row("SELECT study_uid, series_uid FROM instance WHERE id = ? AND binned > 0", (number,))
        if row is not None:
            tx.execute("DELETE FROM instance WHERE id = ?", (number,))
            metadata_rows.forget_tx(tx, number, *row)
            forget_strays_tx(tx)

    def forget_described_tx(self, tx: Tx, number: int) -> None:
        """Forget an instance that lies elsewhere; the study's rows are to be refreshed."""
        sql = "SELECT study_uid, series_uid FROM instance WHERE id = ? AND sha256 = x''"
        row = tx.row(sql, (number,))
        if row is not None:
            tx.execute("DELETE FROM instance WHERE id = ?", (number,))
            metadata_rows.forget_tx(tx, number, *row)

    # --- rejection notes (D16) ------------------------------------------------------------------------------

    def _rejected_tx(self, tx: Tx, sop_uid: str) -> str:
        """The code that hides an instance which arrives now, '' for none."""
        row = tx.row("SELECT code, here FROM rejection WHERE sop_uid = ?", (sop_uid,))
        if row is None:
            return ""
        if row[1] and row[0] in RESTORABLE:
            tx.execute("DELETE FROM rejection WHERE sop_uid = ?", (sop_uid,))
            return ""
        return str(row[0])

    def _reject_tx(self, tx: Tx, header: Header, now_unix: float) -> list[str]:
        """Hide what a note lists, also what is yet to come; the studies that changed."""
        changed: set[str] = set()
        for study_uid, _, sop_uid in header.references:
            row = tx.row("SELECT study_uid FROM instance WHERE sop_uid = ? AND binned = 0", (sop_uid,))
            code = self._weightier_tx(tx, sop_uid, header.rejection)
            tx.execute(
                "INSERT INTO rejection (sop_uid, study_uid, code, note_uid, here, received_unix) VALUES"
                " (?,?,?,?,?,?) ON CONFLICT (sop_uid) DO UPDATE SET code = excluded.code, note_uid ="
                " excluded.note_uid, here = excluded.here",
                (sop_uid, study_uid, code, header.sop_uid, int(row is not None), now_unix),
            )
            hidden = tx.execute(
                "UPDATE instance SET hidden = ?, visible = 0 WHERE sop_uid = ? AND binned = 0 AND"
                " visible = 1",
                (code, sop_uid),
            )
            tx.execute(
                "UPDATE instance SET hidden = ? WHERE sop_uid = ? AND binned = 0 AND hidden <> ''",
                (code, sop_uid),
            )
            if hidden and row is not None:
                changed.add(str(row[0]))
        for study_uid in sorted(changed):
            self.refresh_tx(tx, study_uid)
            self.marks.touch_tx(tx, study_uid, now_unix)
        return sorted(changed)

    @staticmethod
    def _weightier_tx(tx: Tx, sop_uid: str, code: str) -> str:
        """The rejection that counts from now on: one that a new receipt lifts takes the place of no other."""
        row = tx.row("SELECT code FROM rejection WHERE sop_uid = ?", (sop_uid,))
        return str(row[0]) if row is not None and code in RESTORABLE else code

    # --- study and series rows ------------------------------------------------------------------------------

    def refresh_tx(self, tx: Tx, study_uid: str) -> None:
        """Make the study's and its series' rows anew from the visible instances."""
        self._rows.refresh_tx(tx, study_uid)

    def variants_tx(self, tx: Tx, ids: Iterable[int]) -> dict[int, Attributes]:
        """Attribute sets by id."""
        return self._rows.variants_tx(tx, ids)


def json_of(blob: Any) -> Attributes:
    """Attributes as they rest in a row."""
    attributes: Attributes = orjson.loads(blob)
    return attributes
