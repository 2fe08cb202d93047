"""A DICOMweb client: QIDO-RS, WADO-RS streamed part by part, STOW-RS."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode

import orjson
from aiohttp import BodyPartReader, MultipartReader

from crosslight.client.http import HttpClient, read
from crosslight.standards.problem import PeerError

DICOM_JSON = "application/dicom+json"
DICOM_MULTIPART = 'multipart/related; type="application/dicom"; transfer-syntax=*'


def value(row: dict[str, Any], tag: str) -> str:
    """The first value of ``tag`` (eight hex digits) as text, '' without one.

    PN gives its alphabetic group.
    """
    values = row.get(tag, {}).get("Value") or [""]
    first = values[0]
    return str(first.get("Alphabetic", "")) if isinstance(first, dict) else str(first)


class DicomwebClient(HttpClient):
    """Asks ``base`` (…/dicomweb)."""

    def __init__(self, base: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.base = base.rstrip("/")

    async def search(
        self, path: str = "studies", **query: str
    ) -> tuple[list[dict[str, Any]], dict[str, str]]:
        """QIDO-RS rows and the answer's headers."""
        url = f"{self.base}/{path}" + (f"?{urlencode(query)}" if query else "")
        async with self.request("GET", url, headers={"Accept": DICOM_JSON}) as response:
            body = await read(response)
            if response.status not in (200, 204, 206):
                raise PeerError(
                    f"QIDO-RS refused: HTTP {response.status}.", why=body.decode("utf-8", "replace")[:500]
                )
            return (orjson.loads(body) if body else []), dict(response.headers)

    async def metadata(self, path: str) -> list[dict[str, Any]]:
        """Metadata below ``studies/…``."""
        body, _ = await self.get(f"{self.base}/{path}/metadata", accept=DICOM_JSON)
        instances: list[dict[str, Any]] = orjson.loads(body)
        return instances

    async def instances(self, path: str, accept: str = DICOM_MULTIPART) -> AsyncIterator[bytes]:
        """Each Part 10 file below ``studies/…`` in turn; one in memory at a time."""
        async with self.request("GET", f"{self.base}/{path}", headers={"Accept": accept}) as response:
            if response.status not in (200, 206):
                text = (await read(response)).decode("utf-8", "replace")[:500]
                raise PeerError(f"WADO-RS refused: HTTP {response.status}.", why=text)
            reader = MultipartReader(response.headers, response.content)
            while (part := await reader.next()) is not None:
                if isinstance(part, BodyPartReader):
                    yield bytes(await part.read())

    async def store(self, files: Iterable[bytes], study_uid: str = "") -> dict[str, Any]:
        """STOW-RS; the answer's data set."""
        boundary = "crosslight-stow-boundary-3fd1"
        url = f"{self.base}/studies" + (f"/{study_uid}" if study_uid else "")

        async def body() -> AsyncIterator[bytes]:
            for data in files:
                yield f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode() + data + b"\r\n"
            yield f"--{boundary}--\r\n".encode()

        headers = {
            "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
            "Accept": DICOM_JSON,
        }
        async with self.request("POST", url, headers=headers, data=body()) as response:
            answer = await read(response)
            if response.status not in (200, 202):
                raise PeerError(
                    f"STOW-RS refused: HTTP {response.status}.", why=answer.decode("utf-8", "replace")[:500]
                )
            report: dict[str, Any] = orjson.loads(answer)
            return report

    @asynccontextmanager
    async def rendered(self, path: str) -> AsyncIterator[bytes]:
        """A rendered image below ``studies/…``."""
        body, _ = await self.get(f"{self.base}/{path}", accept="image/jpeg")
        yield body


_GROUP_LENGTH = re.compile(rb"\x02\x00\x00\x00UL\x04\x00(....)", re.DOTALL)


def dataset_bytes(part10: bytes) -> bytes:
    """What follows group 0002 in a Part 10 file (PS3.10 7.1).

    Raises:
        PeerError: when it is no Part 10 file with a group length.
    """
    match = _GROUP_LENGTH.match(part10, 132)
    if part10[128:132] != b"DICM" or match is None:
        raise PeerError("Not a DICOM Part 10 file with a File Meta group length.")
    return part10[match.end() + int.from_bytes(match.group(1), "little") :]
