"""How the preview is driven, in Chromium: wheel, keys, slider, menu, mouse and touch."""

from __future__ import annotations

import re

import pytest
from browsing import Serve, Watch, painted, seen
from page_region import PageRegion
from playwright.async_api import Browser, Locator, expect
from previewed_study import STUDY, in_module, preview, wrong

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


@pytest.mark.parametrize("pixels", [100, 120, 53, 125])
async def test_one_notch_is_one_image(
    chromium: Browser, serve: Serve, shared: PageRegion, pixels: int
) -> None:
    base = await serve(shared)
    page = await chromium.new_page(viewport={"width": 1200, "height": 900})
    await preview(page, base)
    await painted(page, [1, 1, 0])
    await page.mouse.move(700, 400)
    for number in (2, 3, 4, 5, 6):
        await page.mouse.wheel(0, pixels)
        await painted(page, [1, number, 0])
    await page.mouse.wheel(0, -pixels)
    await painted(page, [1, 5, 0])
    numbers = [row["code"][1] for row in await seen(page) if row["code"]]
    assert [n for n, before in zip(numbers, [0, *numbers], strict=False) if n != before] == [
        1,
        2,
        3,
        4,
        5,
        6,
        5,
    ]
    await page.keyboard.down("Shift")
    await page.mouse.wheel(0, pixels)
    await page.keyboard.up("Shift")
    await painted(page, [1, 15, 0])


#: What a wheel's event has -> images it means, pixels left over.
TURNS = [
    ({"deltaY": 100, "wheelDeltaY": -120}, 0, 1, 0),
    ({"deltaY": -100, "wheelDeltaY": 120}, 0, -1, 0),
    ({"deltaY": 80, "wheelDeltaY": -120}, 0, 1, 0),  # the page enlarged
    ({"deltaY": 300, "wheelDeltaY": -120}, 0, 1, 0),  # many lines a notch, by the system's setting
    ({"deltaY": 200, "wheelDeltaY": -240}, 0, 2, 0),  # two notches in one event
    ({"deltaY": 3, "deltaMode": 1}, 0, 1, 0),  # lines
    ({"deltaY": 1, "deltaMode": 2}, 0, 1, 0),  # pages
    ({"deltaY": 120}, 0, 1, 0),
    ({"deltaY": 7, "wheelDeltaY": -21}, 0, 0, 7),  # a trackpad
    ({"deltaY": 7, "wheelDeltaY": -21}, 35, 1, 2),
    ({"deltaY": -7, "wheelDeltaY": 21}, 35, 0, -7),
    ({"deltaX": 100, "wheelDeltaX": -120, "shiftKey": True}, 0, 10, 0),
    ({"deltaY": 100, "wheelDeltaY": -120, "shiftKey": True}, 0, 10, 0),
    ({"deltaY": 0, "deltaX": 0}, 12, 0, 12),
]


async def test_turns_of_the_wheel(chromium: Browser, serve: Serve, shared: PageRegion) -> None:
    base = await serve(shared)
    page = await chromium.new_page()
    await preview(page, base)
    turns = await in_module(
        page,
        "viewer-input.js",
        "(all) => all.map(([event, left]) => m.turnOf({deltaX: 0, deltaY: 0, deltaMode: 0, shiftKey: false,"
        " ...event}, left))",
        [[event, left] for event, left, _, _ in TURNS],
    )
    assert [(turn["steps"], turn["left"]) for turn in turns] == [(steps, left) for _, _, steps, left in TURNS]


