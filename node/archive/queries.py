"""What is read from the archive's rows: records, objects, metadata, counts. Visible instances only (D16)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from crosslight.runtime.db import Row, Tx
from crosslight.standards.dicom.file.header import Attributes
from crosslight.standards.dicom.file.verdict import NOTES, Note, notes_of_bits
from crosslight.standards.dicom.record.record import Instance
from crosslight.standards.problem import NotFound
from crosslight.standards.study import InstanceRef
from node.archive.fault_rows import FAULTY
from node.archive.metadata_rows import DICTIONARY, PACKED, Expander
from node.archive.store import ArchiveStore, json_of
from node.holdings import StoredObject

_OBJECT = (
    "SELECT study_uid, series_uid, sop_uid, sop_class_uid, transfer_syntax_uid, number, frames, sha256,"
    " size_bytes, dataset_offset, pixel_offset, pixel_length, frame_bits, word_bytes, tiff_preamble, notes,"
    " EXISTS (SELECT 1 FROM large_metadata l WHERE l.id = instance.id AND l.unmeasured),"
    f" {FAULTY} FROM instance"
)


def instances_tx(tx: Tx, store: ArchiveStore, study_uid: str) -> list[Instance]:
    """The visible instances of a study for :func:`crosslight.standards.dicom.record.build`."""
    rows = tx.rows(
        "SELECT series_uid, sop_uid, sop_class_uid, sha256, study_variant, series_variant FROM instance "
        "WHERE study_uid = ? AND visible = 1",
        (study_uid,),
    )
    sets = store.variants_tx(tx, {v for row in rows for v in (row[4], row[5])})
    return [
        Instance(
            series_uid=row[0],
            sop_uid=row[1],
            sop_class_uid=row[2],
            sha256=row[3].hex(),
            study=sets[row[4]],
            series=sets[row[5]],
        )
        for row in rows
    ]


def _which(study_uid: str, series_uid: str, sop_uid: str) -> tuple[str, tuple[str, ...]]:
    """Conditions and parameters.

    An instance is looked up by its own UID: the ``+`` keeps SQLite, which would take the index of two
    columns to be better, from reading its whole series.
    """
    off = "+" if sop_uid else ""
    given = [
        (f"{off}study_uid", study_uid),
        (f"{off}series_uid", series_uid),
        ("sop_uid", sop_uid),
    ]
    used = [(column, uid) for column, uid in given if uid]
    return " AND ".join(f"{column} = ?" for column, _ in used), tuple(uid for _, uid in used)


def objects_tx(tx: Tx, study_uid: str, series_uid: str, sop_uid: str) -> list[StoredObject]:
    """Visible objects in a fixed order: by series, number, UID."""
    where, params = _which(study_uid, series_uid, sop_uid)
    rows = tx.rows(f"{_OBJECT} WHERE visible = 1 AND {where}", params)
    rows.sort(key=lambda row: (row[1], _number(row[5]), row[2]))
    return [_object(row) for row in rows]


def metadata_tx(tx: Tx, sop_uids: Sequence[str], *, large: bool = True) -> list[bytes]:
    """The DICOM JSON of these visible instances; ``large``: with their large sequences.

    Raises:
        NotFound: one of them is not there.
    """
    marks = ",".join("?" * len(sop_uids))
    rows = tx.rows(
        f"SELECT i.sop_uid, l.zstd, {PACKED} FROM instance i JOIN metadata m ON m.id = i.id {DICTIONARY}"
        " LEFT JOIN large_metadata l ON l.id = i.id WHERE i.visible = 1 AND i.sop_uid IN"
        f" ({marks})",
        sop_uids,
    )
    if len(rows) != len(sop_uids):
        raise NotFound("An instance is no longer held here.", todo="Search again.")
    expander, json_by_uid = Expander(), {}
    for sop_uid, large_zstd, *packed in rows:
        text = expander.expand(*packed)
        if large and large_zstd is not None:
            text = text[:-1] + b"," + expander.expand(large_zstd)[1:]
        json_by_uid[sop_uid] = text
    return [json_by_uid[sop_uid] for sop_uid in sop_uids]


def study_attributes_tx(tx: Tx, study_uid: str) -> Attributes:
    """The attributes of a study's row; {} when nothing of it is visible."""
    row = tx.row("SELECT attributes FROM study WHERE study_uid = ?", (study_uid,))
    return json_of(row[0]) if row is not None else {}


def variants_of_tx(tx: Tx, store: ArchiveStore, study_uids: Sequence[str]) -> list[tuple[str, Attributes]]:
    """(study UID, attributes) of every distinct header that the visible instances of these studies have."""
    variants: list[tuple[str, int]] = []
    for start in range(0, len(study_uids), 400):
        page = study_uids[start : start + 400]
        marks = ",".join("?" * len(page))
        sql = (
            "SELECT DISTINCT study_uid, study_variant FROM instance WHERE visible = 1 AND study_uid IN"
            f" ({marks})"
        )
        variants += [(row[0], row[1]) for row in tx.rows(sql, page)]
    sets = store.variants_tx(tx, {variant for _, variant in variants})
    return [(study_uid, sets[variant]) for study_uid, variant in variants]


