"""The page as a clinician meets it: a secured region of real processes, real images, sign-in through the
demo's provider.
"""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import barcode
import pytest
from browsing import Series, audit, painted, seen, slow, watch_pictures, wrong
from playwright.async_api import Browser, Locator, Page, expect
from secured_region import Secured

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

#: How bright a picture is, and how much of it differs: a blank one has no contrast.
PIXELS = (
    "(image) => { const c = document.createElement('canvas'); c.width = c.height = 64; const g ="
    " c.getContext('2d'); g.drawImage(image, 0, 0, 64, 64); const d = g.getImageData(0, 0, 64, 64).data;"
    " const v = []; for (let i = 0; i < d.length; i += 4) v.push(d[i] + d[i + 1] + d[i + 2]); return"
    " [Math.max(...v) - Math.min(...v), new Set(v).size, image.naturalWidth ?? image.width] }"
)
FOLLOWS_MS = 12_000  # the page and its strip follow a member's state within this


@dataclass
class Watched:
    """A page, and all that it asked and said."""

    page: Page
    base: str
    asked: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def check(self, secured: Secured, *, refused: int = 0) -> None:
        """Nothing was asked elsewhere, nothing said on the console, no identifier stood in an address."""
        assert not [url for url in self.asked if not url.startswith(self.base + "/")]
        assert len(self.refused) == refused, self.refused
        assert len(self.said) == refused, self.said  # the browser says one line for each
        names = {
            secured.patient.national,
            secured.patient.family,
            secured.double.family,
            *secured.patient.local_ids.values(),
        }
        for url in self.asked:
            assert not [name for name in names if name.casefold() in url.casefold()], url
            assert not re.search(r"[0-9]{3}(%20|\+)[0-9]{3}(%20|\+)[0-9]{4}", url)

    async def shot(self, name: str) -> None:
        """Keep a picture for people, where CROSSLIGHT_SCREENSHOTS names a folder."""
        if folder := os.environ.get("CROSSLIGHT_SCREENSHOTS"):
            await self.page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


@asynccontextmanager
async def opened(chromium: Browser, secured: Secured, width: int = 1400) -> AsyncIterator[Watched]:
    """A fresh browser window on the region."""
    context = await chromium.new_context(viewport={"width": width, "height": 844}, ignore_https_errors=True)
    page = await context.new_page()
    watched = Watched(page, secured.base)
    page.on("console", lambda message: watched.said.append(message.text))
    page.on("pageerror", lambda error: watched.said.append(str(error)))
    page.on("request", lambda request: watched.asked.append(request.url))
    page.on(
        "response",
        lambda answer: (
            watched.refused.append(f"{answer.status} {answer.url}") if answer.status >= 400 else None
        ),
    )
    try:
        yield watched
    finally:
        await context.close()


async def sign_in(page: Page, secured: Secured, role: str, organisation: str = "") -> None:
    """Through the demo's provider, from the page's own front door."""
    account = secured.account(role, organisation)
    await page.goto(secured.base + "/")
    await expect(page.locator("h1")).to_have_text("Sign in")
    await page.fill("#user", account.user)
    await page.fill("#password", account.password)
    await page.click("button[type=submit]")
    await expect(page.locator(".top__user")).to_contain_text(account.name)


async def by_number(page: Page, number: str) -> None:
    """Search as it is written on a request card."""
    await page.fill("#number", f"{number[:3]} {number[3:6]} {number[6:]}")
    await page.press("#number", "Enter")


async def not_blank(image: Locator) -> None:
    """A picture has come and shows something."""
    await expect(image).to_be_visible()
    await image.evaluate("(i) => i.decode?.()")
    contrast, shades, width = await image.evaluate(PIXELS)
    assert contrast > 200, "a picture without contrast"
    assert shades > 20
    assert width > 32


