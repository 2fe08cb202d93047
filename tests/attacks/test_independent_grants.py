"""At an independent node a system may what its configuration grants it, as at a region (D18, ADR 0036)."""

from __future__ import annotations

from pathlib import Path

import pytest
from independent_node import STUDY, Outside, Pair, numbered, outside_at, serving
from node_serving import ct, part10, related

from crosslight.standards.problem import ConfigError
from node.config import read_config

SEARCH = f"/dicomweb/studies?StudyInstanceUID={STUDY}"
ASKED = {
    "find": ("GET", SEARCH),
    "open": ("GET", f"/dicomweb/studies/{STUDY}"),
    "export": ("GET", "/dicomweb/studies"),
    "store": ("POST", "/dicomweb/studies"),
}


async def may(outside: Outside, who: Pair) -> set[str]:
    """What of all that a node offers is done for a system; all else is refused with 403."""
    body, content_type = related([("application/dicom", part10(numbered(ct())))])
    done = set()
    async with who.client() as client:
        for what, (method, path) in ASKED.items():
            sent = {"data": body, "headers": {"Content-Type": content_type}} if method == "POST" else {}
            async with client.session.request(method, outside.at(path), **sent) as answer:
                await answer.read()
                assert answer.status in (200, 202, 403), (what, answer.status)
                done |= {what} if answer.status != 403 else set()
    return done


def granting(folder: Path, name: str, *capabilities: str) -> None:
    with (folder / "node.toml").open("a", encoding="utf-8") as text:
        text.write(f"\n[[publish.xds.systems]]\nname = {name!r}\nmay = {list(capabilities)!r}\n")


async def test_a_system_may_what_was_granted_and_nothing_else(tmp_path: Path) -> None:
    async with outside_at(tmp_path) as outside:
        async with serving(outside.folder):
            await outside.send(numbered(ct()))
            assert await may(outside, outside.viewer) == set(ASKED), (
                "none is named: the authority's certificates"
            )
        for granted in ({"find"}, {"open"}, {"find", "store"}, set[str]()):
            text = (outside.folder / "node.toml").read_text("utf-8")
            granting(outside.folder, "viewer.trust.example", *sorted(granted))
            async with serving(outside.folder):
                assert await may(outside, outside.viewer) == granted
                assert await may(outside, outside.pacs) == set(), "it is not named"
            (outside.folder / "node.toml").write_text(text, "utf-8")


@pytest.mark.parametrize(("name", "may_do"), [("", "find"), ("viewer", "publish"), ("viewer", "everything")])
async def test_what_is_nothing_that_can_be_granted_is_refused(tmp_path: Path, name: str, may_do: str) -> None:
    async with outside_at(tmp_path) as outside:
        granting(outside.folder, name, may_do)
        with pytest.raises(ConfigError, match="systems"):
            read_config(outside.folder).publish.xds.check(secured=True)
