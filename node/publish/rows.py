"""How the values of ``model.py`` rest in the tables: one place for the order of columns."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import orjson
import zstandard

from crosslight.runtime.db import Row
from crosslight.standards.ids import Identifier, Version
from crosslight.standards.study import ManifestFacts, StudyRecord, record_from_json, record_to_json
from node.publish.model import Acked, Delivery, Revision, Want

MAX_BYTES = 256 << 20  # of one record or manifest unpacked


def identifier_text(identifier: Identifier) -> str:
    """An identifier as a column."""
    return orjson.dumps(asdict(identifier)).decode()


def identifier_of(text: str) -> Identifier:
    """The inverse of :func:`identifier_text`."""
    return Identifier(**orjson.loads(text))


def pack(data: bytes) -> bytes:
    """A record or manifest compressed (zstd), as it rests in a column."""
    return zstandard.ZstdCompressor(level=3).compress(data)


def unpack(data: bytes) -> bytes:
    """The inverse of :func:`pack`."""
    return zstandard.ZstdDecompressor().decompress(data, max_output_size=MAX_BYTES)


def pack_record(record: StudyRecord) -> bytes:
    """A record as a column."""
    return pack(orjson.dumps(record_to_json(record)))


WANT = "want, epoch, n, digest, patient"


def want_of(row: Row) -> Want:
    """From the columns :data:`WANT`."""
    kind, epoch, n, digest, patient = row
    return Want(kind=kind, version=Version(epoch, n), digest=digest, patient=identifier_of(patient))


def want_values(want: Want) -> tuple[Any, ...]:
    """For the columns :data:`WANT`."""
    return (want.kind, want.version.epoch, want.version.n, want.digest, identifier_text(want.patient))


SENT = "sent, sent_epoch, sent_n, sent_replaces"


def sent_of(row: Row) -> Delivery | None:
    """From the columns :data:`SENT`."""
    kind, epoch, n, replaces = row
    if not kind:
        return None
    return Delivery(
        kind=kind, version=Version(epoch, n), replaces=Version.parse(replaces) if replaces else None
    )


def sent_values(act: Delivery | None) -> tuple[Any, ...]:
    """For the columns :data:`SENT`."""
    if act is None:
        return ("", 0, 0, "")
    return (act.kind, act.version.epoch, act.version.n, str(act.replaces) if act.replaces else "")


ACKED = "epoch, n, digest, sha1, status, patient, chain"


def acked_of(row: Row) -> Acked:
    """From the columns :data:`ACKED`."""
    epoch, n, digest, sha1, status, patient, chain = row
    return Acked(
        version=Version(epoch, n),
        digest=digest,
        sha1=sha1,
        status=status,
        patient=identifier_of(patient),
        chain=tuple(Version.parse(text) for text in chain.split()),
    )


def acked_values(acked: Acked) -> tuple[Any, ...]:
    """For the columns :data:`ACKED`."""
    chain = " ".join(str(version) for version in acked.chain)
    patient = identifier_text(acked.patient)
    return (acked.version.epoch, acked.version.n, acked.digest, acked.sha1, acked.status, patient, chain)


REVISION = (
    "epoch, n, study_uid, document_uid, sha1, size_bytes, creation_time, submission_time, digest, patient,"
    " record"
)


def revision_of(row: Row) -> Revision:
    """From the columns :data:`REVISION`."""
    epoch, n, study_uid, document_uid, *facts, submission_time, digest, patient, record = row
    sha1, size_bytes, creation_time = facts
    return Revision(
        version=Version(epoch, n),
        study_uid=study_uid,
        manifest=ManifestFacts(
            document_uid=document_uid, sha1=sha1, size_bytes=size_bytes, creation_time=creation_time
        ),
        submission_time=submission_time,
        digest=digest,
        patient=identifier_of(patient),
        record=record_from_json(orjson.loads(unpack(record))) if record is not None else None,
    )


def revision_values(revision: Revision) -> tuple[Any, ...]:
    """For the columns :data:`REVISION`."""
    facts = revision.manifest
    return (
        revision.version.epoch,
        revision.version.n,
        revision.study_uid,
        facts.document_uid,
        facts.sha1,
        facts.size_bytes,
        facts.creation_time,
        revision.submission_time,
        revision.digest,
        identifier_text(revision.patient),
        pack_record(revision.record) if revision.record is not None else None,
    )
