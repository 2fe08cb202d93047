"""The study that tests of the preview open, how it is opened, and what is not true of what it shows."""

from __future__ import annotations

from typing import Any

import browsing
from browsing import Series, find, watch_pictures
from playwright.async_api import Page

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
