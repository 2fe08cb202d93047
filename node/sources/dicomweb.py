"""An archive that answers DICOMweb: studies by QIDO-RS, instances by WADO-RS metadata, objects by WADO-RS.

What it sends is bounded and checked; nothing of it is believed but what concerns its own studies.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any, Final

import orjson
from aiohttp import BasicAuth, ClientError, ClientResponse, ClientSession

from crosslight.runtime.machine_errors import reached_not
from crosslight.standards.dicom.file.header import Header, from_attributes
from crosslight.standards.dicom.web.json import Attributes, text_of
from crosslight.standards.dicom.web.multipart import PartData, RelatedReader, boundary_of
from crosslight.standards.dicom.web.qido_attributes import known_path
from crosslight.standards.ids import is_uid
from crosslight.standards.problem import Malformed, TooLarge, Unavailable
from node.holdings import Passed, StoredObject
from node.sources.upstream import Listed

PAGE: Final = 200  # studies of one answer
_CHUNK: Final = 1 << 18
_MAX_JSON: Final = 256 << 20  # metadata of one series
_JSON: Final = "application/dicom+json"
_OBJECT: Final = 'multipart/related; type="application/dicom"; transfer-syntax=*'
_SYNTAX: Final = "00083002"  # Available Transfer Syntax UID
#: By these attributes of a study's row it is seen that the study has changed.
_TOLD: Final = (
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ModalitiesInStudy",
    "StudyDescription",
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "NumberOfStudyRelatedSeries",
    "NumberOfStudyRelatedInstances",
)


class DicomwebArchive:
    """Asks one.

    Args:
        session: How it is reached; closed by whoever made it.
        url: Its DICOMweb root.
        auth: User and password, where it asks for them.
    """

    def __init__(self, session: ClientSession, url: str, auth: BasicAuth | None = None) -> None:
        self._session, self._url, self._auth = session, url.rstrip("/"), auth

    async def studies(self, first: str, last: str) -> AsyncIterator[Listed]:
        """Studies of these days, both included; first = '': all there are, whatever their date.

        Raises:
            Unavailable, Malformed, TooLarge: it does not answer, or not as it should.
        """
        offset = 0
        while True:
            days = f"&StudyDate={first}-{last}" if first else ""
            fields = "&".join(f"includefield={name}" for name in _TOLD)
            rows = await self._json(f"/studies?{fields}{days}&limit={PAGE}&offset={offset}")
            for row in rows:
                listed = _listed(row)
                if listed is not None:
                    yield listed
            if len(rows) < PAGE:
                return
            offset += len(rows)

    async def study(self, study_uid: str) -> Listed | None:
        """One study, if it is there."""
        fields = "&".join(f"includefield={name}" for name in _TOLD)
        rows = await self._json(f"/studies?StudyInstanceUID={study_uid}&{fields}")
        return next((found for row in rows if (found := _listed(row)) and found.study_uid == study_uid), None)

    async def instances(self, study_uid: str) -> AsyncIterator[list[Header]]:
        """The instances of a study, a series at a time.

        Raises:
            Unavailable, Malformed, TooLarge: it does not answer, or not as it should.
        """
        for row in await self._json(f"/studies/{study_uid}/series"):
            series_uid = text_of(row, "SeriesInstanceUID")
            if not is_uid(series_uid):
                raise Malformed("The source lists a series without a UID.", where=study_uid)
            found = await self._json(f"/studies/{study_uid}/series/{series_uid}/metadata")
            yield [_header(one, study_uid, series_uid) for one in found]

    async def open(self, stored: StoredObject) -> Passed:
        """The bytes of one object, as the archive sends them.

        Raises:
            Unavailable: it does not give it.
        """
        ref = stored.ref
        path = f"/studies/{ref.study_uid}/series/{ref.series_uid}/instances/{ref.sop_uid}"
        answer = await self._get(path, _OBJECT)
        if answer.status != 200:
            answer.close()
            raise Unavailable("The archive that has it does not give it.", why=f"HTTP {answer.status}.")
        chunks = _object(answer)
        await anext(chunks)  # begun: whatever becomes of it, it will be closed
        return Passed(chunks)

    async def _json(self, path: str) -> list[Attributes]:
        answer = await self._get(path, _JSON)
        try:
            if answer.status in (204, 404):
                return []
            if answer.status not in (200, 206):
                raise Unavailable("The source refuses a search.", why=f"HTTP {answer.status}.")
            body = bytearray()
            async for data in answer.content.iter_chunked(_CHUNK):
                body += data
                if len(body) > _MAX_JSON:
                    raise TooLarge("The source answers too much.", why=f"Limit here: {_MAX_JSON} bytes.")
            rows = orjson.loads(body) if body else []
        except ClientError as error:
            raise Unavailable("The source broke off.", why=type(error).__name__) from None
        except orjson.JSONDecodeError:
            raise Malformed("The source answers what is no DICOM JSON.") from None
        finally:
            answer.close()
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise Malformed("The source answers what is no list of DICOM JSON objects.")
        return rows

    async def _get(self, path: str, accept: str) -> ClientResponse:
        try:
            return await self._session.get(self._url + path, headers={"Accept": accept}, auth=self._auth)
        except (ClientError, TimeoutError, OSError) as error:
            raise Unavailable("The source cannot be reached.", why=reached_not(error)) from None


def _listed(row: Mapping[str, Any]) -> Listed | None:
    study_uid = text_of(row, "StudyInstanceUID")
    if not is_uid(study_uid):
        return None
    told = {name: row.get(known_path(name)[0]) for name in _TOLD}
    day = text_of(row, "StudyDate").replace(".", "").replace("-", "")
    return Listed(
        study_uid=study_uid,
        study_date=day if day.isdecimal() and len(day) == 8 else "",
        digest=hashlib.blake2b(orjson.dumps(told, option=orjson.OPT_SORT_KEYS), digest_size=16).digest(),
    )


def _header(found: Attributes, study_uid: str, series_uid: str) -> Header:
    """An instance's header; what would have to be fetched apart is left out of it.

    Raises:
        Malformed: it is none of the series that was asked for.
    """
    kept = {tag: body for tag, body in found.items() if isinstance(body, dict) and "BulkDataURI" not in body}
    try:
        header = from_attributes(kept, text_of(kept, _SYNTAX))
    except (AttributeError, KeyError, TypeError, ValueError):
        raise Malformed("The source describes an instance that cannot be read.", where=series_uid) from None
    wrong = (header.study_uid, header.series_uid) != (study_uid, series_uid)
    if wrong or not is_uid(header.sop_uid) or not is_uid(header.sop_class_uid):
        raise Malformed("The source describes an instance of another series.", where=series_uid)
    return header


async def _object(answer: ClientResponse) -> AsyncGenerator[bytes]:
    """The first part of a multipart answer, or the whole of another one; empty first, to be begun."""
    try:
        yield b""
        if not answer.content_type.startswith("multipart/"):
            async for data in answer.content.iter_chunked(_CHUNK):
                yield data
            return
        reader = RelatedReader(boundary_of(answer.headers.get("Content-Type", "")), max_parts=1)
        async with aclosing(_parts(answer, reader)) as parts:
            async for data in parts:
                yield data
        reader.close()
    except (ClientError, TimeoutError) as error:
        raise Unavailable("The archive broke off.", why=type(error).__name__) from None
    except Malformed as error:
        raise Unavailable("The archive sends what cannot be read.", why=error.what) from None
    finally:
        answer.close()


async def _parts(answer: ClientResponse, reader: RelatedReader) -> AsyncGenerator[bytes]:
    async for data in answer.content.iter_chunked(_CHUNK):
        for event in reader.feed(data):
            if isinstance(event, PartData):
                yield bytes(event.data)