async def test_keys_slider_windows_series_and_reload(
    chromium: Browser, serve: Serve, shared: PageRegion
) -> None:
    base = await serve(shared)
    page = await chromium.new_page(viewport={"width": 1200, "height": 900})
    watch = Watch(page, base)
    await preview(page, base)
    shown = page.locator("#position")
    await painted(page, [1, 1, 0])
    for key, position in (
        ("ArrowDown", 2),
        ("PageDown", 12),
        ("End", 40),
        ("ArrowDown", 40),
        ("ArrowUp", 39),
        ("Home", 1),
    ):
        await page.keyboard.press(key)
        await painted(page, [1, position, 0])
    await page.locator("#slider").fill("20")
    await painted(page, [1, 20, 0])
    box = await page.locator("#window").bounding_box()
    assert box is not None
    await page.mouse.click(box["x"] + 5, box["y"] + 5)
    for key in ("ArrowDown", "ArrowDown"):
        await page.keyboard.press(key)
    await page.keyboard.press("Enter")
    await expect(page.locator("#window")).to_have_value("-600,1500")
    await painted(page, [1, 20, 2])
    await page.focus("#stage")
    await page.keyboard.press("+")
    await expect(page.locator("#stage")).to_have_class(re.compile("stage--zoomed"))
    await page.keyboard.press("ArrowRight")
    await expect(shown).to_have_text("Frame 1 / 42")  # one of its 40 images has three
    await expect(page.locator(".series--current")).to_contain_text("42 frames in 40 images")
    await expect(page.locator(".series[aria-current]")).to_have_attribute("aria-current", "true")
    assert await page.locator(".series[aria-current]").count() == 1
    assert page.url.endswith(f"/studies/{STUDY}?series={STUDY}.2")
    await page.reload()
    await expect(shown).to_have_text("Frame 1 / 42")
    await expect(page.locator(".series--current")).to_have_attribute("data-series", f"{STUDY}.2")
    await page.click("text=All studies")
    await page.wait_for_selector(".timeline")
    assert page.url.endswith(f"#study-{STUDY}")
    assert (watch.said, watch.outside) == ([], [])


async def test_after_a_window_chosen_by_mouse_the_keys_are_the_images(
    chromium: Browser, serve: Serve, shared: PageRegion
) -> None:
    base = await serve(shared)
    page = await chromium.new_page(viewport={"width": 1200, "height": 900})
    await preview(page, base)
    await painted(page, [1, 1, 0])
    await page.locator("#window").dispatch_event("pointerdown")
    await page.select_option("#window", label="Lung")
    await painted(page, [1, 1, 2])
    await page.keyboard.press("ArrowDown")
    await painted(page, [1, 2, 2])
    await page.focus("#window")  # by keyboard the menu keeps its keys
    await page.keyboard.press("ArrowDown")
    await painted(page, [1, 2, 3])
    assert await page.evaluate("document.activeElement.id") == "window"


async def test_no_bright_ring_that_the_reader_did_not_ask_for(
    chromium: Browser, serve: Serve, shared: PageRegion
) -> None:
    base = await serve(shared)
    page = await chromium.new_page()
    await preview(page, base)
    await painted(page, [1, 1, 0])
    ring = "getComputedStyle(document.getElementById('stage')).outlineColor + document.activeElement.id"
    bright = "rgb(255, 235, 59)stage"
    assert await page.evaluate(ring) != bright
    assert (await page.evaluate(ring)).endswith("stage")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Shift+Tab")
    assert await page.evaluate(ring) == bright


async def box_of(stage: Locator) -> tuple[float, float]:
    """Its middle."""
    box = await stage.bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


async def test_drag_and_touch(chromium: Browser, serve: Serve, shared: PageRegion) -> None:
    base = await serve(shared)
    context = await chromium.new_context(
        viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True
    )
    page = await context.new_page()
    await preview(page, base)
    await painted(page, [1, 1, 0])
    x, y = await box_of(page.locator("#stage"))
    session = await context.new_cdp_session(page)

    async def touch(kind: str, *points: tuple[float, float]) -> None:
        where = [{"x": px, "y": py, "id": n} for n, (px, py) in enumerate(points)]
        await session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": where})

    await touch("touchStart", (x + 60, y))
    for n in range(1, 9):
        await touch("touchMove", (x + 60 - 10 * n, y))
    await touch("touchEnd")
    await page.wait_for_function("() => window.seen.at(-1).code?.[1] > 4")
    await touch("touchStart", (x - 20, y), (x + 20, y))
    for n in range(1, 6):
        await touch("touchMove", (x - 20 - 8 * n, y), (x + 20 + 8 * n, y))
    await touch("touchEnd")
    await expect(page.locator("#stage")).to_have_class(re.compile("stage--zoomed"))
    assert await page.evaluate("visualViewport.scale") == 1
    assert wrong(await seen(page)) == []
    await context.close()
    page = await chromium.new_page(viewport={"width": 1200, "height": 900})
    await preview(page, base)
    await painted(page, [1, 1, 0])
    x, y = await box_of(page.locator("#stage"))
    await page.mouse.move(x, y - 200)
    await page.mouse.down()
    await page.mouse.move(x, y + 100, steps=20)
    await page.mouse.up()
    await page.wait_for_function("() => window.seen.at(-1).code?.[1] > 10")
    assert wrong(await seen(page)) == []
