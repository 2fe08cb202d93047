"""Regions that several scenarios share: they are slow to make, and asking them changes nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from scenario_demo import STORY_S, Demo


@pytest.fixture(scope="session")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """A Surrey and Sussex whose story was played by ``--once``; ``up()`` starts it on the kept state."""
    demo = Demo(tmp_path_factory.mktemp("secured"), ("--restart-after", "2"))
    try:
        demo.first = demo.once()
        yield demo
    finally:
        demo.close()


@pytest.fixture(scope="session")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """The same as ``--open``, up since its story was played; it never starts a killed process again."""
    demo = Demo(tmp_path_factory.mktemp("opened"), ("--open", "--restart-after", "0"))
    try:
        demo.start()
        demo.wait_told(STORY_S)
        yield demo
    finally:
        demo.close()
