"""An open page against a real registry and nodes: it follows its patient's answer, and claims nothing that
nobody can know.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import dicom_objects as make
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect
from scenario_hand import slices
from whole_region import Whole, whole_region

from crosslight.standards.ids import NHS_NUMBER_OID, Identifier
from registry.app import RegistryApp
from registry.config import read_config
from simulations.people import test_number as nhs_number

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(180)]
NUMBER, OTHER = nhs_number(9401), nhs_number(9402)
ROOT = "1.2.826.0.1.3680043.10.94"


@pytest_asyncio.fixture(loop_scope="session")
async def region(tmp_path: Path) -> AsyncIterator[Whole]:
    """Three trusts, one study at the first."""
    async with whole_region(tmp_path, {"RTK": "grpc", "RXC": "grpc", "RYR": "grpc"}) as made:
        await add(made, "RTK", 1)
        await made.homes["RTK"].settled()
        yield made


async def add(region: Whole, code: str, study: int, *, number: str = NUMBER, first: int = 1) -> None:
    """A slice of a study arrives."""
    datasets = slices(f"{ROOT}.{study}", 1, local=f"{code}-{number[-4:]}", national=number, first=first)
    await region.homes[code].add(make.part10(ds) for ds in datasets)


async def opened(chromium: Browser, region: Whole, number: str = NUMBER) -> Page:
    """The patient's page."""
    page = await chromium.new_page()
    await page.goto(region.base + "/")
    await page.fill("#number", number)
    await page.press("#number", "Enter")
    await page.wait_for_selector(".sites[data-version]")
    return page


def row(page: Page, study: int) -> str:
    return f"[data-study-uid='{ROOT}.{study}']"


async def searches(region: Whole) -> int:
    """Acts on record of the patient."""
    return len(
        await region.registry.parts.ground.audit.search(
            patient=Identifier(NUMBER, NHS_NUMBER_OID), limit=1000
        )
    )


async def test_a_new_a_changed_and_a_withdrawn_study_show_whatever_the_trusts_states(
    chromium: Browser, region: Whole
) -> None:
    region.homes["RTK"].hold()
    await add(region, "RTK", 2)  # of this patient: it waits all the time
    await region.homes["RXC"].app.connection.stop()  # and another trust is away
    page = await opened(chromium, region)
    await expect(page.locator("[data-site=RTK]")).to_contain_text(
        "studies of this patient waiting", timeout=15_000
    )
    await expect(page.locator("[data-site=RXC]")).to_contain_text("Not reachable since", timeout=15_000)
    await expect(page.locator("#complete")).to_contain_text("This list may not be complete.")
    read = page.locator("[data-part=read]")
    before, acts = await read.text_content(), await searches(region)
    for _ in range(3):
        async with page.expect_response(lambda answer: "/state.json" in answer.url):
            pass
    assert await searches(region) == acts, "looking is no act"
    assert await read.text_content() == before, "it says when the list was read, not when it was looked at"
    await add(region, "RYR", 3)
    await expect(page.locator(row(page, 3))).to_be_visible(timeout=10_000)
    await expect(page.locator(row(page, 3))).to_contain_text("1 image")
    await add(region, "RYR", 3, first=2)
    await expect(page.locator(row(page, 3))).to_contain_text("2 images", timeout=10_000)
    await region.homes["RYR"].settled()
    await region.homes["RYR"].app.archive.delete(f"{ROOT}.3", "withdrawn")
    await expect(page.locator(row(page, 3))).to_have_count(0, timeout=10_000)
    await expect(page.locator(row(page, 1))).to_be_visible()
    await expect(page.locator("[data-site=RTK]")).to_contain_text("studies of this patient waiting")
    await region.homes["RTK"].release()
    await expect(page.locator(row(page, 2))).to_be_visible(timeout=10_000)


async def test_others_studies_leave_an_open_page_as_it_is(chromium: Browser, region: Whole) -> None:
    await add(region, "RTK", 9, number=OTHER)
    await region.homes["RTK"].settled()
    page = await opened(chromium, region)
    await expect(page.locator("#complete")).to_contain_text("Complete at", timeout=15_000)
    acts = await searches(region)
    seen: list[str] = []
    await page.expose_function("seen", lambda text: seen.append(text))
    await page.evaluate(
        """new MutationObserver(() => {
            seen(document.querySelector(".sites__list").textContent
                + document.getElementById("complete").className);
        }).observe(document.body, {
            subtree: true, childList: true, characterData: true, attributes: true })"""
    )
    region.homes["RTK"].hold()
    for study in range(10, 14):
        await add(region, "RTK", study, number=OTHER)
    other = await opened(chromium, region, OTHER)
    await expect(other.locator("[data-site=RTK]")).to_contain_text(
        "studies of this patient waiting", timeout=15_000
    )
    for _ in range(3):
        async with page.expect_response(lambda answer: "/state.json" in answer.url):
            pass
    await region.homes["RTK"].release()
    await expect(other.locator(row(other, 13))).to_be_visible(timeout=10_000)
    assert not [text for text in seen if "Behind" in text or "waiting" in text or "complete--no" in text]
    await expect(page.locator("[data-site=RTK]")).to_contain_text("Up to date")
    assert await searches(region) == acts, "nor was its list asked for again"


async def test_nothing_is_claimed_when_the_registry_is_gone(chromium: Browser, region: Whole) -> None:
    page = await opened(chromium, region)
    preview = await opened(chromium, region)
    await preview.click(f"{row(preview, 1)} [data-part=view]")
    await preview.wait_for_selector("#viewer")
    opening = "[data-part=opening] [data-part=words]"
    for one in (page, preview):
        await expect(one.locator(opening)).to_have_text("Open now", timeout=15_000)
    await expect(page.locator("#complete")).to_contain_text("Complete at", timeout=15_000)
    await region.registry.stop()
    for one in (page, preview):
        await expect(one.locator(opening)).to_contain_text("Not known since", timeout=20_000)
        assert "Open now" not in await one.inner_text("body")
    for code in ("RTK", "RXC", "RYR"):
        await expect(page.locator(f"[data-site={code}] [data-part=state]")).to_contain_text("Not known since")
    assert "Up to date" not in await page.inner_text("body")
    await expect(page.locator("#complete")).to_contain_text("This list may be out of date.")
    folder = region.registry.folder
    region.registry = RegistryApp(folder, read_config(folder))
    await region.registry.start()
    try:
        for one in (page, preview):
            await expect(one.locator(opening)).to_have_text("Open now", timeout=30_000)
        await expect(page.locator("#complete")).to_contain_text("Complete at", timeout=20_000)
    finally:
        await page.close()
        await preview.close()
        await region.registry.stop()


async def test_a_preview_says_that_its_study_has_changed(chromium: Browser, region: Whole) -> None:
    page = await opened(chromium, region)
    await page.click(f"{row(page, 1)} [data-part=view]")
    changed = page.locator("#study-changed")
    await expect(changed).to_be_hidden()
    await add(region, "RTK", 5)
    await region.homes["RTK"].settled()
    async with page.expect_response(lambda answer: "/state.json" in answer.url):
        pass
    await expect(changed).to_be_hidden()
    await add(region, "RTK", 1, first=2)
    await expect(changed).to_be_visible(timeout=10_000)
    await changed.locator("a").click()
    await expect(page.locator(".viewer-head")).to_contain_text("2 images", timeout=10_000)
    await expect(changed).to_be_hidden()
