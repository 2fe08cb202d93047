"""What the preview shows, in Chromium: which picture, named how, in which order and size, fetched when.

Pictures carry their series, number and window in their pixels; what is painted is read back.
"""

from __future__ import annotations

import asyncio
from typing import Any

import portal_samples as samples
import pytest
from browsing import Serve, find, painted, seen, slow
from page_region import PageRegion
from playwright.async_api import Browser
from previewed_study import STUDY, in_module, preview, wrong

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


async def test_at_every_tick_the_label_is_the_pictures(
    chromium: Browser, serve: Serve, shared: PageRegion
) -> None:
    """A slow line, keys held down, the slider thrown, windows and series changed: whatever is painted is
    named truly.
    """
    pictures = samples.Pictures(images=120)
    base = await serve(shared, pictures=pictures)
    page = await chromium.new_page(viewport={"width": 1200, "height": 900})
    await preview(page, base)
    await painted(page, [1, 1, 0])
    await slow(page, 1.5e6)
    for _ in range(80):
        await page.keyboard.press("ArrowDown", delay=20)  # as a key that is held repeats
    await painted(page, [1, 81, 0])
    passed = {row["code"][1] for row in await seen(page) if row["code"]}
    assert len(passed) > 4, "while scrolling something moved"
    await page.locator("#slider").fill("20")
    await page.select_option("#window", label="Lung")
    await page.focus("#stage")
    for _ in range(10):
        await page.keyboard.press("ArrowUp")
    await painted(page, [1, 10, 2])
    await page.select_option("#window", label="Bone")
    await page.focus("#stage")
    await page.keyboard.press("End")
    await page.keyboard.press("ArrowRight")  # another series while the last picture of this one is on its way
    await page.wait_for_function(
        "() => document.querySelector('.series--current').dataset.series.endsWith('.2')"
    )
    await page.keyboard.press("ArrowRight")
    await painted(page, [3, 1, 0])
    await page.keyboard.press("PageDown")
    await painted(page, [3, 11, 0])
    rows = await seen(page)
    assert wrong(rows) == []
    wishes = [row for row in rows if row["code"] and row["wanted"] != row["code"][1]]
    assert wishes, "the slider ran ahead of the picture: the line was slow enough"


async def test_the_watch_itself_sees_a_wrong_label(
    chromium: Browser, serve: Serve, shared: PageRegion
) -> None:
    base = await serve(shared)
    page = await chromium.new_page()
    await preview(page, base)
    await painted(page, [1, 1, 0])
    assert wrong(await seen(page)) == []
    await page.evaluate("document.getElementById('position').textContent = 'Image 2 / 40'")
    await page.wait_for_function("() => window.seen.at(-1).position === 'Image 2 / 40'")
    assert len(wrong(await seen(page))) == 1


async def test_what_is_passed_over_is_aborted(chromium: Browser, serve: Serve, shared: PageRegion) -> None:
    """The reader's last wish is asked for while nothing before it was answered; what was passed over is not
    waited for.
    """
    first, last = (f"/instances/{STUDY}.1.{n}/frames/1/rendered" for n in (1, 101))
    pictures = samples.Pictures(
        images=120, held=lambda path: path.endswith("/rendered") and not path.endswith(first)
    )
    base = await serve(shared, pictures=pictures)
    page = await chromium.new_page(viewport={"width": 1200, "height": 900})
    asked_ahead, asked_last, aborted = asyncio.Event(), asyncio.Event(), asyncio.Event()
    ends = {f"/instances/{STUDY}.1.3/frames/1/rendered": asked_ahead, last: asked_last}
    page.on("request", lambda request: [of.set() for end, of in ends.items() if request.url.endswith(end)])
    page.on("requestfailed", lambda request: aborted.set() if request.failure == "net::ERR_ABORTED" else None)
    await preview(page, base)
    await painted(page, [1, 1, 0])
    async with asyncio.timeout(60):
        await asked_ahead.wait()
        for _ in range(100):
            await page.keyboard.press("ArrowDown")
        await aborted.wait()
        await asked_last.wait()
    pictures.released.set()
    await painted(page, [1, 101, 0])
    asked = [url for url in pictures.asked if url.endswith("rendered")]
    assert len(asked) < 60, "not every picture was asked for"
    assert wrong(await seen(page)) == []


