"""The preview in Chromium.

Pictures carry their series, number and window in their pixels; what is painted is read back.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any

import browsing
import portal_samples as samples
import pytest
from aiohttp import web
from browsing import Series, Serve, Watch, find, painted, seen, slow, watch_pictures
from page_region import PageRegion
from playwright.async_api import Browser, Locator, Page, expect

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

TRUST = "Ashford and St Peter’s Hospitals NHS Foundation Trust"
STUDY = "1.2.826.0.1.1"
WINDOWS = dict(enumerate(("", "Soft tissue", "Lung", "Bone")))
SERIES = {
    n: Series(f"{STUDY}.{n}", name)
    for n, name in ((1, "Axial soft tissue"), (2, "Axial lung"), (3, "Coronal"))
}


async def preview(page: Page, base: str, study: str = STUDY) -> None:
    """Open the preview of a study, watched from its first moment."""
    await watch_pictures(page)
    await find(page, base)
    await page.click(f"[data-study-uid='{study}'] [data-part=view]")


async def in_module(page: Page, name: str, function: str, given: Any) -> Any:
    """What a function of one of the page's modules (``m``) makes of ``given``."""
    folder = "document.querySelector('script[src$=\"/viewer.js\"]').src.replace('viewer.js', '')"
    return await page.evaluate(
        f"(given) => import({folder} + {name!r}).then((m) => ({function})(given))", given
    )


def wrong(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Moments at which something written was not true of the picture beside it."""
    return browsing.wrong(rows, SERIES, WINDOWS, "999 000 0018")


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