async def test_a_night_on_call(chromium: Browser, secured: Secured) -> None:
    """Sign in, find, look, open, lose a trust and get it back, sign out."""
    ct, mr, cr, _ = secured.plans
    async with opened(chromium, secured) as watched:
        page = watched.page
        await sign_in(page, secured, "clinician", ct.code)
        await watched.shot("1-search")
        await by_number(page, secured.patient.national)
        rows = page.locator("[data-study-uid]")
        await expect(rows).to_have_count(3)
        assert [await rows.nth(n).get_attribute("data-study-uid") for n in range(3)] == [
            ct.uid,
            cr.uid,
            mr.uid,
        ]
        await expect(page.locator("h1")).to_have_text("3 studies at 3 trusts")
        await expect(rows.nth(0).locator("h3")).to_contain_text(ct.description)
        notice = page.locator(".notice--alert")
        await expect(notice).to_contain_text("claims this number: compare name and date of birth.")
        await expect(notice).to_contain_text("It is not shown here")
        assert secured.double.given not in await page.content()
        await expect(page.locator("#complete")).to_contain_text("This list may not be complete.")
        for n in range(3):
            await not_blank(rows.nth(n).locator(".study__thumb img"))
        await watched.shot("2-patient")
        await _look(watched, ct.uid, mr.uid)
        await _lose(watched, secured, mr.code, mr.uid, ct.uid)
        address = page.url
        await page.click("text=Sign out")
        await expect(page.locator("h1")).to_have_text("You are signed out")
        await watched.shot("6-signed-out")
        await page.goto(address)
        await expect(page.locator("h1")).to_have_text("Sign in")
        watched.check(secured)


async def _look(watched: Watched, ct: str, mr: str) -> None:
    page = watched.page
    await page.click(f"[data-study-uid='{ct}'] [data-part=view]")
    image = page.locator("#picture canvas")
    await not_blank(image)
    await expect(page.locator("#position")).to_have_text("Image 1 / 12")
    await page.focus("#stage")
    await page.keyboard.press("End")
    await expect(page.locator("#position")).to_have_text("Image 12 / 12")
    await not_blank(image)
    await watched.shot("3-viewer")
    await page.click("text=All studies")
    await page.click(f"[data-study-uid='{mr}'] [data-part=view]")
    await not_blank(image)
    await page.click("text=All studies")
    for n in range(3):
        await not_blank(page.locator("[data-study-uid]").nth(n).locator(".study__thumb img"))


async def _lose(watched: Watched, secured: Secured, code: str, lost: str, other: str) -> None:
    """A node is killed and started again; the open page tells, and nobody touches it."""
    page = watched.page
    row = page.locator(f"[data-study-uid='{lost}']")
    secured.kill(code)
    await expect(page.locator(f"[data-site={code}]")).to_contain_text(
        "Not reachable since", timeout=FOLLOWS_MS
    )
    await expect(row.locator("[data-part=words]")).to_contain_text("Not reachable since", timeout=1000)
    await expect(row.locator("[data-part=view]")).to_be_hidden()
    await expect(page.locator("#complete")).to_contain_text("This list may not be complete.")
    await expect(page.locator(f"[data-study-uid='{other}'] [data-part=words]")).to_have_text("Open now")
    await watched.shot("4-a-trust-away")
    secured.run(secured.region.start(code))
    await expect(row.locator("[data-part=words]")).to_have_text("Open now", timeout=FOLLOWS_MS)
    await expect(page.locator(f"[data-site={code}]")).to_contain_text("Up to date", timeout=FOLLOWS_MS)
    await expect(row.locator("[data-part=view]")).to_be_visible()
    await watched.shot("5-back")


