"""Each table of a node has one room whose SQL names it; the others ask that room (``node/marks.py``,
``node/publish/``).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import node
from crosslight.runtime import audit

NODE = Path(node.__file__).parent
#: The first room that a file belongs to owns what its statements name.
ROOMS = {
    "marks": ("marks.py",),
    "archive": ("archive/",),
    "revisions": ("publish/revisions.py",),
    "outbox": ("publish/outbox_rows.py",),
    "publication": ("publish/store.py",),
}
OWNED = {
    "marks": {"mark"},
    "revisions": {"publish_study", "publish_revision", "publish_withdrawn"},
    "outbox": {"publish_destination", "publish_intent", "publish_acked", "publish_fed"},
    "publication": {"publish_node", "publish_reread"},
}
_NAMED = re.compile(r"\b(?:FROM|JOIN|INTO|UPDATE|TABLE)\s+([a-z_]+)\b")
_MADE = re.compile(r"^CREATE TABLE (?:IF NOT EXISTS )?([a-z_]+)", re.M)


def _tables() -> dict[str, set[str]]:
    """Who owns which: the archive all of its deltas but the marks."""
    made = {
        d: {t for sql in (NODE / d / "deltas").glob("*.sql") for t in _MADE.findall(sql.read_text())}
        for d in ("archive", "publish")
    }
    assert made["publish"] == OWNED["revisions"] | OWNED["outbox"] | OWNED["publication"], (
        "a new table has an owner"
    )
    return {**OWNED, "archive": made["archive"] - OWNED["marks"]}


def _room(path: Path) -> str:
    name = path.relative_to(NODE).as_posix()
    return next(
        (room for room, places in ROOMS.items() if any(name.startswith(place) for place in places)), name
    )


def _statements(path: Path) -> Iterator[str]:
    """Every text of a file, those with holes in them too: a table is never in a hole."""
    for one in ast.walk(ast.parse(path.read_text())):
        if isinstance(one, ast.Constant) and isinstance(one.value, str):
            yield one.value


def test_no_room_of_a_node_names_the_table_of_another() -> None:
    owner = {table: room for room, tables in _tables().items() for table in tables}
    foreign = [
        f"{path.relative_to(NODE)} names {table}, which is of {owner[table]}"
        for path in sorted(NODE.rglob("*.py"))
        for text in _statements(path)
        for table in _NAMED.findall(text)
        if table in owner and owner[table] != _room(path)
    ]
    assert foreign == []


def test_every_owner_is_found_by_its_statements() -> None:
    """The test above would see what it looks for."""
    seen: dict[str, set[str]] = {}
    for path in NODE.rglob("*.py"):
        for text in _statements(path):
            seen.setdefault(_room(path), set()).update(_NAMED.findall(text))
    for room, tables in _tables().items():
        assert tables <= seen[room], room


def test_names_of_tables_are_the_nodes_own() -> None:
    """One file holds them all: the audit's, in a database of its own, could be put beside them."""
    made = {
        t
        for sql in (Path(audit.__file__).parent / "deltas").rglob("*.sql")
        for t in _MADE.findall(sql.read_text())
    }
    assert made.isdisjoint(table for tables in _tables().values() for table in tables)
