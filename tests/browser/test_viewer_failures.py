"""What the preview says, in Chromium, where there is no picture: why, by whom, whether it is tried again."""

from __future__ import annotations

import asyncio

import portal_samples as samples
import pytest
from aiohttp import web
from browsing import Serve, Watch, find, painted, seen, watch_pictures
from page_region import PageRegion
from playwright.async_api import Browser, expect
from previewed_study import STUDY, preview, wrong

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

TRUST = "Ashford and St Peter’s Hospitals NHS Foundation Trust"


#: What the region answers -> what the reader is told, and whether it is tried again by itself.
FAILURES = [
    (
        samples.refusal(403, "No legitimate relationship.", holder="RTK"),
        "Ashford and St Peter’s Hospitals NHS Foundation Trust refuses",
        False,
    ),
    (
        samples.refusal(404, "Not held.", holder="RTK"),
        "Ashford and St Peter’s Hospitals NHS Foundation Trust does not have",
        False,
    ),
    (
        samples.refusal(406, "This instance holds no picture.", holder="RTK"),
        "This instance holds no picture.",
        False,
    ),
    (samples.refusal(413, "Limit here: 5.", holder="RTK"), "too large to be shown", False),
    (
        samples.refusal(504, "RTK cannot be reached.", where="RTK"),
        f"{TRUST} does not answer.",
        True,
    ),
    (samples.refusal(429, "Too many.", where="RTK", kind="OverShare"), f"{TRUST} is busy.", True),
    (samples.refusal(503, "Too many.", kind="Busy"), "This service is busy. Trying again by itself.", True),
    (samples.refusal(503, "Full."), "This service does not answer. Trying again by itself.", True),
]


@pytest.mark.parametrize(("answer", "words", "passing"), FAILURES)
async def test_a_picture_that_fails_says_why_and_by_whom(
    chromium: Browser, serve: Serve, shared: PageRegion, answer: web.Response, words: str, passing: bool
) -> None:
    bad = True

    def refuse(path: str) -> web.Response | None:
        if not (bad and ".1.7/frames" in path):
            return None
        return web.Response(body=answer.body, status=answer.status, headers=answer.headers)

    pictures = samples.Pictures(refuse=refuse)
    base = await serve(shared, pictures=pictures)
    page = await chromium.new_page()
    await preview(page, base)
    await painted(page, [1, 1, 0])
    await page.locator("#slider").fill("7")
    message = page.locator("#message")
    await expect(message).to_contain_text(words)
    await expect(message).to_contain_text("Trying again" if passing else words)
    await expect(page.locator("#position")).to_have_text("Image 7 / 40")
    assert await page.locator("#picture canvas").count() == 0, "no other picture stands under the words"
    bad = False
    if not passing:
        await page.click("text=Try again")
    await painted(page, [1, 7, 0])  # else by itself
    assert wrong(await seen(page)) == []


@pytest.mark.parametrize("first", [True, False], ids=["what is wanted", "what is fetched ahead"])
async def test_what_fails_is_not_asked_for_without_end(
    chromium: Browser, serve: Serve, shared: PageRegion, first: bool
) -> None:
    def refuse(path: str) -> web.Response | None:
        return (
            samples.refusal(503, "Full.")
            if "/rendered" in path and (first or ".1.1/frames" not in path)
            else None
        )

    pictures = samples.Pictures(refuse=refuse)
    base = await serve(shared, pictures=pictures)
    page = await chromium.new_page()
    refused = page.wait_for_event("response", lambda answer: answer.status == 503)
    await asyncio.gather(refused, preview(page, base))
    if first:
        await expect(page.locator("#message")).to_have_text(
            "This service does not answer. Trying again by itself."
        )
    else:
        await painted(page, [1, 1, 0])
        await expect(page.locator("#trouble")).to_be_hidden()
    await page.wait_for_timeout(1500)  # the first new try is after two seconds
    asked = [url for url in pictures.asked if "/rendered" in url]
    assert len(asked) == len(set(asked)) <= 5


async def test_a_holder_that_comes_back_brings_its_pictures(
    chromium: Browser, serve: Serve, own: PageRegion
) -> None:
    """Opened while the holder is away: that is said, and since when; its return is enough, nobody touches the
    page.
    """
    await own.publish(*samples.STUDIES)
    away = True
    pictures = samples.Pictures(
        refuse=lambda path: samples.refusal(504, "Away.", where="RTK") if away else None
    )
    base = await serve(own, pictures=pictures, poll_s=2)
    page = await chromium.new_page()
    await find(page, base)
    address = page.url
    own.away("RTK")
    await watch_pictures(page)
    await page.goto(f"{address}/studies/{STUDY}")
    message = page.locator("#message")
    await expect(message).to_have_text(f"{TRUST}: Not reachable since 01:12. Trying again by itself.")
    assert await page.locator(".series__thumb img").count() == 0
    lists = len(pictures.asked)
    away = False
    own.heard()
    await painted(page, [1, 1, 0])
    await expect(page.locator(".series__thumb img")).to_have_count(3)
    await expect(page.locator("#trouble")).to_be_hidden()
    assert len([url for url in pictures.asked[:lists] if "instances" in url]) == 1, (
        "its return was waited for"
    )
    away = True
    own.away("RTK")
    await page.keyboard.press("End")
    await expect(message).to_have_text(
        f"{TRUST}: Not reachable since 01:12. Trying again by itself.", timeout=10_000
    )
    away = False
    own.heard()
    await painted(page, [1, 40, 0])
    assert wrong(await seen(page)) == []


async def test_objects_without_a_picture_say_so(chromium: Browser, serve: Serve, own: PageRegion) -> None:
    study = samples.holding("RTK", 1, "Report", modality="SR", images=1, series=1)
    await own.publish(study)
    base = await serve(own)
    page = await chromium.new_page()
    watch = Watch(page, base)
    await find(page, base)
    await expect(page.locator(".study__facts")).to_contain_text("1 series, 1 structured report")
    await page.click("[data-part=view]")
    await expect(page.locator("#message")).to_have_text("This series holds 1 structured report: no picture.")
    assert not [url for url in watch.asked if "thumbnail" in url or "instances" in url]
    assert watch.said == []