def row(
    number: int | None, uid: str, position: list[float] | None = None, plane: list[float] | None = None
) -> dict[str, Any]:
    """An instance as QIDO-RS tells it."""
    found: dict[str, Any] = {"00080018": {"vr": "UI", "Value": [uid]}}
    if number is not None:
        found["00200013"] = {"vr": "IS", "Value": [number]}
    if position:
        found["00200032"] = {"vr": "DS", "Value": position}
        found["00200037"] = {"vr": "DS", "Value": plane or [1, 0, 0, 0, 1, 0]}
    return found


SAGITTAL = [0, 1, 0, 0, 0, -1]


#: Rows as they come -> UIDs as they are shown.
ORDERS: list[tuple[list[dict[str, Any]], str]] = [
    ([row(2, "b"), row(1, "a"), row(3, "c")], "abc"),
    ([row(1, "b"), row(1, "a"), row(None, "c")], "abc"),
    ([row(None, "b"), row(None, "a")], "ab"),
    ([row(10, "c"), row(9, "b"), row(1, "a")], "abc"),
    # by position, in the direction of the numbers
    ([row(1, "a", [0, 0, 50]), row(2, "c", [0, 0, 30]), row(3, "b", [0, 0, 40])], "abc"),
    (
        [row(1, "a", [0, 0, 0]), row(2, "c", [0, 0, 20]), row(3, "b", [0, 0, 10]), row(4, "d", [0, 0, 30])],
        "abcd",
    ),
    ([row(None, "b", [0, 0, 10]), row(None, "a", [0, 0, -10])], "ab"),
    (
        [
            row(1, "a", [9, 1, 1], SAGITTAL),
            row(2, "c", [3, 1, 1], SAGITTAL),
            row(3, "b", [6, 2, 2], SAGITTAL),
        ],
        "abc",
    ),
    # several at one place: by number there
    (
        [row(3, "c", [0, 0, 10]), row(1, "a", [0, 0, 0]), row(2, "b", [0, 0, 0]), row(4, "d", [0, 0, 10])],
        "abcd",
    ),
    # not all placed, or not all parallel: by number
    ([row(1, "a", [0, 0, 50]), row(2, "b"), row(3, "c", [0, 0, 40])], "abc"),
    ([row(1, "a", [0, 0, 50]), row(2, "b", [0, 0, 20]), row(3, "c", [5, 0, 40], SAGITTAL)], "abc"),
    (
        [
            row(1, "a", [0, 0, 50], [1, 0, 0, 0, 1]),
            row(2, "b", [0, 0, 20], [1, 0, 0, 0, 1]),
            row(3, "c", [0, 0, 40]),
        ],
        "abc",
    ),
]


#: Sides of the picture, of the stage, pixels of a CSS pixel -> viewport asked for.
VIEWPORTS: list[tuple[list[int] | None, list[int], float, str]] = [
    ([256, 256], [1000, 700], 1, ""),
    ([256, 256], [200, 700], 1, ""),
    ([512, 512], [300, 300], 1, "384,384"),
    ([2000, 3000], [1200, 600], 1, "640,640"),
    ([2000, 3000], [1200, 600], 2, "1280,1280"),
    ([3000, 2000], [1200, 600], 1, "1024,1024"),
    ([2000, 3000], [12000, 6000], 1, ""),
    (None, [1200, 600], 1, "1024,1024"),
    (None, [300, 200], 1, "384,384"),
    ([512, 512], [0, 0], 1, ""),
]


