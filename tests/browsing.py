"""What tests of pages share: an address served, what a page said and asked, how a patient is found, what cannot be read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

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
        page.on("request", lambda request: None if request.url.startswith(base) else self.outside.append(request.url))
        page.on("response", lambda answer: self.said.append(f"{answer.status} {answer.url}") if answer.status >= 400 else None)


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
