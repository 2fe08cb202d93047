"""A real Chromium for the tests of pages; each test has its own contexts, so that nothing is kept between
them.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import portal_samples as samples
import pytest
import pytest_asyncio
from aiohttp import web
from browsing import Serve
from page_region import PageRegion, page_region
from playwright.async_api import Browser, async_playwright
from secured_region import Secured, secured_region

FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def one_chromium() -> AsyncIterator[Browser]:
    """Debian's Chromium (or the one that CHROMIUM names); a missing one fails in CI and skips elsewhere."""
    path = os.environ.get("CHROMIUM", "/usr/bin/chromium")
    if not Path(path).exists():
        if os.environ.get("CI"):
            pytest.fail(f"There is no {path}: install chromium")
        pytest.skip(f"there is no {path}: the page is not tested in a browser")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="session")
async def chromium(one_chromium: Browser) -> AsyncIterator[Browser]:
    """The browser; what a test opened in it is closed."""
    yield one_chromium
    for context in one_chromium.contexts:
        await context.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[PageRegion]:
    """A patient with studies at all five trusts, for tests that only read."""
    async with page_region(tmp_path_factory.mktemp("shared"), *samples.STUDIES) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="session")
async def own(tmp_path: Path) -> AsyncIterator[PageRegion]:
    """The five trusts, which hold nothing yet."""
    async with page_region(tmp_path) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="session")
async def serve() -> AsyncIterator[Serve]:
    """Serves the page on loopback; returns its address."""
    runners: list[web.AppRunner] = []

    async def start(region: PageRegion, **how: Any) -> str:
        runner = web.AppRunner(region.page(**how))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        runners.append(runner)
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    yield start
    for runner in runners:
        await runner.cleanup()


@pytest.fixture(scope="session")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """One region of processes for the whole session, with TLS and sign-in."""
    with secured_region(tmp_path_factory.mktemp("region")) as region:
        yield region
