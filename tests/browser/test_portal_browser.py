"""The page in Chromium: it works, asks nobody else, can be read, and follows the members' state by itself."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import portal_samples as samples
import pytest
from browsing import Serve, Watch, audit, find
from playwright.async_api import Browser, expect

from crosslight.standards.study import PersonName

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


def mixed() -> samples.FakeAsk:
    """A patient whose page shows everything at once."""
    whose = samples.person(
        samples.record(1, "RTK", pn="Yamada-O'Brien^Ada^^Mrs=山田^花子"), samples.record(2, "RYR", pn="SMITH^Ada"), differs=True
    )
    cover = samples.coverage(
        RTK=samples.away, RXC=lambda p: replace(p, list_state="filling", waiting=4, identity_doubt=True)
    )  # fmt: skip
    return samples.FakeAsk(persons=(whose,), holdings=samples.STUDIES, disputed=(samples.notice("RXC"),), cover=cover)


@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (1024, "light"), (390, "light"), (1400, "dark")])
async def test_every_page_can_be_read(chromium: Browser, serve: Serve, width: int, scheme: Any) -> None:
    base = await serve(mixed(), open_mode=width == 1024)
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


async def test_paper_is_white_whatever_the_screen(chromium: Browser, serve: Serve) -> None:
    base = await serve(mixed())
    page = await chromium.new_page(color_scheme="dark")
    await find(page, base)
    ground = "getComputedStyle(document.documentElement).backgroundColor"
    dark = await page.evaluate(ground)
    await page.emulate_media(media="print", color_scheme="dark")
    paper = await page.evaluate(ground)
    assert [sum(map(int, re.findall(r"\d+", colour)[:3])) > 600 for colour in (dark, paper)] == [False, True]
    await expect(page.locator(".printed")).to_be_visible()


async def test_the_page_follows_the_trusts(chromium: Browser, serve: Serve) -> None:
    ask = samples.one_patient()
    ask.holdings = ask.holdings[:3]
    base = await serve(ask, poll_s=2)
    page = await chromium.new_page()
    await find(page, base)
    row = page.locator("[data-study-uid='1.2.826.0.1.1']")
    await expect(row.locator("[data-part=words]")).to_have_text("Open now")
    await expect(page.locator("#complete")).to_have_text("Complete at 03:12: every trust’s list was up to date.")
    ask.cover = samples.coverage(RTK=samples.away)
    await expect(row.locator("[data-part=words]")).to_have_text("Not reachable since 01:12", timeout=10_000)
    await expect(row.locator("[data-part=view]")).to_be_hidden()
    await expect(page.locator("#complete")).to_contain_text("This list may not be complete.")
    await expect(page.locator("[data-site=RTK]")).to_contain_text("Not reachable since 01:12")
    await expect(page.locator("[data-study-uid='1.2.826.0.1.2'] [data-part=words]")).to_have_text("Open now")
    questions = len(ask.asked)
    ask.holdings = (*ask.holdings, samples.holding("RTK", 9, "New while away", day="20261122"))
    ask.cover = samples.coverage()
    await expect(page.locator("[data-study-uid='1.2.826.0.1.9']")).to_be_visible(timeout=10_000)
    await expect(page.locator("#complete")).to_contain_text("Complete at")
    assert len(ask.asked) == questions + 1, "the list was asked for again, once"


async def test_a_page_that_nobody_looks_at_claims_nothing(chromium: Browser, serve: Serve) -> None:
    page = await chromium.new_page()
    await page.clock.install()
    base = await serve(samples.one_patient(), poll_s=2)
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


async def test_one_fact_has_one_box(chromium: Browser, serve: Serve) -> None:
    cover = samples.coverage(RXC=lambda p: replace(p, identity_doubt=True))
    ask = samples.one_patient(disputed=(samples.notice("RXC"),), cover=cover)
    page = await chromium.new_page()
    await find(page, await serve(ask, poll_s=2))
    boxes = page.locator(".split__main .notice:visible, .split__main .complete:visible")
    await expect(boxes).to_have_count(1)
    await expect(boxes).to_contain_text("so this list may not be complete")
    ask.cover = samples.coverage(RXC=lambda p: replace(p, identity_doubt=True), RTK=samples.away)
    await expect(boxes).to_have_count(2, timeout=10_000)  # another fact
    await expect(boxes.nth(1)).to_contain_text("has not answered since 01:12")
    assert "in doubt" not in await boxes.nth(1).inner_text()


async def test_no_imaging_is_taken_back_when_it_is_no_longer_proven(chromium: Browser, serve: Serve) -> None:
    whose = samples.person(samples.record(1, "RTK"))
    ask = samples.FakeAsk(persons=(whose,))
    base = await serve(ask, poll_s=2)
    page = await chromium.new_page()
    await page.goto(base + "/")
    await page.fill("#number", "9990000018")
    await page.press("#number", "Enter")
    await expect(page.locator("h1")).to_have_text("No imaging")
    ask.cover = samples.coverage(RYR=samples.away)
    await expect(page.locator("h1")).to_have_text("None found so far", timeout=10_000)
    ask.holdings = samples.STUDIES
    ask.cover = samples.coverage()
    await expect(page.locator("h1")).to_have_text("6 studies at 5 trusts", timeout=10_000)


async def test_without_javascript(chromium: Browser, serve: Serve) -> None:
    base = await serve(samples.one_patient())
    context = await chromium.new_context(java_script_enabled=False)
    page = await context.new_page()
    await find(page, base)
    await expect(page.locator("[data-study-uid]")).to_have_count(6)
    await page.click("[data-study-uid='1.2.826.0.1.1'] [data-part=view]")
    await expect(page.locator("#picture img")).to_be_visible()
    await page.click(".series >> nth=1")
    await expect(page.locator(".series--current")).to_have_attribute("data-series", "1.2.826.0.1.1.2")
    await context.close()


async def test_by_keyboard_alone(chromium: Browser, serve: Serve) -> None:
    base = await serve(samples.one_patient())
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


async def test_hostile_names_do_nothing(chromium: Browser, serve: Serve) -> None:
    bad = samples.record(1, "RTK")
    bad = replace(
        bad, patient=replace(bad.patient, name=PersonName("<img src=x onerror=alert(1)>^\"'><script>alert(2)</script>"))
    )
    study = samples.holding("RTK", 1, "</h3><script>alert(3)</script>")
    base = await serve(samples.FakeAsk(persons=(samples.person(bad),), holdings=(study,)))
    page = await chromium.new_page()
    watch = Watch(page, base)
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: dialogs.append(dialog.message))
    await find(page, base)
    await expect(page.locator("h3")).to_contain_text("</h3><script>alert(3)</script>")
    await page.click("[data-part=view]")
    await page.wait_for_selector("#picture canvas")
    assert (dialogs, watch.said) == ([], [])
