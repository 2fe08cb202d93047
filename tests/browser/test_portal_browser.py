"""The page in Chromium: it works, asks nobody else, can be read, and follows the members' state by itself."""

from __future__ import annotations

import re
from typing import Any

import portal_samples as samples
import pytest
from browsing import Serve, Watch, audit, find
from page_region import PageRegion
from playwright.async_api import Browser, expect

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


async def mixed(own: PageRegion) -> None:
    """A patient whose page shows everything at once."""
    for one in samples.STUDIES:
        rtk = one is samples.STUDIES[0]
        await own.publish(
            one, whose=own.patient("RTK", pn="Yamada-O'Brien^Ada^^Mrs=山田^花子") if rtk else None
        )
    await own.feed(own.bob("RXC", 9))
    own.away("RTK")
    own.room.said("RXC", filling=True, waiting=4)


@pytest.mark.parametrize(
    ("width", "scheme"), [(1400, "light"), (1024, "light"), (390, "light"), (1400, "dark")]
)
async def test_every_page_can_be_read(
    chromium: Browser, serve: Serve, own: PageRegion, width: int, scheme: Any
) -> None:
    await mixed(own)
    base = await serve(own, open_mode=width == 1024)
    page = await chromium.new_page(viewport={"width": width, "height": 844}, color_scheme=scheme)
    watch = Watch(page, base)
    await page.goto(base + "/")
    assert await audit(page) == []
    await find(page, base)
    await page.click(".differs summary")
    assert await audit(page) == []
    assert "999" not in page.url
    await page.click("[data-study-uid='1.2.826.0.1.3'] [data-part=view]")
    await page.wait_for_selector("#picture canvas")
    assert await audit(page) == []
    await page.evaluate("document.querySelector('h1').style.color = 'rgba(128, 128, 128, 0.4)'")
    assert await audit(page) != [], "the audit itself sees what is wrong"
    assert (watch.said, watch.outside) == ([], [])
    assert not [url for url in watch.asked if "999000" in url or "RTK-" in url]


async def test_paper_is_white_whatever_the_screen(chromium: Browser, serve: Serve, own: PageRegion) -> None:
    await mixed(own)
    base = await serve(own)
    page = await chromium.new_page(color_scheme="dark")
    await find(page, base)
    ground = "getComputedStyle(document.documentElement).backgroundColor"
    dark = await page.evaluate(ground)
    await page.emulate_media(media="print", color_scheme="dark")
    paper = await page.evaluate(ground)
    assert [sum(map(int, re.findall(r"\d+", colour)[:3])) > 600 for colour in (dark, paper)] == [False, True]
    await expect(page.locator(".printed")).to_be_visible()


async def test_the_page_follows_the_trusts(chromium: Browser, serve: Serve, own: PageRegion) -> None:
    await own.publish(*samples.STUDIES[:3])
    base = await serve(own, poll_s=2)
    page = await chromium.new_page()
    await find(page, base)
    row = page.locator("[data-study-uid='1.2.826.0.1.1']")
    await expect(row.locator("[data-part=words]")).to_have_text("Open now")
    await expect(page.locator("#complete")).to_have_text(
        "Complete at 03:12: every trust’s list was up to date."
    )
    own.away("RTK")
    await expect(row.locator("[data-part=words]")).to_have_text("Not reachable since 01:12", timeout=10_000)
    await expect(row.locator("[data-part=view]")).to_be_hidden()
    await expect(page.locator("#complete")).to_contain_text("This list may not be complete.")
    await expect(page.locator("[data-site=RTK]")).to_contain_text("Not reachable since 01:12")
    await expect(page.locator("[data-study-uid='1.2.826.0.1.2'] [data-part=words]")).to_have_text("Open now")
    questions = len(await own.acts())
    await own.publish(samples.holding("RTK", 9, "New while away", day="20261122"))
    await expect(page.locator("[data-study-uid='1.2.826.0.1.9']")).to_be_visible(timeout=10_000)
    await expect(page.locator("#complete")).to_contain_text("Complete at")
    assert len(await own.acts()) == questions + 1, "the list was asked for again, once"


