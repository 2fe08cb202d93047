"""STOW-RS (PS3.18 10.5): instances streamed part by part into the archive's staging, each with its own fate.

An instance is answered as stored only after the archive says that it is durable. A part that fails does not
stop the others.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field

import orjson
from aiohttp import hdrs, web

from crosslight.runtime.audit import Act
from crosslight.runtime.http import CALLER, timely_chunks
from crosslight.runtime.log import get_logger
from crosslight.standards.dicom.file.gate import meta_text, missing_head, read_meta
from crosslight.standards.dicom.web import json
from crosslight.standards.dicom.web.accept import DICOM
from crosslight.standards.dicom.web.multipart import (
    PartBegin,
    PartData,
    RelatedReader,
    boundary_of,
    parameters,
)
from crosslight.standards.problem import (
    CrosslightError,
    Malformed,
    OutOfSpace,
    PeerError,
    StorageError,
    TooLarge,
    UnsupportedMediaType,
    kind_as_sentence,
)
from node.holdings import Arriving, IngestResult, Received, Staging
from node.serve.context import ServeContext, share_at
from node.serve.qido import uids_of

log = get_logger("serve")

#: Failure Reason (0008,1197) of PS3.18 Table I.2-2 where the archive's own status says nothing better.
OUT_OF_RESOURCES = 0xA700
CANNOT_UNDERSTAND = 0xC000
PROCESSING_FAILURE = 0x0110
_READ, _HEAD = 1 << 20, 4096
BURST = 1 << 20  # bytes of a body that a thread works at while as many come


@dataclass(slots=True)
class Fate:
    """What became of one part."""

    stored: bool = False
    full: bool = False
    reason: int = PROCESSING_FAILURE
    sop_class_uid: str = ""
    sop_uid: str = ""
    study_uid: str = ""
    series_uid: str = ""


@dataclass(slots=True)
class _Part:
    """A part that is being received."""

    staged: Staging | None
    fate: Fate = field(default_factory=Fate)
    head: bytes = b""
    size: int = 0
    begun: bool = False

    def drop(self, reason: int, *, full: bool = False) -> None:
        """Give this part up; its other bytes are read and forgotten."""
        if self.staged is not None:
            self.staged.discard()
        self.staged, self.fate.reason, self.fate.full = None, reason, full


class _Instances:
    """The instances of one request, cut, written and taken in: in one thread at a time, off the event loop.

    Args:
        serve: Where they go, and their bounds.
        received: Whence they come, with the study of the address.
        audited: Waits until the audit's act is committed, without which no instance is taken in.
        reader: Cuts the body; None: it is one instance, whose media type is ``media``.
    """

    def __init__(
        self,
        serve: ServeContext,
        received: Received,
        audited: Arriving,
        reader: RelatedReader | None,
        media: str = "",
    ) -> None:
        self._holdings, self._config, self._audited = serve.holdings, serve.config, audited
        self._received, self._reader, self._media = received, reader, media
        self._open: _Part | None = None
        self._lock = threading.Lock()  # a request that is cancelled does not wait for its thread
        self.fates: list[Fate] = []

    def take(self, chunks: Sequence[bytes]) -> None:
        """The next bytes of the body.

        Raises:
            Malformed, TooLarge: it is no such body.
        """
        with self._lock:
            for chunk in chunks:
                self._take(chunk)

    def _take(self, chunk: bytes) -> None:
        if self._reader is None:
            if self._open is None:
                self._begin(self._media)
            self._data(chunk)
            return
        for event in self._reader.feed(chunk):
            if isinstance(event, PartBegin):
                self._begin(event.headers.get("content-type", DICOM))
            elif isinstance(event, PartData):
                self._data(event.data)
            else:
                self._end()

    def close(self) -> None:
        """The body has ended.

        Raises:
            Malformed: too early.
        """
        if self._reader is not None:
            self._reader.close()
            return
        if self._open is None:
            self._begin(self._media)
        self._end()

    def give_up(self) -> None:
        """What has begun does not end."""
        with self._lock:
            if self._open is not None:
                self._open.drop(CANNOT_UNDERSTAND)

    def _begin(self, content_type: str) -> None:
        part = self._open = _Part(None)
        if parameters(content_type)[0] != DICOM:
            part.fate.reason = CANNOT_UNDERSTAND
            return
        try:
            part.staged = self._holdings.stage()
        except StorageError as error:
            part.drop(OUT_OF_RESOURCES, full=isinstance(error, OutOfSpace))

    def _data(self, data: bytes | memoryview) -> None:
        part = self._open
        if part is None or part.staged is None:
            return
        part.size += len(data)
        if part.size > self._config.max_instance_bytes:
            part.drop(OUT_OF_RESOURCES)
            return
        if not part.begun:
            missing = _HEAD - len(part.head)
            part.head += data[:missing]
            if len(part.head) < _HEAD:
                return
            self._write(part, self._begun(part) + part.head)
            data = data[missing:]
        self._write(part, data)

    @staticmethod
    def _begun(part: _Part) -> bytes:
        part.begun = True
        return missing_head(part.head)

    def _write(self, part: _Part, data: bytes | memoryview) -> None:
        if part.staged is None:
            return
        try:
            part.staged.write(data)
        except (StorageError, TooLarge) as error:
            part.drop(OUT_OF_RESOURCES, full=isinstance(error, OutOfSpace))

    def _end(self) -> None:
        part, self._open = self._open, None
        if part is None:
            return
        if not part.begun:
            self._write(part, self._begun(part) + part.head)
        _name(part)
        self.fates.append(self._ingested(part))

    def _ingested(self, part: _Part) -> Fate:
        fate, staged = part.fate, part.staged
        if staged is None:
            return fate
        try:
            result = self._holdings.ingest(staged, self._received, self._audited)
        except CrosslightError as error:
            fate.full = isinstance(error, OutOfSpace)
            fate.reason = OUT_OF_RESOURCES if isinstance(error, StorageError) else CANNOT_UNDERSTAND
            return fate
        except Exception:
            log.exception("store")
            return Fate()
        finally:
            staged.discard()
        return _judged(fate, result)


class _Receiver:
    """Receives the body of one STOW-RS request: while a thread works at some of it the next bytes come."""

    def __init__(self, serve: ServeContext, request: web.Request, study_uid: str, audited: Arriving) -> None:
        self._serve, self._request, self._audited = serve, request, audited
        caller = request[CALLER]
        sender = caller.principal.subject or caller.principal.organisation
        self._received = Received(
            road="stow", peer=sender, correlation=caller.correlation, study_uid=study_uid
        )

    async def run(self) -> tuple[list[Fate], CrosslightError | None]:
        """Receive everything; the fates in order, and what broke the request off."""
        problem: CrosslightError | None = None
        limit = self._serve.config.max_stow_bytes
        length = self._request.content_length
        if length is not None and length > limit:
            return [], _over(limit)
        try:
            instances = self._instances()
        except PeerError as error:
            return [], error
        try:
            await self._receive(instances, limit)
            await self._serve.workers.run(instances.close)
        except (PeerError, StorageError) as error:
            problem = error
        finally:
            await self._serve.workers.run(instances.give_up)
        return instances.fates, problem

    def _instances(self) -> _Instances:
        content_type = self._request.headers.get(hdrs.CONTENT_TYPE, "")
        media, attributes = parameters(content_type)
        if media == DICOM:  # one instance without a multipart around it
            return _Instances(self._serve, self._received, self._audited, None, content_type)
        if (media and media != "multipart/related") or attributes.get("type", DICOM).lower() != DICOM:
            raise UnsupportedMediaType(
                "Only instances as files are stored here.",
                why="PS3.18 10.5.1.1: metadata and bulk data apart are not taken.",
                todo='Send multipart/related; type="application/dicom".',
                where="Content-Type",
            )
        boundary, most = boundary_of(content_type), self._serve.config.max_stow_parts
        reader = RelatedReader(boundary, max_parts=most, views=True)
        return _Instances(self._serve, self._received, self._audited, reader)

    async def _receive(self, instances: _Instances, limit: int) -> None:
        """Hand the body over in bursts: a thread is taken only while there is something to do."""
        working: asyncio.Task[None] | None = None
        chunks, size = list[bytes](), 0
        try:
            async for chunk in self._body(limit):
                chunks.append(chunk)
                size += len(chunk)
                if size >= BURST:
                    if working is not None:
                        await working
                    working = asyncio.ensure_future(self._serve.workers.run(instances.take, chunks))
                    chunks, size = [], 0
        except PeerError:  # what came before is kept
            if working is not None:
                await working
            await self._serve.workers.run(instances.take, chunks)
            raise
        finally:
            if working is not None:
                await working
        await self._serve.workers.run(instances.take, chunks)

    async def _body(self, limit: int) -> AsyncGenerator[bytes]:
        total = 0
        try:
            async for chunk in timely_chunks(self._request.content, _READ):
                total += len(chunk)
                if total > limit:
                    raise _over(limit)
                yield chunk
        except web.RequestPayloadError as error:
            raise Malformed("The request body is broken.", why=kind_as_sentence(error)) from None


def _over(limit: int) -> TooLarge:
    return TooLarge(
        "The request is too large.", why=f"Limit here: {limit} bytes.", todo="Send fewer instances at once."
    )


def _name(part: _Part) -> None:
    """SOP class and instance as the file meta names them, for a part that may fail."""
    try:
        meta, _ = read_meta(missing_head(part.head) + part.head)
    except CrosslightError:
        return
    part.fate.sop_class_uid, part.fate.sop_uid = meta_text(meta, 0x00020002), meta_text(meta, 0x00020003)


def _judged(fate: Fate, result: IngestResult) -> Fate:
    fate.stored = result.state in ("stored", "duplicate")
    fate.full = result.state == "full"
    fate.reason = result.status or PROCESSING_FAILURE
    if result.ref is not None:
        fate.sop_class_uid, fate.sop_uid = result.ref.sop_class_uid, result.ref.sop_uid
        fate.study_uid, fate.series_uid = result.ref.study_uid, result.ref.series_uid
    return fate


async def store(serve: ServeContext, request: web.Request) -> web.Response:
    """Store the instances of a request; every one has its own fate in the answer."""
    study = uids_of(request)[0]
    async with (
        serve.storing.turn(share_at(request)),
        serve.release.act(request, "store", (study,) if study else (), "dicomweb", deferred=True) as act,
    ):
        async with act.beginning() as begun:
            fates, problem = await _Receiver(serve, request, study, lambda *_: begun.result()).run()
        if not fates:
            raise problem or Malformed("The request holds no instance.", why="PS3.18 10.5.1.")
        return _response(serve, request, study, fates, problem, act)


def _response(
    serve: ServeContext,
    request: web.Request,
    study: str,
    fates: list[Fate],
    problem: CrosslightError | None,
    act: Act,
) -> web.Response:
    """The Store Instances Response Module (PS3.18 Table 10.5.3-1, Annex I)."""
    kept = [fate for fate in fates if fate.stored]
    act.gave(len(kept), "stored", of=len(fates))
    base = serve.base_url(request)
    row: json.Attributes = {}
    studies = {fate.study_uid for fate in kept}
    if study or len(studies) == 1:
        json.put(row, "RetrieveURL", f"{base}/studies/{study or next(iter(studies))}")
    failed = [_failure(fate) for fate in fates if not fate.stored and fate.sop_uid]
    others = [
        json.attributes(FailureReason=fate.reason) for fate in fates if not fate.stored and not fate.sop_uid
    ]
    if problem is not None:
        others.append(json.attributes(FailureReason=CANNOT_UNDERSTAND))
    if failed:
        json.put(row, "FailedSOPSequence", *failed)
    if kept:
        json.put(row, "ReferencedSOPSequence", *(_success(fate, base) for fate in kept))
    if others:
        json.put(row, "OtherFailuresSequence", *others)
    response = web.Response(
        status=_status(fates, len(kept), problem),
        body=orjson.dumps(dict(sorted(row.items()))),
        content_type=json.MEDIA_TYPE,
    )
    if problem is not None:
        response.force_close()
    return response


def _status(fates: list[Fate], kept: int, problem: CrosslightError | None) -> int:
    if problem is not None:
        return problem.http_status
    if kept == len(fates):
        return 200
    if kept:
        return 202
    return 507 if any(fate.full for fate in fates) else 409


def _success(fate: Fate, base: str) -> json.Attributes:
    return json.attributes(
        ReferencedSOPClassUID=fate.sop_class_uid,
        ReferencedSOPInstanceUID=fate.sop_uid,
        RetrieveURL=f"{base}/studies/{fate.study_uid}/series/{fate.series_uid}/instances/{fate.sop_uid}",
    )


def _failure(fate: Fate) -> json.Attributes:
    return json.attributes(
        ReferencedSOPClassUID=fate.sop_class_uid,
        ReferencedSOPInstanceUID=fate.sop_uid,
        FailureReason=fate.reason,
    )
