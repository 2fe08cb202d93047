"""Clients of the page over HTTP, which begin with a search; and the region that tests read which change
nothing.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import portal_samples as samples
from aiohttp.test_utils import TestClient, TestServer
from page_region import PageRegion, page_region

from crosslight.standards.ids import Identifier

Browsing = TestClient[Any, Any]
Clients = list[Browsing]


@asynccontextmanager
async def read_region(folder: Path) -> AsyncIterator[PageRegion]:
    """A patient with studies at all five trusts, for tests that only read."""
    async with page_region(folder, *samples.STUDIES) as made:
        rpc = made.room.member("RPC")
        # as another's national number
        await made.feed(made.patient("RPC", local=Identifier("9990000026", rpc.authority)))
        made.heard()
        yield made


@asynccontextmanager
async def closed_clients() -> AsyncIterator[Clients]:
    """A list for :func:`browse`; what is in it is closed at the end."""
    made: Clients = []
    yield made
    for client in made:
        await client.close()


async def browse(clients: Clients, region: PageRegion, **how: Any) -> Browsing:
    """A client of the region's page, made as ``page_of`` is told."""
    client = TestClient(TestServer(region.page(**how)))
    await client.start_server()
    clients.append(client)
    return client


async def find(client: Browsing, **form: str) -> tuple[str, str]:
    """Post a search; the address it led to and its text."""
    async with client.post("/search", data=form or {"number": "999 000 0018"}) as answer:
        assert answer.status == 200
        return answer.url.path_qs, await answer.text()


def opened_from(found: tuple[str, str]) -> str:
    """The address of the one record that a page asks to confirm."""
    address, text = found
    assert address == "/search"
    (href,) = re.findall(r'href="(/patients/[^"]+)"', text)
    return str(href)
