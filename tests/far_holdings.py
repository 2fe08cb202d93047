"""Holdings whose objects lie at another DICOMweb server: the second implementation of ``node.holdings``, for
tests of the seam.

What a node beside a PACS would be: nothing is taken in, digests and sizes are not known before an object is
opened, and an object is either fetched into a spool or passed through as it comes.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import orjson
from aiohttp import ClientError, ClientResponse, ClientSession

from crosslight.standards.dicom.record import record
from crosslight.standards.dicom.record.record import Instance
from crosslight.standards.dicom.record.rules import RecordRules
from crosslight.standards.dicom.web import json
from crosslight.standards.ids import Identifier
from crosslight.standards.problem import StorageError, Unavailable
from crosslight.standards.study import InstanceRef, StudyRecord
from node.holdings import (
    Arriving,
    Fetched,
    IngestResult,
    Local,
    Opened,
    Passed,
    Received,
    Staging,
    StoredObject,
)

CHUNK = 1 << 16


class FarHoldings:
    """Studies of the DICOMweb server at ``url``.

    Args:
        session: How it is reached.
        spool: Where fetched copies lie until they are released.
        how: Whether an object is fetched or passed.
        touched: Called with the studies that are to be looked at again.
    """

    def __init__(
        self,
        session: ClientSession,
        url: str,
        spool: Path,
        how: Literal["fetched", "passed"],
        touched: Callable[[Sequence[str]], Awaitable[None]] | None = None,
    ) -> None:
        self._session, self._url, self._spool, self._how, self._touched = session, url, spool, how, touched
        self.rules = RecordRules()
        self.open = 0  # objects that nobody has let go of yet
        self.opened = 0
        spool.mkdir(parents=True, exist_ok=True)

    # --- in ---

    def stage(self, received: Received | None = None) -> Staging:
        raise StorageError("Nothing is taken in here.", todo="Send to the PACS.")

    def ingest(self, staged: Staging, received: Received, arriving: Arriving | None = None) -> IngestResult:
        raise StorageError("Nothing is taken in here.", todo="Send to the PACS.")

    async def ingest_async(self, staged: Staging, received: Received) -> IngestResult:
        return self.ingest(staged, received)

    def on_change(self, callback: Callable[[str], None]) -> None:
        """Nobody tells."""

    # --- out ---

    async def _rows(self, path: str) -> list[dict[str, Any]]:
        async with await self._get(path, "application/dicom+json") as answer:
            found: list[dict[str, Any]] = orjson.loads(await answer.read()) if answer.status == 200 else []
            return found

    async def _get(self, path: str, accept: str) -> ClientResponse:
        try:
            return await self._session.get(self._url + path, headers={"Accept": accept})
        except ClientError as error:
            raise Unavailable("The PACS does not answer.", why=type(error).__name__) from None

    async def objects(self, study_uid: str, series_uid: str = "", sop_uid: str = "") -> list[StoredObject]:
        below = f"/series/{series_uid}" if series_uid else ""
        rows = await self._rows(
            f"/studies/{study_uid}{below}/instances" + (f"?SOPInstanceUID={sop_uid}" if sop_uid else "")
        )
        found = [StoredObject(ref=_ref(row), size=None, unmeasured=True) for row in rows]
        return sorted(found, key=lambda one: (one.ref.series_uid, int(one.ref.number or 0), one.ref.sop_uid))

    async def open_object(self, found: StoredObject) -> Opened:
        ref = found.ref
        path = f"/studies/{ref.study_uid}/series/{ref.series_uid}/instances/{ref.sop_uid}"
        answer = await self._get(path, "application/dicom; transfer-syntax=*")
        if answer.status != 200:
            answer.close()
            raise Unavailable("The PACS gives nothing.", why=f"HTTP {answer.status}")
        self.open += 1
        self.opened += 1
        passed = self._chunks(answer)
        await anext(passed)  # begun: whatever becomes of it, it will be closed
        if self._how == "passed":
            return Passed(passed, answer.content_length)
        file = self._spool / f"{self.opened}.far"
        file.write_bytes(b"before" + b"".join([data async for data in passed]))

        def release() -> None:
            file.unlink()
            self.open -= 1

        self.open += 1
        return Fetched(Local(str(file), 6, file.stat().st_size - 6), release)

    async def _chunks(self, answer: ClientResponse) -> AsyncGenerator[bytes]:
        try:
            yield b""
            async for data in answer.content.iter_chunked(CHUNK):
                yield data
        except ClientError as error:
            raise Unavailable("The PACS has broken off.", why=type(error).__name__) from None
        finally:
            answer.close()
            self.open -= 1

    async def damaged(self, sop_uids: Sequence[str]) -> set[str]:
        return set()

    async def was_here(self, study_uid: str, series_uid: str = "", sop_uid: str = "") -> bool:
        return False

    async def metadata(self, objects: Sequence[StoredObject], *, large: bool = True) -> list[bytes]:
        rows = [
            row
            for study_uid in {stored.ref.study_uid for stored in objects}
            for row in await self._rows(f"/studies/{study_uid}/metadata")
        ]
        found = {json.text_of(row, "SOPInstanceUID"): orjson.dumps(row) for row in rows}
        return [found[stored.ref.sop_uid] for stored in objects]

    async def search(self, level: str, query: Any) -> list[dict[str, Any]]:
        return await self._rows({"study": "/studies", "series": "/series", "instance": "/instances"}[level])

    # --- studies ---

    async def record(self, study_uid: str) -> StudyRecord | None:
        rows = await self._rows(f"/studies/{study_uid}/metadata")
        instances = [
            Instance(
                series_uid=json.text_of(row, "SeriesInstanceUID"),
                sop_uid=json.text_of(row, "SOPInstanceUID"),
                sop_class_uid=json.text_of(row, "SOPClassUID"),
                sha256="",
                study=row,
                series=row,
            )
            for row in rows
        ]
        return record.build(study_uid, instances, self.rules)

    async def study_uids(self, after: str = "", limit: int = 1000) -> list[str]:
        found = sorted(json.text_of(row, "StudyInstanceUID") for row in await self._rows("/studies"))
        return [study_uid for study_uid in found if study_uid > after][:limit]

    async def catch_up(self) -> None:
        """Nothing is taken in here."""

    async def touch(self, study_uids: Sequence[str]) -> None:
        if self._touched is not None:
            await self._touched(study_uids)

    def patients(self, study_uid: str, arriving: dict[str, Any]) -> tuple[Identifier, ...]:
        return ()

    async def patients_of(self, study_uid: str) -> tuple[Identifier, ...]:
        found = await self.record(study_uid)
        return (found.patient.local, *found.patient.others) if found is not None else ()

    async def concerned(self, study_uids: Sequence[str]) -> set[Identifier]:
        return {one for study_uid in study_uids for one in await self.patients_of(study_uid)}

    async def refused(self, limit: int) -> tuple[set[Identifier], bool]:
        return set(), False


def _ref(row: dict[str, Any]) -> InstanceRef:
    return InstanceRef(
        study_uid=json.text_of(row, "StudyInstanceUID"),
        series_uid=json.text_of(row, "SeriesInstanceUID"),
        sop_uid=json.text_of(row, "SOPInstanceUID"),
        sop_class_uid=json.text_of(row, "SOPClassUID"),
        transfer_syntax_uid=json.text_of(row, "AvailableTransferSyntaxUID"),
        number=json.text_of(row, "InstanceNumber"),
        frames=int(json.text_of(row, "NumberOfFrames") or 1),
    )
