"""The page in Chromium: it works, asks nobody else, can be read, and follows the members' state by itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import portal_samples as samples
import pytest
import pytest_asyncio
from aiohttp import web
from playwright.async_api import Browser, Page, Route, expect

from crosslight.standards.study import PersonName

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

#: A function for ``page.evaluate``; its list is empty when all is well.
AUDIT = Path(__file__).with_name("page_audit.js").read_text("utf-8").split("\n", 2)[2]

Serve = Callable[..., Awaitable[str]]


@pytest_asyncio.fixture(loop_scope="session")
async def serve() -> AsyncIterator[Serve]:
    """Serves the page on loopback; returns its address."""
    runners: list[web.AppRunner] = []

    async def start(ask: samples.FakeAsk, **how: Any) -> str:
        runner = web.AppRunner(samples.app_of(ask, **how))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        runners.append(runner)
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    yield start
    for runner in runners:
        await runner.cleanup()


class Watch:
    """What a page said to the console and asked of the network."""

    def __init__(self, page: Page, base: str) -> None:
        self.said: list[str] = []
        self.outside: list[str] = []
        self.asked: list[str] = []
        page.on("console", lambda message: self.said.append(message.text))
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("request", lambda request: None if request.url.startswith(base) else self.outside.append(request.url))
        page.on("response", lambda answer: self.said.append(f"{answer.status} {answer.url}") if answer.status >= 400 else None)


async def audit(page: Page) -> list[str]:
    """What is wrong with a page once its styles are there."""
    await page.wait_for_load_state()
    found: list[str] = await page.evaluate(AUDIT)
    return found


async def find(page: Page, base: str) -> None:
    await page.goto(base + "/")
    await page.fill("#number", "999 000 0018")
    await page.press("#number", "Enter")
    await page.wait_for_selector("[data-study-uid]")


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
    await page.wait_for_selector("#picture img")
    assert await audit(page) == []
    await page.evaluate("document.querySelector('h1').style.color = 'rgba(128, 128, 128, 0.4)'")
    assert await audit(page) != [], "the audit itself sees what is wrong"
    assert (watch.said, watch.outside) == ([], [])
    assert not [url for url in watch.asked if "999000" in url or "RTK-" in url]


async def test_images_by_keys_wheel_and_slider(chromium: Browser, serve: Serve) -> None:
    base = await serve(samples.one_patient())
    page = await chromium.new_page(viewport={"width": 1200, "height": 900})
    watch = Watch(page, base)
    await find(page, base)
    await page.click("[data-study-uid='1.2.826.0.1.1'] [data-part=view]")
    shown, image = page.locator("#position"), page.locator("#picture img")
    await expect(shown).to_have_text("Image 1 / 40")
    for key, position in (("ArrowDown", 2), ("PageDown", 12), ("End", 40), ("ArrowDown", 40), ("ArrowUp", 39), ("Home", 1)):
        await page.keyboard.press(key)
        await expect(shown).to_have_text(f"Image {position} / 40")
    await page.mouse.move(700, 500)
    await page.mouse.wheel(0, 120)
    await expect(shown).to_have_text("Image 4 / 40")
    await page.locator("#slider").fill("20")
    await expect(image).to_have_attribute("alt", "Image 20 of 40")
    await page.select_option("#window", label="Lung")
    await expect(page.locator("#picture img[src*='window=-600,1500,linear']")).to_be_visible()
    bright = await image.evaluate(
        "(img) => { const c = document.createElement('canvas'); c.width = c.height = 64; const g = c.getContext('2d');"
        " g.drawImage(img, 0, 0, 64, 64); const d = g.getImageData(0, 0, 64, 64).data;"
        " return d.reduce((s, v, i) => s + (i % 4 < 3 ? v : 0), 0); }"
    )
    assert bright > 64 * 64 * 3 * 20, "not a black square"
    await page.focus("#stage")
    await page.keyboard.press("+")
    await expect(page.locator("#stage")).to_have_class("stage stage--zoomed")
    await page.keyboard.press("ArrowRight")
    await expect(page.locator(".series--current")).to_have_attribute("data-series", "1.2.826.0.1.1.2")
    await expect(shown).to_have_text("Frame 1 / 42")  # one of its 40 images has three
    await page.click("text=All studies")
    await page.wait_for_selector(".timeline")
    assert (watch.said, watch.outside) == ([], [])


async def test_pictures_that_fail_are_not_asked_for_without_end(chromium: Browser, serve: Serve) -> None:
    base = await serve(samples.one_patient())
    page = await chromium.new_page()
    await find(page, base)
    asked: list[str] = []

    async def refuse(route: Route) -> None:
        asked.append(route.request.url)
        await route.abort()

    await page.route("**/rendered?*", refuse)
    await page.click("[data-study-uid='1.2.826.0.1.1'] [data-part=view]")
    await expect(page.locator("#message")).to_have_text("This image cannot be shown here.")
    await page.click("text=All studies")
    await page.wait_for_selector(".timeline")
    assert len(asked) == len(set(asked)) <= 25


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
    await page.wait_for_selector("#picture img")
    assert (dialogs, watch.said) == ([], [])