def was_here_tx(tx: Tx, study_uid: str, series_uid: str, sop_uid: str) -> bool:
    """Whether something of it lies in the bin or is hidden by a rejection note."""
    where, params = _which(study_uid, series_uid, sop_uid)
    return (
        tx.row(f"SELECT 1 FROM instance WHERE visible = 0 AND kind = 'content' AND {where} LIMIT 1", params)
        is not None
    )


def study_uids_tx(tx: Tx, after: str, limit: int) -> list[str]:
    """Studies with something visible, in the order of their UIDs."""
    return [
        row[0]
        for row in tx.rows(
            "SELECT study_uid FROM study WHERE study_uid > ? ORDER BY study_uid LIMIT ?", (after, limit)
        )
    ]


_COUNTS = (
    "studies", "series", "instances", "hidden", "notes", "binned", "quarantined", "quarantined_bytes",
    "object_bytes",
)  # fmt: skip


def counts_tx(tx: Tx) -> dict[str, int]:
    """What :class:`~node.archive.model.ArchiveStatus` counts, by its names."""
    row = tx.row(
        "SELECT (SELECT COUNT(*) FROM study), (SELECT COUNT(*) FROM series), (SELECT"
        " COALESCE(SUM(n_instances), 0) FROM study), (SELECT COUNT(*) FROM instance WHERE visible = 0 AND"
        " binned = 0 AND hidden <> ''), (SELECT COUNT(*) FROM instance WHERE visible = 0 AND binned = 0 AND"
        " kind <> 'content'), (SELECT COUNT(*) FROM instance WHERE visible = 0 AND binned > 0), (SELECT"
        " COUNT(*) FROM quarantine), (SELECT COALESCE(SUM(size_bytes), 0) FROM quarantine), (SELECT"
        " COALESCE(SUM(size_bytes), 0) FROM study)"
    )
    assert row is not None  # noqa: S101 - an aggregate always gives a row
    return dict(zip(_COUNTS, row, strict=True))


def _number(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) < 12 else 1 << 40


def _object(row: Row) -> StoredObject:
    ref = InstanceRef(
        study_uid=row[0],
        series_uid=row[1],
        sop_uid=row[2],
        sop_class_uid=row[3],
        transfer_syntax_uid=row[4],
        number=row[5],
        frames=row[6],
        sha256=row[7].hex(),
        size_bytes=row[8],
    )
    return StoredObject(
        ref=ref,
        # padding that came after the data set is only kept; of what lies elsewhere nothing is known
        size=row[9] + row[8] if row[7] else None,
        pixel_offset=row[10],
        pixel_length=row[11],
        frame_bits=row[12],
        word_bytes=row[13],
        preamble_is_tiff=bool(row[14]),
        notes=row[15],
        unmeasured=bool(row[16]) or not row[7],
        damaged=bool(row[17]),
    )


_NOTED = "notes <> 0 AND visible = 1"


def note_counts_tx(tx: Tx) -> list[tuple[Note, int]]:
    """How many studies have each note; those that none has are left out."""
    counts = []
    for place, note in enumerate(NOTES):
        row = tx.row(
            f"SELECT COUNT(DISTINCT study_uid) FROM instance WHERE {_NOTED} AND notes & ?", (1 << place,)
        )
        if row is not None and row[0]:
            counts.append((note, int(row[0])))
    return counts


def noted_tx(tx: Tx, after: str, limit: int) -> list[tuple[str, tuple[Note, ...]]]:
    """The next studies that have notes, after one of them, in the order of their UIDs."""
    rows = tx.rows(
        f"SELECT DISTINCT study_uid, notes FROM instance WHERE {_NOTED} AND study_uid IN (SELECT DISTINCT"
        f" study_uid FROM instance WHERE {_NOTED} AND study_uid > ? ORDER BY study_uid LIMIT ?)",
        (after, limit),
    )
    bits_of: dict[str, int] = {}
    for study_uid, bits in rows:
        bits_of[study_uid] = bits_of.get(study_uid, 0) | bits
    return [(study_uid, notes_of_bits(bits)) for study_uid, bits in sorted(bits_of.items())]


def live_tx(tx: Tx, page: int = 500) -> Iterator[tuple[str, str, bytes, int, int]]:
    """(study UID, SOP UID, digest, data set offset, its size) of every instance there is.

    The bin's and hidden ones too.
    """
    after = 0
    while rows := tx.rows(
        "SELECT id, study_uid, sop_uid, sha256, dataset_offset, size_bytes FROM instance WHERE id > ? AND"
        " sha256 <> x'' ORDER BY id LIMIT ?",
        (after, page),
    ):
        for row in rows:
            yield row[1], row[2], row[3], row[4], row[5]
        after = rows[-1][0]