async def test_on_a_slow_line_the_label_is_the_pictures_and_a_lost_trust_brings_them_back(
    chromium: Browser, secured: Secured
) -> None:
    """Rendered by a node, through the gateway: what is painted is read back from its pixels at every tick."""
    plan, base = secured.numbered, 0b01  # as stored
    async with opened(chromium, secured) as watched:
        page = watched.page
        await watch_pictures(page)
        await sign_in(page, secured, "clinician", plan.code)
        await by_number(page, plan.patient.national)
        row = page.locator(f"[data-study-uid='{plan.uid}']")
        await expect(row.locator(".study__facts")).to_contain_text("1 series, 60 images", timeout=FOLLOWS_MS)
        await row.locator("[data-part=view]").click()
        await painted(page, [1, 1, base])
        await slow(page, 1e6)
        for _ in range(40):
            await page.keyboard.press("ArrowDown", delay=20)
        await painted(page, [1, 41, base])
        await page.select_option("#window", label="Lung")
        await page.focus("#stage")
        await page.keyboard.press("PageUp")
        await painted(page, [1, 31, 0b11])
        await page.select_option("#window", label="Bone")
        await painted(page, [1, 31, 0b00])
        secured.kill(plan.code)
        await page.focus("#stage")
        await page.keyboard.press("Home")
        message = page.locator("#message")
        await expect(message).to_contain_text("Trying again by itself.", timeout=FOLLOWS_MS)
        await expect(message).to_contain_text("Not reachable since", timeout=FOLLOWS_MS)
        await watched.shot("3-viewer-away")
        rows = await seen(page)
        assert len({row["code"][1] for row in rows if row["code"]}) > 4, "while scrolling something moved"
        await page.reload()  # opened while it is away
        await expect(message).to_contain_text("Not reachable since", timeout=FOLLOWS_MS)
        secured.run(secured.region.start(plan.code))
        await painted(page, [1, 1, base])
        series = await page.locator(".series--current").get_attribute("data-series") or ""
        name = await page.locator(".series--current .series__name").inner_text()
        number = plan.patient.national
        written = f"{number[:3]} {number[3:6]} {number[6:]}"
        rows += await seen(page)
        assert wrong(rows, {1: Series(series, name)}, barcode.SLICE_WINDOWS, written) == []


async def test_by_name_and_date_of_birth(chromium: Browser, secured: Secured) -> None:
    who, own = secured.patient, secured.plans[3]
    async with opened(chromium, secured) as watched:
        page = watched.page
        await sign_in(page, secured, "clinician", own.code)
        await page.fill("#family", who.family.upper())
        for name, value in (
            ("day", who.birth_date.day),
            ("month", who.birth_date.month),
            ("year", who.birth_date.year),
        ):
            await page.fill(f"#{name}", str(value))
        await page.press("#year", "Enter")
        # The member that holds the disputed record sees both, and is told which is which.
        await expect(page.locator("h1")).to_have_text("1 patient with this name and date of birth")
        await expect(page.locator(".notice--alert")).to_contain_text(
            "It is listed below under its own local number"
        )
        await expect(page.locator("h2", has_text="In doubt")).to_have_text(
            "In doubt: 1 record that gives the same national number"
        )
        await expect(page.locator(".person", has_text="Disputed record")).to_contain_text(
            secured.double.given
        )
        assert await audit(page) == []
        await watched.shot("7-two-records")
        await page.locator(".person", has_not_text="Disputed record").locator("a.button").click()
        await expect(page.locator("[data-study-uid]")).to_have_count(3)
        await expect(page.locator(".banner__name")).to_contain_text(who.family.upper())
        await by_other_number(page, secured)
        watched.check(secured, refused=1)


async def by_other_number(page: Page, secured: Secured) -> None:
    """A number that nobody has, and one that is none."""
    await page.goto(secured.base + "/")
    await by_number(page, "9990000018")
    await expect(page.locator("h1")).to_contain_text("No patient found with this number")
    wrong = secured.patient.national[:-1] + str((int(secured.patient.national[-1]) + 1) % 10)
    await by_number(page, wrong)  # answered 400: the form again
    await expect(page.locator("#number-error, .error-summary").first).to_contain_text(
        "not a valid NHS number"
    )


