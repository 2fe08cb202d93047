"""Whether a caller takes gzip (RFC 9110 12.5.3), and which bodies get it."""

from __future__ import annotations

import gzip
import json
from typing import Any, cast

import aiohttp
import pytest
from aiohttp import web
from loopback import served

from crosslight.runtime.compression import LARGE_BYTES, compressed, takes_gzip

LONG = {"text": "crosslight " * 1000}


@pytest.mark.parametrize(
    ("header", "takes"),
    [
        ("gzip", True),
        ("GZIP", True),
        ("deflate, gzip;q=0.5", True),
        ("x-gzip", True),
        ("*", True),
        ("br, *;q=0.1", True),
        ("", False),
        ("identity", False),
        ("gzip;q=0", False),
        ("gzip; q=0.000", False),
        ("*;q=0", False),
        ("gzip;q=0, *", False),
        ("deflate", False),
        ("gzipped", False),
        ("gzip;q=most", False),
        (",,;", False),
    ],
)
def test_what_takes_gzip(header: str, takes: bool) -> None:
    assert takes_gzip(header) is takes


async def _answer(request: web.Request) -> web.Response:
    if "known" in request.query:
        return web.Response(status=304, headers={"Vary": "Accept", "ETag": 'W/"1"'})
    kind = request.query["type"]
    body = json.dumps(LONG if "long" in request.query else {"a": 1}).encode()
    return web.Response(body=body, content_type=kind, headers={"Vary": "Accept", "ETag": 'W/"1"'})


@pytest.mark.parametrize(
    ("query", "header", "zipped"),
    [
        ("type=application/fhir%2Bjson&long", "gzip", True),
        ("type=application/dicom%2Bjson&long", "gzip, br", True),
        ("type=application/json&long", "deflate, gzip;q=0", False),
        ("type=application/json&long", "identity", False),
        ("type=application/json", "gzip", False),
        ("type=image/jpeg&long", "gzip", False),
        ("type=text/html&long", "gzip", False),
    ],
)
async def test_long_json_is_compressed_where_asked(query: str, header: str, zipped: bool) -> None:
    app = web.Application(middlewares=[cast(Any, compressed())])
    app.add_routes([web.get("/", _answer)])
    async with served(app) as base, aiohttp.ClientSession(auto_decompress=False) as http:
        async with http.get(f"{base}/?{query}", headers={"Accept-Encoding": header}) as response:
            body = await response.read()
            assert ("Content-Encoding" in response.headers) is zipped
            assert response.headers["Vary"].startswith("Accept")
            assert ("Accept-Encoding" in response.headers["Vary"]) is ("json" in query and "long" in query)
            assert json.loads(gzip.decompress(body) if zipped else body)
        async with http.head(f"{base}/?{query}", headers={"Accept-Encoding": header}) as response:
            assert ("Content-Encoding" in response.headers) is zipped


async def test_what_is_known_varies_as_what_it_stands_for() -> None:
    app = web.Application(middlewares=[cast(Any, compressed())])
    app.add_routes([web.get("/", _answer)])
    async with served(app) as base, aiohttp.ClientSession() as http, http.get(f"{base}/?known") as response:
        assert (response.status, response.headers["Vary"]) == (304, "Accept, Accept-Encoding")
        assert (await response.read(), response.headers.get("Content-Encoding")) == (b"", None)


async def test_a_large_body_is_sent_in_pieces_whole_and_with_its_length() -> None:
    body = bytes(range(256)) * (LARGE_BYTES // 128)
    made: list[web.Response] = []

    async def answer(_: web.Request) -> web.Response:
        made.append(web.Response(body=body, content_type="application/soap+xml"))
        return made[-1]

    app = web.Application(middlewares=[cast(Any, compressed())])
    app.add_routes([web.get("/", answer)])
    async with served(app) as base, aiohttp.ClientSession() as http:
        for ask in (http.get, http.head):
            async with ask(f"{base}/") as response:
                assert response.headers["Content-Length"] == str(len(body))
                assert await response.read() == (body if ask == http.get else b"")
    assert not any(isinstance(response.body, bytes) for response in made)
