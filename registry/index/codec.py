"""How a publication rests in a row: a compact array, compressed with a versioned dictionary (D5, scale.md 1).

Digests do not compress and lie before the compressed part as they are. Ids that follow from the member's
secret, the study and the version (D9) are not stored. What our templates do not say (D6) goes into a second
blob, empty for our own nodes. Formats are numbered and never dropped. Pure but for the compressors, one set
per thread.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, TypeVar

import msgspec
import orjson
import zstandard

from crosslight.standards.ids import DerivedId, Kind, Version, id_family, study_tag
from crosslight.standards.problem import StorageError
from crosslight.standards.study import (
    ManifestFacts,
    Patient,
    StudyRecord,
    patient_from_json,
    patient_to_json,
    record_from_json,
    record_to_json,
)
from crosslight.standards.xds.model.publication import Publication, Source, Status
from registry.index.study_arrays import Raw, StoredPublication, StoredStudy, study_array, study_of

FORMAT = 1
LEVEL = 3  # 9 takes 11 bytes of a mean study off and 25 us more
MAX_UNPACKED = 32 << 20  # bytes; a study of 50,000 series is smaller
_ID_KINDS = (
    ("entry_uuid", Kind.DOCUMENT_ENTRY, False),
    ("submission_uuid", Kind.SUBMISSION_SET, False),
    ("submission_uid", Kind.SUBMISSION, True),
    ("has_member_uuid", Kind.HAS_MEMBER, False),
    ("document_uid", Kind.DOCUMENT, True),
)
_STATED = (
    *(name for name, _, _ in _ID_KINDS if name != "document_uid"),
    "replaces_entry_uuid",
    "replaces_uuid",
)


_PLAIN = msgspec.json.Decoder(Any)
_STUDY = msgspec.json.Decoder(StoredStudy)
_PUBLICATION = msgspec.json.Decoder(StoredPublication)
T = TypeVar("T")


class Compressor:
    """zstd with the dictionary of :data:`FORMAT`, usable from any thread."""

    def __init__(self) -> None:
        trained = resources.files("registry.index").joinpath(f"dictionary_{FORMAT}.zdict").read_bytes()
        self._dictionary = zstandard.ZstdCompressionDict(trained)
        self._parameters = zstandard.ZstdCompressionParameters.from_level(
            LEVEL,
            format=zstandard.FORMAT_ZSTD1_MAGICLESS,
            write_content_size=True,
            write_checksum=False,
            write_dict_id=False,
        )
        self._dictionary.precompute_compress(compression_params=self._parameters)
        self._local = threading.local()

    def _pair(self) -> tuple[zstandard.ZstdCompressor, zstandard.ZstdDecompressor]:
        pair: tuple[zstandard.ZstdCompressor, zstandard.ZstdDecompressor] | None = getattr(
            self._local, "pair", None
        )
        if pair is None:
            pair = self._local.pair = (
                zstandard.ZstdCompressor(dict_data=self._dictionary, compression_params=self._parameters),
                zstandard.ZstdDecompressor(
                    dict_data=self._dictionary, format=zstandard.FORMAT_ZSTD1_MAGICLESS
                ),
            )
        return pair

    def pack(self, value: Any, raw: bytes = b"") -> bytes:
        """``value`` as JSON, compressed, behind ``raw``."""
        return bytes([FORMAT]) + _varint(len(raw)) + raw + self._pair()[0].compress(orjson.dumps(value))

    def unpack(self, blob: bytes, decoder: msgspec.json.Decoder[T]) -> tuple[T, bytes]:
        """The inverse of :meth:`pack`, of the decoder's type.

        Raises:
            StorageError: for a format of a later release.
        """
        if blob[0] != FORMAT:
            raise StorageError(
                "A row of the index is in a format of a later release.", todo="Run the newer release."
            )
        length, start = _read_varint(blob, 1)
        body = self._pair()[1].decompress(blob[start + length :], max_output_size=MAX_UNPACKED)
        return decoder.decode(body), blob[start : start + length]


def _varint(n: int) -> bytes:
    out = bytearray()
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def _read_varint(blob: bytes, at: int) -> tuple[int, int]:
    n = shift = 0
    while True:
        byte = blob[at]
        at += 1
        n |= (byte & 0x7F) << shift
        if byte < 0x80:
            return n, at
        shift += 7


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicationRow:
    """A publication as its row holds it; the patient is apart.

    ``body`` and ``extra`` (b'' for none), and the ids that are stated.
    """

    body: bytes
    extra: bytes
    ids: dict[str, str] = field(default_factory=dict)


class Codec:
    """Rows to publications and back."""

    def __init__(self) -> None:
        self._zstd = Compressor()

    # --- publications ---------------------------------------------------------------------------------------

    def encode(
        self,
        publication: Publication,
        digest: str,
        version: Version | None,
        secret: bytes,
        united: StudyRecord | None = None,
    ) -> PublicationRow:
        """The blobs of a publication in a row whose version column says ``version``.

        ``united`` is what the row shows instead.
        """
        own, manifest = publication.version, publication.manifest
        body, raw, ids = publication_array(publication, digest, secret)
        extra: dict[str, Any] = {}
        if own != version:
            extra["v"] = str(own) if own else ""
        if ids:
            extra["i"] = ids
        if manifest.extra:
            extra["m"] = manifest.extra
        if publication.extras:
            extra["x"] = publication.extras
        if united is not None:
            extra["u"] = {name: value for name, value in record_to_json(united).items() if name != "patient"}
        return PublicationRow(
            body=self._zstd.pack(body, raw), extra=self._zstd.pack(extra) if extra else b"", ids=ids
        )

    def decode(
        self,
        stored: PublicationRow,
        version: Version | None,
        patient: Patient,
        source: Source,
        secret: bytes,
        status: Status,
    ) -> tuple[Publication, str]:
        """The publication and its content digest."""
        row, data = self._zstd.unpack(stored.body, _STUDY)
        extra = self._zstd.unpack(stored.extra, _PLAIN)[0] if stored.extra else {}
        raw = Raw(data)
        digest, sha1 = raw.lower(row.digest), raw.lower(row.sha1)
        if "v" in extra:
            version = Version.parse(extra["v"]) if extra["v"] else None
        ids = unfold_ids(extra.get("i", {}), version, row.replaces, secret, row.study_uid)
        manifest = ManifestFacts(
            document_uid=ids.pop("document_uid"),
            sha1=sha1,
            size_bytes=row.size_bytes,
            creation_time=row.created if isinstance(row.created, str) else row.submitted,
            extra=extra.get("m", {}),
        )
        publication = Publication(
            source=source,
            record=study_of(row, raw, patient),
            manifest=manifest,
            version=version,
            submission_time=row.submitted,
            status=status,
            extras=extra.get("x", {}),
            **ids,
        )
        return publication, digest

    def united(self, extra: bytes, patient: Patient) -> StudyRecord:
        """What a row of several entries shows (``rows.UNITED``)."""
        return record_from_json(
            {**self._zstd.unpack(extra, _PLAIN)[0]["u"], "patient": patient_to_json(patient)}
        )

    def study_uid(self, body: bytes) -> str:
        """The study of a row, without the rest."""
        return self._zstd.unpack(body, _PUBLICATION)[0].study_uid

    # --- patients as submitted, and other plain data --------------------------------------------------------

    def encode_patient(self, patient: Patient) -> bytes:
        """A patient as submitted."""
        return self.encode_plain(patient_to_json(patient))

    def decode_patient(self, blob: bytes) -> Patient:
        """The inverse of :meth:`encode_patient`."""
        return patient_from_json(self.decode_plain(blob))

    def encode_plain(self, value: Any) -> bytes:
        """Any plain data."""
        return self._zstd.pack(value)

    def decode_plain(self, blob: bytes) -> Any:
        """The inverse of :meth:`encode_plain`."""
        return self._zstd.unpack(blob, _PLAIN)[0]


def publication_array(
    publication: Publication, digest: str, secret: bytes
) -> tuple[list[Any], bytes, dict[str, str]]:
    """What is compressed, what lies raw before it, and the ids that must be stated."""
    raw, manifest = Raw(), publication.manifest
    replaces, ids = fold_ids(publication, secret)
    body = [
        publication.record.study_uid,
        raw.lift(digest),
        raw.lift(manifest.sha1),
        manifest.size_bytes,
        0 if manifest.creation_time == publication.submission_time else manifest.creation_time,
        publication.submission_time,
        replaces,
        *study_array(publication.record, raw),
    ]
    return body, bytes(raw.data), ids


# --- ids (D9) -----------------------------------------------------------------------------------------------


def derived_ids(version: Version, replaces: Version | None, tag: bytes) -> dict[str, str]:
    """Every id of a publication of ours: fields of Publication, and ``document_uid``."""
    own = id_family(version, tag)
    ids = {name: own.uid(kind) if is_uid else own.urn(kind) for name, kind, is_uid in _ID_KINDS}
    ids["replaces_entry_uuid"] = id_family(replaces, tag).urn(Kind.DOCUMENT_ENTRY) if replaces else ""
    ids["replaces_uuid"] = own.urn(Kind.REPLACES) if replaces else ""
    return ids


def publication_ids(publication: Publication) -> dict[str, str]:
    """The ids as the publication states them."""
    return {
        "document_uid": publication.manifest.document_uid,
        **{name: getattr(publication, name) for name in _STATED},
    }


def fold_ids(publication: Publication, secret: bytes) -> tuple[Any, dict[str, str]]:
    """What is replaced, as a version where it is one of ours, and the ids that do not follow from it."""
    stated = publication_ids(publication)
    if publication.version is None:
        return 0, stated
    own = tag = study_tag(secret, publication.record.study_uid)
    if publication.entry_uuid != id_family(publication.version, own).urn(Kind.DOCUMENT_ENTRY):
        entry = DerivedId.parse(publication.entry_uuid)
        tag = entry.tag if entry is not None else own
    target = DerivedId.parse(publication.replaces_entry_uuid) if publication.replaces_entry_uuid else None
    replaced = target.version if target is not None and target.tag == tag else None
    derived = derived_ids(publication.version, replaced, tag)
    different = {name: value for name, value in stated.items() if derived[name] != value}
    if tag != own:
        different["tag"] = tag.hex()
    return [replaced.epoch, replaced.n] if replaced else 0, different


def unfold_ids(
    folded: dict[str, str], version: Version | None, replaces: Any, secret: bytes, study_uid: str
) -> dict[str, str]:
    """Every id again: fields of Publication, and ``document_uid``."""
    if version is None:
        return dict(folded)
    stated = dict(folded)
    tag = bytes.fromhex(stated.pop("tag")) if "tag" in stated else study_tag(secret, study_uid)
    return {**derived_ids(version, Version(*replaces) if replaces else None, tag), **stated}