async def test_a_porter_sees_nothing(chromium: Browser, secured: Secured) -> None:
    async with opened(chromium, secured) as watched:
        page = watched.page
        await sign_in(page, secured, "porter")
        await expect(page.locator("h1")).to_have_text("You may not see this")
        assert await page.locator("form[action='/search'], #number, a.button").count() == 0
        await watched.shot("8-porter")
        uid = secured.plans[0].uid
        found = await page.evaluate(
            "async ([number, uid]) => Promise.all([fetch('/search', {method: 'POST', body: new"
            " URLSearchParams({number})}),fetch('/dicomweb/studies/' + uid + '/thumbnail'),"
            " fetch('/dicomweb/studies'), fetch('/fhir/ImagingStudy'),fetch('/fhir/Patient/none')].map(async"
            " (p) => { const r = await p; return [r.status, await r.text()] }))",
            [secured.patient.national, uid],
        )
        assert [status for status, _ in found] == [403] * 5
        told = "".join(text for _, text in found)
        assert secured.patient.family not in told
        assert secured.patient.given not in told
        watched.check(secured, refused=6)


@pytest.mark.parametrize("width", [1400, 1024, 390])
async def test_every_page_fits(chromium: Browser, secured: Secured, width: int) -> None:
    async with opened(chromium, secured, width) as watched:
        page = watched.page
        await page.goto(secured.base + "/")
        assert await audit(page) == []
        await sign_in(page, secured, "clinician", secured.plans[0].code)
        assert await audit(page) == []
        await by_number(page, secured.patient.national)
        await expect(page.locator("[data-study-uid]")).to_have_count(3)
        assert await audit(page) == []
        await watched.shot(f"9-patient-{width}")
        await page.locator("[data-part=view]").first.click()
        await not_blank(page.locator("#picture canvas"))
        assert await audit(page) == []
        await watched.shot(f"9-viewer-{width}")
        watched.check(secured)


@pytest.mark.parametrize("width", [1280, 390])
async def test_an_identity_officer_decides_and_takes_it_back(
    chromium: Browser, secured: Secured, width: int
) -> None:
    """From the header's link to a case, with keyboard and mouse, through the real sign-in and its
    anti-forgery token.
    """
    async with opened(chromium, secured, width) as watched:
        page = watched.page
        await sign_in(page, secured, "identity")
        await page.click("text=Identity queue")
        await expect(page.locator("h1")).to_have_text("1 record waits for a decision")
        assert await audit(page) == []
        await page.click(".queue a")
        await expect(page.locator(".sides").first).to_contain_text(secured.double.given)
        await expect(page.locator(".sides").first).to_contain_text(secured.patient.given)
        await expect(page.locator(".sides").first).to_contain_text("Differs")
        assert await audit(page) == []
        await watched.shot(f"8-identity-{width}")
        # the comparison on paper, with who read it and nothing to press
        await page.emulate_media(media="print")
        await expect(page.locator(".printed")).to_contain_text(" by Identity clerk, ")
        await expect(page.locator("button:visible")).to_have_count(0)
        await page.emulate_media(media="screen")
        await page.click("text=Stands alone")
        await expect(page.locator(".error-summary")).to_contain_text("Give the reason")
        await page.fill("#decide-reason", "the trust says: a typing error")
        await page.click("text=Stands alone")
        await expect(page.locator(".lede")).to_have_text("Nothing waits here.")
        await page.click("text=Take this decision back")
        await page.fill(".undo textarea", "only tried")
        assert await audit(page) == []
        await page.click("button:has-text('Take it back')")
        await expect(page.locator(".lede")).to_contain_text("Claims a number")
        await expect(page.locator(".acts").first).to_contain_text("only tried")
        watched.check(secured, refused=1)  # the form without a reason is answered 400