async def test_a_page_that_nobody_looks_at_claims_nothing(
    chromium: Browser, serve: Serve, shared: PageRegion
) -> None:
    page = await chromium.new_page()
    await page.clock.install()
    base = await serve(shared, poll_s=2)
    await find(page, base)
    words = page.locator("[data-study-uid='1.2.826.0.1.1'] [data-part=words]")
    await expect(words).to_have_text("Open now")
    await page.clock.run_for(11 * 60 * 1000)
    await expect(words).to_have_text("Not known since 03:12")
    assert "Open now" not in await page.inner_text("body")
    assert "Up to date" not in await page.inner_text("body")
    await page.mouse.move(10, 10)
    await page.clock.run_for(100)
    await expect(words).to_have_text("Open now")


async def test_one_fact_has_one_box(chromium: Browser, serve: Serve, own: PageRegion) -> None:
    await own.publish(*samples.STUDIES)
    await own.feed(own.bob("RXC", 9))
    page = await chromium.new_page()
    await find(page, await serve(own, poll_s=2))
    boxes = page.locator(".split__main .notice:visible, .split__main .complete:visible")
    await expect(boxes).to_have_count(1)
    await expect(boxes).to_contain_text("so this list may not be complete")
    own.away("RTK")
    await expect(boxes).to_have_count(2, timeout=10_000)  # another fact
    await expect(boxes.nth(1)).to_contain_text("has not answered since 01:12")
    assert "in doubt" not in await boxes.nth(1).inner_text()


async def test_no_imaging_is_taken_back_when_it_is_no_longer_proven(
    chromium: Browser, serve: Serve, own: PageRegion
) -> None:
    await own.feed(own.patient("RTK"))
    base = await serve(own, poll_s=2)
    page = await chromium.new_page()
    await page.goto(base + "/")
    await page.fill("#number", "9990000018")
    await page.press("#number", "Enter")
    await expect(page.locator("h1")).to_have_text("No imaging")
    own.away("RYR")
    await expect(page.locator("h1")).to_have_text("None found so far", timeout=10_000)
    await own.publish(*samples.STUDIES)
    await expect(page.locator("h1")).to_have_text("6 studies at 5 trusts", timeout=10_000)


async def test_without_javascript(chromium: Browser, serve: Serve, shared: PageRegion) -> None:
    base = await serve(shared)
    context = await chromium.new_context(java_script_enabled=False)
    page = await context.new_page()
    await find(page, base)
    await expect(page.locator("[data-study-uid]")).to_have_count(6)
    await page.click("[data-study-uid='1.2.826.0.1.1'] [data-part=view]")
    await expect(page.locator("#picture img")).to_be_visible()
    await page.click(".series >> nth=1")
    await expect(page.locator(".series--current")).to_have_attribute("data-series", "1.2.826.0.1.1.2")
    await context.close()


async def test_by_keyboard_alone(chromium: Browser, serve: Serve, shared: PageRegion) -> None:
    base = await serve(shared)
    page = await chromium.new_page()
    await page.goto(base + "/")
    assert await page.evaluate("document.activeElement.id") == "number"
    await page.keyboard.type("999 000 0018")
    await page.keyboard.press("Enter")
    await page.wait_for_selector("[data-study-uid]")
    for _ in range(20):
        await page.keyboard.press("Tab")
        focused = await page.evaluate("document.activeElement.dataset.part || ''")
        covered = await page.evaluate(
            "(() => { const b = document.activeElement.getBoundingClientRect();"
            " const bar = document.querySelector('.banner-bar').getBoundingClientRect();"
            " const free = document.activeElement.closest('.top, .skip') || b.height <= 1;"
            " return !free && b.top < bar.bottom - 1 && b.bottom > bar.top })()"
        )
        assert not covered, "the banner hides the focus"
        if focused == "view":
            break
    await page.keyboard.press("Enter")
    await page.wait_for_selector("#viewer")
    assert page.url.endswith("/studies/1.2.826.0.1.1")


async def test_hostile_names_do_nothing(chromium: Browser, serve: Serve, own: PageRegion) -> None:
    study = samples.holding("RTK", 1, "</h3><script>alert(3)</script>")
    await own.publish(
        study, whose=own.patient("RTK", pn="<img src=x onerror=alert(1)>^\"'><script>alert(2)</script>")
    )
    base = await serve(own)
    page = await chromium.new_page()
    watch = Watch(page, base)
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: dialogs.append(dialog.message))
    await find(page, base)
    await expect(page.locator("h3")).to_contain_text("</h3><script>alert(3)</script>")
    await page.click("[data-part=view]")
    await page.wait_for_selector("#picture canvas")
    assert (dialogs, watch.said) == ([], [])
