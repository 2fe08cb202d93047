"""What tests of pages share: an address served, what a page said and asked, how a patient is found, what
cannot be read.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import barcode
from playwright.async_api import Page

#: A function for ``page.evaluate``; its list is empty when all is well.
AUDIT = Path(__file__).parent.joinpath("browser", "page_audit.js").read_text("utf-8").split("\n", 2)[2]

Serve = Callable[..., Awaitable[str]]


class Watch:
    """What a page said to the console and asked of the network."""

    def __init__(self, page: Page, base: str) -> None:
        self.said: list[str] = []
        self.outside: list[str] = []
        self.asked: list[str] = []
        page.on("console", lambda message: self.said.append(message.text))
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))
        page.on(
            "request",
            lambda request: None if request.url.startswith(base) else self.outside.append(request.url),
        )
        page.on(
            "response",
            lambda answer: (
                self.said.append(f"{answer.status} {answer.url}") if answer.status >= 400 else None
            ),
        )


async def audit(page: Page) -> list[str]:
    """What is wrong with a page once its styles are there."""
    await page.wait_for_load_state()
    found: list[str] = await page.evaluate(AUDIT)
    return found


async def find(page: Page, base: str) -> None:
    """Search the samples' patient and come to the timeline."""
    await page.goto(base + "/")
    await page.fill("#number", "999 000 0018")
    await page.press("#number", "Enter")
    await page.wait_for_selector("[data-study-uid]")


@dataclass(frozen=True, slots=True)
class Series:
    """What is to be written beside a picture whose pixels say that it is of this series."""

    uid: str
    name: str


def wrong(
    rows: list[dict[str, Any]], series: Mapping[int, Series], windows: Mapping[int, str], number: str
) -> list[dict[str, Any]]:
    """Moments (of ``barcode.WATCH``) at which something written was not true of the picture beside it."""
    return [row for row in rows if row["code"] is not None and not _true(row, series, windows, number)]


def _true(
    row: dict[str, Any], all_series: Mapping[int, Series], windows: Mapping[int, str], number: str
) -> bool:
    if not row["code"]:
        return False  # a picture without its fields
    of, image, window = row["code"]
    position = re.fullmatch(r"Image (\d+) / (\d+)", row["position"])
    if position is None or of not in all_series or window not in windows:
        return False
    series = all_series[of]
    spoken = [f"Image {image} of {position[2]}", series.name, *([windows[window]] if windows[window] else [])]
    written = (int(position[1]), row["series"], row["current"], row["window"], row["aria"])
    return written == (image, series.name, series.uid, windows[window], ", ".join(spoken)) and row[
        "whose"
    ].replace("\u00a0", " ").endswith(number)


async def slow(page: Page, bits_per_s: float, latency_ms: float = 40) -> None:
    """A line of so many bits a second for all that the page asks."""
    session = await page.context.new_cdp_session(page)
    await session.send("Network.enable")
    rate = {"latency": latency_ms, "downloadThroughput": bits_per_s / 8, "uploadThroughput": bits_per_s / 8}
    await session.send("Network.emulateNetworkConditions", {"offline": False, **rate})


async def watch_pictures(page: Page) -> None:
    """From the next preview on, note what is painted and what is written (``window.seen``)."""
    begin = f"addEventListener('DOMContentLoaded', () => {barcode.WATCH})"
    await page.add_init_script(f"if (location.pathname.includes('/studies/')) {begin};")


async def painted(page: Page, code: list[int]) -> None:
    """Wait until this is what is painted."""
    await page.wait_for_function(
        "(code) => JSON.stringify(window.seen?.at(-1)?.code) === JSON.stringify(code)", arg=code
    )


async def seen(page: Page) -> list[dict[str, Any]]:
    """Everything that was painted and written so far."""
    rows: list[dict[str, Any]] = await page.evaluate("window.seen")
    return rows
