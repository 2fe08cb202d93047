"""The region's lists at a node: how long, how many, whose files; and what is said of their age."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import orjson
import pytest
from archive_fixture import MovedClock
from private_files import open_to_others

from crosslight.runtime.files import SystemFiles
from crosslight.standards.ids import NHS_NUMBER_OID, Identifier
from crosslight.standards.problem import PeerError
from node.continuity.config import ContinuityConfig
from node.continuity.face import as_kept
from node.continuity.kept_lists import Kept, KeptLists

JANE, JOHN, JILL = (Identifier(f"943476591{n}", NHS_NUMBER_OID) for n in (7, 8, 9))
BUNDLE = orjson.dumps(
    {
        "resourceType": "Bundle",
        "type": "searchset",
        "total": 3,
        "link": [{"relation": "self", "url": "https://registry.example"}],
        "entry": [
            {"resource": {"resourceType": "ImagingStudy"}, "search": {"mode": "match"}},
            {
                "resource": {
                    "resourceType": "OperationOutcome",
                    "issue": [
                        {"severity": "warning", "code": "incomplete", "details": {"text": "RXC is away."}}
                    ],
                },
                "search": {"mode": "outcome"},
            },
        ],
    }
)
Made = Callable[..., KeptLists]


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


@pytest.fixture
def made(tmp_path: Path, clock: MovedClock) -> Made:
    def make(**config: int) -> KeptLists:
        lists = KeptLists(tmp_path / "lists", SystemFiles(), clock, ContinuityConfig(**config))
        lists.open()
        return lists

    return make


def files(folder: Path) -> list[Path]:
    return list((folder / "lists").iterdir())


def test_a_list_is_gone_after_24_hours_from_the_disk_too(
    made: Made, clock: MovedClock, tmp_path: Path
) -> None:
    lists = made()
    lists.order(JANE, "P1")
    lists.said(JANE, BUNDLE)
    clock.ahead += timedelta(hours=23, minutes=59)
    assert lists.find(JANE) is not None
    assert lists.bundle(JANE) == BUNDLE
    clock.ahead += timedelta(minutes=2)
    lists.purge()
    assert files(tmp_path) == []
    assert lists.find(JANE) is None


def test_an_order_that_the_region_never_answered_is_forgotten_too(
    made: Made, clock: MovedClock, tmp_path: Path
) -> None:
    lists = made()
    lists.order(JANE, "P1")
    assert [kept.order for kept in lists.wanting()] == ["P1"]
    clock.ahead += timedelta(hours=24, minutes=1)
    assert lists.wanting() == []
    assert files(tmp_path) == []


def test_a_second_order_makes_no_old_list_younger(made: Made, clock: MovedClock) -> None:
    lists = made()
    lists.order(JANE, "P1")
    lists.said(JANE, BUNDLE)
    clock.ahead += timedelta(hours=20)
    lists.order(JANE, "P2")
    assert lists.bundle(JANE) == BUNDLE, "the old one serves while the region does not answer"
    clock.ahead += timedelta(hours=5)
    kept = lists.find(JANE)
    assert kept is not None
    assert kept.said is None
    assert lists.bundle(JANE) == b""
    assert [kept.order for kept in lists.wanting()] == ["P2"]


def test_a_clock_set_back_makes_no_list_younger(made: Made, clock: MovedClock) -> None:
    lists = made()
    lists.order(JANE, "P1")
    lists.said(JANE, BUNDLE)
    clock.ahead -= timedelta(hours=2)
    assert lists.find(JANE) is None


def test_a_restart_finds_what_was_kept_and_what_is_wanted(made: Made, tmp_path: Path) -> None:
    lists = made()
    lists.order(JANE, "P1")
    lists.said(JANE, BUNDLE)
    lists.order(JOHN, "P2")
    (tmp_path / "lists" / "torn.json").write_bytes(b'{"authority"')
    again = made()
    assert again.bundle(JANE) == BUNDLE
    assert [kept.patient for kept in again.wanting()] == [JOHN]
    assert len(files(tmp_path)) == 2, "what cannot be read is removed"
    assert open_to_others(tmp_path / "lists") == []
    assert not any(JANE.value in path.name for path in files(tmp_path))


def test_a_cancelled_order_takes_its_list_along(made: Made, tmp_path: Path) -> None:
    lists = made()
    lists.order(JANE, "P1")
    lists.said(JANE, BUNDLE)
    lists.end(JANE, "another")
    assert lists.find(JANE) is not None
    lists.end(JANE, "P1")
    assert files(tmp_path) == []
    lists.said(JANE, BUNDLE)
    assert files(tmp_path) == [], "an answer that was under way is not kept"


@pytest.mark.parametrize("bound", [{"max_patients": 2}, {"max_bytes": 2 * len(BUNDLE) + 1}])
def test_beyond_its_bounds_the_oldest_order_goes(
    made: Made, clock: MovedClock, tmp_path: Path, bound: dict[str, int]
) -> None:
    lists = made(**bound)
    for patient in (JANE, JOHN, JILL):
        lists.order(patient, "P")
        lists.said(patient, BUNDLE)
        clock.ahead += timedelta(seconds=1)
    lists.purge()
    assert len(files(tmp_path)) == 2
    assert lists.find(JANE) is None
    assert lists.find(JILL) is not None


def test_each_sentence_says_when_it_was_said() -> None:
    said = datetime.fromisoformat("2026-12-01T03:12:00+00:00")
    kept = Kept(patient=JANE, order="P1", ordered=said, said=said)
    shown = as_kept(BUNDLE, kept, said + timedelta(hours=2, minutes=5), ZoneInfo("Europe/London"))
    texts = [issue["details"]["text"] for issue in shown["entry"][1]["resource"]["issue"]]
    assert texts[0].startswith("As the region said at 03:12 on 01 December 2026, 2 h 5 min ago")
    assert texts[1] == "The newest 1 of 3 are listed."
    assert texts[2] == "Said at 03:12 on 01 December 2026: RXC is away."
    assert shown["timestamp"].startswith("2026-12-01T03:12:00")
    assert "link" not in shown, "its addresses are the registry's"


@pytest.mark.parametrize("bundle", [b"", b"[]", b'{"entry": []}', b'{"entry": [{}]}'])
def test_what_is_no_list_is_not_shown(bundle: bytes) -> None:
    said = datetime.fromisoformat("2026-12-01T03:12:00+00:00")
    with pytest.raises(PeerError):
        as_kept(bundle, Kept(patient=JANE, order="P", ordered=said, said=said), said, ZoneInfo("UTC"))
