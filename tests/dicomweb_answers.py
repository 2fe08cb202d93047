"""What a node answers over DICOMweb: whole, as rows, and as the parts of a multipart answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from node_serving import Served

from crosslight.standards.dicom.web.multipart import PartBegin, PartData, RelatedReader, boundary_of

ELE = "1.2.840.10008.1.2.1"
DICOM_PARTS = 'multipart/related; type="application/dicom"'
ONE = "/studies/1.2.1/series/1.2.1.1/instances/1.2.1.1.1"


async def get(
    node: Served, path: str, accept: str = "", **headers: str
) -> tuple[int, Mapping[str, str], bytes]:
    sent = {"Accept-Encoding": "identity", **({"Accept": accept} if accept else {}), **headers}
    async with node.session.get(f"{node.url}/dicomweb{path}", headers=sent) as response:
        body = await response.read()
        length = response.headers.get("Content-Length")
        assert length is None or int(length) == len(body)
        return response.status, response.headers, body


async def rows(node: Served, path: str) -> list[dict[str, Any]]:
    status, headers, body = await get(node, path, "application/dicom+json")
    assert (status, headers["Content-Type"]) == (200, "application/dicom+json"), body
    found: list[dict[str, Any]] = orjson.loads(body)
    return found


def parts(headers: Mapping[str, str], body: bytes) -> list[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    reader = RelatedReader(boundary_of(headers["Content-Type"]))
    for event in reader.feed(body):
        if isinstance(event, PartBegin):
            found.append((event.headers["content-type"], b""))
        elif isinstance(event, PartData):
            found[-1] = (found[-1][0], found[-1][1] + event.data)
    reader.close()
    return found
