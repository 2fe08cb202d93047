"""The columns of the index's tables as values, and their small encodings. No SQL runs here."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, TypeVar

from crosslight.runtime.db import Tx
from crosslight.standards.ids import DerivedId, MemberId, Version, hash8, study_tag
from crosslight.standards.study import StudyRecord, StudyTime
from crosslight.standards.xds.model.publication import Publication
from registry.identity.model import RecordKey
from registry.index.model import Holding

T = TypeVar("T")
RowKey = tuple[int, int, int]  # of ``holding``: patient record, hash of the study's UID, member
# Bits of holding.flags
DEPRECATED = 1
ARRIVING = 2
OTHER_DIGEST = 4  # the digest is not the holder's own
UNITED = 8  # made of several entries
UNDATED = -(1 << 40)  # holding.started of a study without a readable date: sorts last
DATED = UNDATED + 1  # the least start that is one
DAY_S = 86400
_CHUNK = 500  # values in one IN list
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: Bits of holding.modalities; any other modality is OTHER. Never renumber.
_MODALITIES = (
    "CR",
    "CT",
    "DX",
    "MG",
    "MR",
    "NM",
    "OT",
    "PT",
    "US",
    "XA",
    "RF",
    "SR",
    "PR",
    "KO",
    "SEG",
    "ECG",
    "ES",
    "IO",
    "PX",
    "RTIMAGE",
    "RTSTRUCT",
    "RTPLAN",
    "RTDOSE",
    "SC",
    "XC",
    "OP",
    "OPT",
    "DOC",
    "BMD",
)
_BITS = {name: 1 << i for i, name in enumerate(_MODALITIES)}
_OTHER = 1 << len(_MODALITIES)

HOLDING_COLUMNS = (
    "record_key",
    "study_hash",
    "started",
    "updated",
    "version",
    "revision",
    "member_id",
    "modalities",
    "patient_n",
    "flags",
    "body",
    "extra",
)
NAME_COLUMNS = ("tag_hash", "fhir_hash", "accession_hash")


def names_in_row(tx: Tx) -> bool:
    """Whether the names that every study has are columns of ``holding``, each with an index.

    Otherwise all names are locators.
    """
    return not tx.dialect.lean_rows


class HoldingRow(NamedTuple):
    """A row of ``holding``."""

    record_key: int
    study_hash: int
    started: int
    updated: int
    version: int
    revision: int
    member_id: int
    modalities: int
    patient_n: int
    flags: int
    body: bytes
    extra: bytes

    @property
    def key(self) -> RowKey:
        """The primary key."""
        return (self.record_key, self.study_hash, self.member_id)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A row and what it says."""

    row: HoldingRow
    holding: Holding

    @property
    def version(self) -> Version | None:
        """Of the newest act on it (D10), which may be a change of availability."""
        return version_of(self.row.version)

    @property
    def own_digest(self) -> bool:
        """Whether the content digest is the holder's own; ITI-42 carries none."""
        return not self.row.flags & OTHER_DIGEST


@dataclass(frozen=True, slots=True, kw_only=True)
class Tombstone:
    """What is left of a holding that was withdrawn or moved: hashes, its version and its revision."""

    record_hash: int
    version: int
    revision: int


def version_int(version: Version | None) -> int:
    """A version as it orders; -1 for none."""
    return -1 if version is None else version.epoch << 24 | version.n


def version_of(value: int) -> Version | None:
    """The inverse of :func:`version_int`."""
    return None if value < 0 else Version(value >> 24, value & 0xFFFFFF)


def to_ms(moment: datetime) -> int:
    """A moment as Unix milliseconds."""
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def from_ms(value: int) -> datetime:
    """The inverse of :func:`to_ms`."""
    return _EPOCH + timedelta(milliseconds=value)


def to_s(moment: datetime) -> int:
    """Unix seconds, rounded down."""
    return (moment - _EPOCH) // timedelta(seconds=1)


def started_of(time: StudyTime) -> int:
    """The column ``started`` of a study's time."""
    interval = time.interval()
    return to_s(interval[0]) if interval is not None else UNDATED


def modality_bits(modalities: Iterable[str]) -> int:
    """The column ``modalities``; a query's bits have one in common with every row that could match."""
    bits = 0
    for name in modalities:
        bits |= _BITS.get(name.strip().upper(), _OTHER)
    return bits


# --- locators (D13) -----------------------------------------------------------------------------------------


def tag_hash(tag: bytes) -> int:
    """Of the 80 bits in all derived ids of one study of one member (D9)."""
    return hash8("t" + tag.hex())


def fhir_hash(fhir_id: str) -> int:
    """Of a holding's FHIR id."""
    return hash8("f" + fhir_id)


NO_RECORD = 0  # keys of records are positive


def issuer_hash(authority: str) -> int:
    """The hash of an issuer of accession numbers.

    Its locator is under no record (0) and says that there is a number of it.
    """
    return hash8("i" + authority)


def accession_hash(value: str) -> int:
    """Of an accession number, whatever its issuer: verified on read."""
    return hash8("a" + value)


def name_hash(name: str) -> int:
    """Of an XDS entry UUID or unique id: of one of ours its tag's, else its own."""
    derived = DerivedId.parse(name)
    return tag_hash(derived.tag) if derived is not None else hash8("e" + name)


@dataclass(frozen=True, slots=True)
class Names:
    """Every hash under which a holding must be found, beside its study's; 0 where there is no such name."""

    tag: int
    fhir: int
    accession: int  # the first
    more: frozenset[int]  # further accessions, ids that a foreign source gave

    def all(self) -> set[int]:
        """All of them."""
        return ({self.tag, self.fhir, self.accession} | self.more) - {0}


def row_names(
    publication: Publication, record: StudyRecord, fhir_id: str, stated: dict[str, str], secret: bytes
) -> Names:
    """The names of a holding that shows ``record``.

    ``stated`` are the ids that do not follow from version and tag (``codec.fold_ids``): each is a name of its
    own.
    """
    tag = 0
    if publication.version is not None:
        tag = tag_hash(
            bytes.fromhex(stated["tag"]) if "tag" in stated else study_tag(secret, record.study_uid)
        )
    accessions = [accession_hash(a.value) for a in record.accessions]
    more = set(accessions[1:])
    more |= {
        name_hash(value)
        for name, value in stated.items()
        if value and name not in ("replaces_entry_uuid", "tag")
    }
    return Names(tag, fhir_hash(fhir_id), accessions[0] if accessions else 0, frozenset(more))


# --- IN lists -----------------------------------------------------------------------------------------------


def chunks(values: Collection[T], size: int = _CHUNK) -> Iterator[Sequence[T]]:
    """Slices short enough for an IN list, in a stable order."""
    ordered = sorted(set(values))  # type: ignore[type-var]  # numbers, texts, or tuples of them
    for start in range(0, len(ordered), size):
        yield ordered[start : start + size]


def marks(values: Sequence[Any]) -> str:
    """``?,?,?``."""
    return ",".join("?" * len(values))


def holding_row(row: Sequence[Any]) -> HoldingRow:
    """A row of a SELECT of :data:`HOLDING_COLUMNS`."""
    return HoldingRow._make((*row[:10], bytes(row[10]), bytes(row[11])))


def record_hash(key: RecordKey | int) -> int:
    """Of a record key, for tombstones."""
    return hash8(f"r{key}")


def member_key(member: MemberId | None) -> int:
    """A member column that is never null."""
    return int(member) if member is not None else 0
