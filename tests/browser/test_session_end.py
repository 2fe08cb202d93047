"""A session's end in Chromium, with the real sign-in over TLS: announced, then blank, then back to where one
was.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from access_region import CONFIG, TestAccess
from aiohttp import web
from page_region import PageRegion
from playwright.async_api import Browser, Page, expect

from registry.access.config import AccessConfig

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

STUDY = "1.2.826.0.1.1"


class Pages(TestAccess):
    """The people listener with the samples' pages behind the real sign-in."""

    trusts: PageRegion

    def _app(self, name: str) -> web.Application:
        if name != "people":
            return super()._app(name)
        gate = self.access.authenticator.middleware("people")
        return self.trusts.page(signed_in=gate, more=self.access.routes(), poll_s=2)


@asynccontextmanager
async def signed_in(
    chromium: Browser, shared: PageRegion, folder: Path, config: AccessConfig = CONFIG
) -> AsyncIterator[tuple[Pages, Page]]:
    """A page of the portal, its reader signed in and at the preview of a study."""
    pages = Pages(folder, config, open_mode=False)
    pages.trusts = shared
    await pages.start()
    context = await chromium.new_context(ignore_https_errors=True)
    try:
        page = await context.new_page()
        await page.goto(pages.people + "/")
        await enter(page)
        await page.fill("#number", "999 000 0018")
        await page.press("#number", "Enter")
        await page.wait_for_selector("[data-study-uid]")
        yield pages, page
    finally:
        await context.close()
        await pages.stop()


async def enter(page: Page) -> None:
    """Fill in the demo provider's form."""
    await page.fill("#user", "dr.amos")
    await page.fill("#password", "light-box")
    await page.click("button[type=submit]")


async def nothing_of_a_patient(page: Page) -> None:
    """Neither on the screen nor in the page."""
    await expect(page.locator("h1")).to_have_text("You are signed out", timeout=20_000)
    content = await page.content()
    assert "SMITH" not in content
    assert "999 000 0018" not in content
    assert await page.locator("canvas, img").count() == 0


async def test_the_end_is_announced_and_can_be_put_off(
    chromium: Browser, shared: PageRegion, tmp_path: Path
) -> None:
    short = replace(CONFIG, session_idle_minutes=12 / 60)
    async with signed_in(chromium, shared, tmp_path, short) as (_, page):
        # a page that does not poll
        await page.evaluate("() => Object.defineProperty(document, 'hidden', {value: true})")
        notice = page.locator("#session-notice")
        await expect(notice).to_be_visible(timeout=20_000)
        assert (await notice.locator("[role=timer]").inner_text()).startswith("0:0")
        await expect(page.locator(".banner__name")).to_be_visible()
        await page.click("text=Stay signed in")
        await expect(notice).to_be_hidden()
        await expect(notice).to_be_visible(timeout=20_000)
        await nothing_of_a_patient(page)


async def test_after_the_end_the_way_leads_back(
    chromium: Browser, shared: PageRegion, tmp_path: Path
) -> None:
    async with signed_in(chromium, shared, tmp_path) as (pages, page):
        await page.click(f"[data-study-uid='{STUDY}'] [data-part=view]")
        await page.click(".series >> nth=1")
        await expect(page.locator("#position")).to_have_text("Frame 1 / 42")
        where = page.url
        await pages.access.store.end_all()  # as an operator's restart or another tab's sign-out
        await nothing_of_a_patient(page)
        await page.click("a.button")
        await enter(page)
        await expect(page.locator("#position")).to_have_text("Frame 1 / 42")
        assert page.url == where


async def test_a_picture_refused_for_want_of_a_session_ends_the_page(
    chromium: Browser, shared: PageRegion, tmp_path: Path
) -> None:
    async with signed_in(chromium, shared, tmp_path) as (pages, page):
        await page.click(f"[data-study-uid='{STUDY}'] [data-part=view]")
        await expect(page.locator("#position")).to_have_text("Image 1 / 40")
        await page.evaluate("() => Object.defineProperty(document, 'hidden', {value: true})")
        await pages.access.store.end_all()
        await page.keyboard.press("End")
        await nothing_of_a_patient(page)


async def test_a_page_left_alone_is_blank_after_the_end(
    chromium: Browser, shared: PageRegion, tmp_path: Path
) -> None:
    """It asks nothing any more, for nobody uses it; its own clock ends it."""
    async with signed_in(chromium, shared, tmp_path) as (pages, page):
        await page.clock.install()
        await page.reload()
        await page.wait_for_selector("[data-study-uid]")
        await page.route("**/coverage.json*", lambda route: route.abort())  # as one that has stopped asking
        await page.clock.fast_forward("20:00")
        await expect(page.locator(".banner__name")).to_be_visible()
        await pages.access.store.end_all()
        await page.clock.fast_forward("15:00")
        await nothing_of_a_patient(page)


async def test_a_page_whose_session_lives_on_elsewhere_stays(
    chromium: Browser, shared: PageRegion, tmp_path: Path
) -> None:
    async with signed_in(chromium, shared, tmp_path) as (_, page):
        await page.clock.install()
        await page.reload()
        await page.wait_for_selector("[data-study-uid]")
        await page.route("**/coverage.json*", lambda route: route.abort())
        async with page.expect_response("**/signin/session"):
            await page.clock.fast_forward("40:00")  # by its clock over; the service says that it is not
        await expect(page.locator(".banner__name")).to_be_visible()
        await expect(page.locator("#session-notice")).to_be_hidden()


async def test_a_deep_link_without_a_session_leads_back(
    chromium: Browser, shared: PageRegion, tmp_path: Path
) -> None:
    async with signed_in(chromium, shared, tmp_path) as (pages, page):
        address = f"{page.url}/studies/{STUDY}?series={STUDY}.3"
        await page.context.clear_cookies()
        await page.goto(address)
        await enter(page)
        await expect(page.locator(".series--current")).to_have_attribute("data-series", f"{STUDY}.3")
        assert page.url == address
        assert pages.people in page.url