async def test_order_and_size(chromium: Browser, serve: Serve, shared: PageRegion) -> None:
    base = await serve(shared)
    page = await chromium.new_page()
    await preview(page, base)
    orders = await in_module(
        page,
        "viewer-state.js",
        "(all) => all.map((rows) => m.ordered(rows).map((row) => row['00080018'].Value[0]).join(''))",
        [rows for rows, _ in ORDERS],
    )
    sizes = await in_module(
        page,
        "viewer-state.js",
        "(sizes) => sizes.map((size) => m.viewportOf(...size))",
        [list(size[:3]) for size in VIEWPORTS],
    )
    assert orders == [order for _, order in ORDERS]
    assert sizes == [size for *_, size in VIEWPORTS]


async def test_native_size_and_going_back_fetch_nothing_twice(
    chromium: Browser, serve: Serve, shared: PageRegion
) -> None:
    pictures = samples.Pictures(side=256)
    base = await serve(shared, pictures=pictures)
    page = await chromium.new_page(viewport={"width": 1400, "height": 1000})
    await preview(page, base)
    await painted(page, [1, 1, 0])
    await page.keyboard.press("End")
    await painted(page, [1, 40, 0])
    there = (
        "([from, to]) => { const got = new Set(performance.getEntriesByType('resource').filter((e) => [200,"
        " 304].includes(e.responseStatus)).map((e) => Number(/\\.(\\d+)\\/frames/.exec(e.name)?.[1]))); for"
        " (let n = from; n <= to; n += 1) if (!got.has(n)) return false; return true; }"
    )
    await page.wait_for_function(there, arg=[16, 40])
    await page.keyboard.press("Home")
    await painted(page, [1, 1, 0])
    await page.wait_for_function(there, arg=[1, 40])
    asked = len(pictures.asked)
    for key, number in (("End", 40), ("PageUp", 30), ("Home", 1)):
        await page.keyboard.press(key)
        await painted(page, [1, number, 0])
    assert len(pictures.asked) == asked
    assert not [url for url in pictures.asked if "/rendered?" in url], "nothing larger than what is stored"
    sides = await page.evaluate(
        "(({width, height}) => [width, height])(document.querySelector('#picture canvas'))"
    )
    assert sides == [256, 256]
    statuses: list[tuple[int, str]] = []
    page.on(
        "response",
        lambda answer: statuses.append((answer.status, answer.url)) if "rendered" in answer.url else None,
    )
    served = len(pictures.sent)
    await page.click("text=All studies")
    await page.click(f"[data-study-uid='{STUDY}'] [data-part=view]")
    await painted(page, [1, 1, 0])
    assert statuses
    assert len(pictures.sent) == served, "no picture was sent again: the browser had them"


@pytest.mark.parametrize(("width", "height"), [(390, 844), (700, 422)])
async def test_the_picture_is_in_sight(
    chromium: Browser, serve: Serve, shared: PageRegion, width: int, height: int
) -> None:
    """On a telephone, and where everything is twice as large (1.4.4, 1.4.10)."""
    base = await serve(shared)
    page = await chromium.new_page(viewport={"width": width, "height": height})
    await preview(page, base)
    await painted(page, [1, 1, 0])
    box = await page.locator("#picture canvas").bounding_box()
    assert box is not None
    banner = await page.locator(".banner-bar").bounding_box()
    assert banner is not None
    assert box["y"] >= banner["y"] + banner["height"], "nothing covers it"
    assert box["y"] < height * 0.6
    assert box["y"] + min(box["height"], 150) <= height


async def test_portrait_thumbnails_are_whole(chromium: Browser, serve: Serve, shared: PageRegion) -> None:
    base = await serve(shared)
    page = await chromium.new_page(viewport={"width": 1400, "height": 900})

    async def tall(route: Any) -> None:
        await route.fulfill(body=TALL, content_type="image/svg+xml")

    await page.route("**/thumbnail?*", tall)
    await find(page, base)
    for thumb in await page.locator(".study__thumb:has(img)").all():
        outer, inner = await thumb.bounding_box(), await thumb.locator("img").bounding_box()
        assert outer is not None
        assert inner is not None
        assert inner["height"] <= outer["height"]
        assert inner["y"] >= outer["y"]


TALL = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="96" height="123"><rect width="96" height="123"'
    ' fill="#888"/></svg>'
)
