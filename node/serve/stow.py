"""STOW-RS (PS3.18 10.5): instances streamed part by part into the archive's staging, each with its own fate.

An instance is answered as stored only after the archive says that it is durable. A part that fails does not
stop the others.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import hdrs, web

from crosslight.runtime.audit import Act
from crosslight.runtime.children.wire import Lent
from crosslight.runtime.http import CALLER, timely_chunks
from crosslight.runtime.shares import share_of
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
from node.holdings import IngestResult, Received, Staging
from node.serve.bounded_child import study_of_file
from node.serve.context import ServeContext, share_at
from node.serve.qido import uids_of

#: Failure Reason (0008,1197) of PS3.18 Table I.2-2 where the archive's own status says nothing better.
OUT_OF_RESOURCES = 0xA700
NOT_OF_THE_STUDY = 0xA900
CANNOT_UNDERSTAND = 0xC000
PROCESSING_FAILURE = 0x0110
_READ, _WRITE, _HEAD = 1 << 18, 1 << 20, 4096
_IN_FLIGHT = 4  # instances that wait for the disk while the next are received


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
    """A part that is being received: buffered up to a megabyte, then written in a thread."""

    staged: Staging | None
    fate: Fate = field(default_factory=Fate)
    head: bytes = b""
    buffer: bytearray = field(default_factory=bytearray)
    size: int = 0
    begun: bool = False

    def drop(self, reason: int, *, full: bool = False) -> None:
        """Give this part up; its other bytes are read and forgotten."""
        if self.staged is not None:
            self.staged.discard()
        self.staged, self.fate.reason, self.fate.full = None, reason, full
        self.buffer.clear()


class _Receiver:
    """Receives the instances of one STOW-RS request, and has them ingested while the next arrive."""

    def __init__(self, serve: ServeContext, request: web.Request, study_uid: str) -> None:
        self._serve, self._request, self._study = serve, request, study_uid
        self._turns = asyncio.Semaphore(_IN_FLIGHT)
        self._tasks: list[asyncio.Task[Fate]] = []
        self._open: _Part | None = None
        caller = request[CALLER]
        self._share = share_of(caller)
        sender = caller.principal.subject or caller.principal.organisation
        self._received = Received(road="stow", peer=sender, correlation=caller.correlation)

    async def run(self) -> tuple[list[Fate], CrosslightError | None]:
        """Receive everything; the fates in order, and what broke the request off."""
        problem: CrosslightError | None = None
        try:
            await self._receive()
        except (PeerError, StorageError) as error:
            problem = error
        finally:
            if self._open is not None:
                self._open.drop(CANNOT_UNDERSTAND)
            done = await asyncio.gather(*self._tasks, return_exceptions=True)
        return [fate if isinstance(fate, Fate) else Fate() for fate in done], problem

    async def _receive(self) -> None:
        limit = self._serve.config.max_stow_bytes
        length = self._request.content_length
        if length is not None and length > limit:
            raise _over(limit)
        content_type = self._request.headers.get(hdrs.CONTENT_TYPE, "")
        if parameters(content_type)[0] == DICOM:  # one instance without a multipart around it
            self._begin({"content-type": content_type})
            async for chunk in self._body(limit):
                await self._data(chunk)
            await self._end()
            return
        media, attributes = parameters(content_type)
        if (media and media != "multipart/related") or attributes.get("type", DICOM).lower() != DICOM:
            raise UnsupportedMediaType(
                "Only instances as files are stored here.",
                why="PS3.18 10.5.1.1: metadata and bulk data apart are not taken.",
                todo='Send multipart/related; type="application/dicom".',
                where="Content-Type",
            )
        reader = RelatedReader(boundary_of(content_type), max_parts=self._serve.config.max_stow_parts)
        async for chunk in self._body(limit):
            for event in reader.feed(chunk):
                if isinstance(event, PartBegin):
                    self._begin(event.headers)
                elif isinstance(event, PartData):
                    await self._data(event.data)
                else:
                    await self._end()
        reader.close()

    async def _body(self, limit: int) -> Any:
        total = 0
        try:
            async for chunk in timely_chunks(self._request.content, _READ):
                total += len(chunk)
                if total > limit:
                    raise _over(limit)
                yield chunk
        except web.RequestPayloadError as error:
            raise Malformed("The request body is broken.", why=kind_as_sentence(error)) from None

    def _begin(self, headers: dict[str, str]) -> None:
        part = self._open = _Part(None)
        media = parameters(headers.get("content-type", DICOM))[0]
        if media != DICOM:
            part.fate.reason = CANNOT_UNDERSTAND
            return
        try:
            part.staged = self._serve.holdings.stage()
        except StorageError as error:
            part.drop(OUT_OF_RESOURCES, full=isinstance(error, OutOfSpace))

    async def _data(self, data: bytes) -> None:
        part = self._open
        if part is None or part.staged is None:
            return
        if len(part.head) < _HEAD:
            part.head += data[: _HEAD - len(part.head)]
        part.size += len(data)
        if part.size > self._serve.config.max_instance_bytes:
            part.drop(OUT_OF_RESOURCES)
            return
        part.buffer += data
        if len(part.buffer) >= _WRITE:
            await self._write(part)

    async def _write(self, part: _Part) -> None:
        if part.staged is None or not part.buffer:
            return
        data = bytes(part.buffer) if part.begun else missing_head(part.head) + part.buffer
        part.begun = True
        part.buffer.clear()
        try:
            await self._serve.workers.run(part.staged.write, data)
        except (StorageError, TooLarge) as error:
            part.drop(OUT_OF_RESOURCES, full=isinstance(error, OutOfSpace))

    async def _end(self) -> None:
        part, self._open = self._open, None
        if part is None:
            return
        await self._write(part)
        _name(part)
        await self._turns.acquire()
        task = asyncio.ensure_future(self._ingest(part))
        task.add_done_callback(lambda _: self._turns.release())
        self._tasks.append(task)

    async def _ingest(self, part: _Part) -> Fate:
        fate, staged = part.fate, part.staged
        if staged is None:
            return fate
        try:
            if self._study and not await self._of_the_study(staged, fate):
                return fate
            result = await self._serve.holdings.ingest_async(staged, self._received)
        except CrosslightError as error:
            fate.full = isinstance(error, OutOfSpace)
            fate.reason = OUT_OF_RESOURCES if isinstance(error, StorageError) else CANNOT_UNDERSTAND
            return fate
        finally:
            staged.discard()
        return _judged(fate, result)

    async def _of_the_study(self, staged: Staging, fate: Fate) -> bool:
        """Whether the instance belongs to the study of the URL (10.5.1: it shall)."""
        try:
            study_uid = await self._serve.bounded(self._share, study_of_file, Lent(str(staged.path)))
        except PeerError:
            fate.reason = CANNOT_UNDERSTAND
            return False
        fate.reason = NOT_OF_THE_STUDY
        return study_uid.strip(" \0") == self._study


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
        serve.release.act(request, "store", (study,) if study else (), "dicomweb") as act,
    ):
        fates, problem = await _Receiver(serve, request, study).run()
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
