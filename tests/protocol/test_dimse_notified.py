"""Instance Availability Notification from an archive beside which a node stands (PS3.4 R), by pynetdicom."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import dicom_objects as make
import pytest
from beside_dimse import OTHER, Beside, beside, silent, uids, until
from dimse_calls import with_meta
from notices import notice, notify
from upstream_double import Double, serving

from crosslight.standards.problem import ConfigError
from node.config import NodeConfig, check_notifies
from node.dimse.config import DimseConfig, KnownCaller
from node.dimse.services.availability import (
    MISSING_ATTRIBUTE,
    NO_ROOM,
    NO_SUCH_INSTANCE_UID,
    NO_SUCH_VALUE,
    NOT_AUTHORISED,
)
from node.sources import notices
from node.sources.config import DimseSource, SourcesConfig

LISTENER = DimseConfig(
    host="127.0.0.1",
    port=0,
    ae_title="RTK",
    callers=(
        KnownCaller(ae_title="PACS", addresses=("127.0.0.1",), may=(), notifies=("PACS",)),
        KnownCaller(ae_title="CT1", addresses=("127.0.0.1",)),
    ),
)
HOUR_S = 3600.0


async def compared(node: Beside) -> bool:
    """Whether each window was compared: nothing is looked at by itself any more, for an hour."""
    return not node.sources.behind


async def told(node: Beside, *study_uids: str | None, title: str = "PACS") -> list[int]:
    return await asyncio.to_thread(lambda: notify(node.port, *map(notice, study_uids), title=title))


async def test_a_study_that_is_told_of_is_found_before_the_next_sweep(tmp_path: Path) -> None:
    with serving(Double(objects=[with_meta(make.image(1, study=OTHER))])) as double:
        async with beside(
            tmp_path, double.port, "DOUBLE", dimse=LISTENER, look_every_s=HOUR_S, compare_every_h=24.0
        ) as node:
            await until(lambda: compared(node), True)
            old = make.image(2, study=OTHER)  # of a day that no sweep looks at before tomorrow
            double.objects += [with_meta(make.image(1)), with_meta(old)]
            assert await told(node, make.STUDY, OTHER) == [0, 0]
            wanted = sorted([f"{make.STUDY}.1.1", f"{OTHER}.1.1", f"{OTHER}.1.2"])
            await until(lambda: uids(node.archive), wanted)
            double.objects = [one for one in double.objects if one.StudyInstanceUID != OTHER]
            assert await told(node, OTHER) == [0]
            await until(lambda: uids(node.archive), [f"{make.STUDY}.1.1"])
            acts = [act for act in await node.audit.search() if act.action == "announce"]
            assert {act.studies for act in acts} == {(make.STUDY,), (OTHER,)}


async def test_a_notification_that_comes_before_its_study_is_looked_for_again(tmp_path: Path) -> None:
    with serving(Double(objects=[with_meta(make.image(1, study=OTHER))])) as double:
        async with beside(
            tmp_path, double.port, "DOUBLE", dimse=LISTENER, look_every_s=HOUR_S, compare_every_h=24.0
        ) as node:
            await until(lambda: compared(node), True)
            before = len(double.asked)
            assert await told(node, make.STUDY) == [0], "a study that is not there harms nothing"
            await until(lambda: _asked(double, before), True)
            double.objects.append(with_meta(make.image(1)))
            await until(lambda: uids(node.archive), sorted([f"{make.STUDY}.1.1", f"{OTHER}.1.1"]))


async def test_what_was_answered_is_heeded_after_the_nodes_end(tmp_path: Path) -> None:
    with serving(Double()) as double:
        port = double.port
    slow = {"look_every_s": HOUR_S, "compare_every_h": 24.0}
    async with beside(tmp_path, port, "DOUBLE", dimse=LISTENER, **slow) as node:
        await until(lambda: silent(node.sources), True)
        assert await told(node, make.STUDY) == [0]
    ahead = with_meta(make.image(1, StudyDate="20991231"))  # no sweep lists it: it is of no day that was
    with serving(Double(objects=[ahead]), port):
        async with beside(tmp_path, port, "DOUBLE", **slow) as node:
            await until(lambda: uids(node.archive), [f"{make.STUDY}.1.1"])


async def test_who_may_not_tell_and_what_is_no_notification(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notices, "MAX_WAITING", 2)
    with serving(Double()) as double:
        port = double.port
    async with beside(tmp_path, port, "DOUBLE", dimse=LISTENER, look_every_s=HOUR_S) as node:
        await until(lambda: silent(node.sources), True)  # it is gone, so all that is told waits
        assert await told(node, make.STUDY, title="CT1") == [NOT_AUTHORISED]
        assert await told(node, None, "", "1.2.x") == [MISSING_ATTRIBUTE, MISSING_ATTRIBUTE, NO_SUCH_VALUE]
        unnamed = await asyncio.to_thread(lambda: notify(node.port, notice(OTHER), instance=None))
        assert unnamed == [NO_SUCH_INSTANCE_UID]
        assert await told(node, "1.2.1", "1.2.2", "1.2.3", "1.2.1") == [0, 0, NO_ROOM, 0]
        denied = [act for act in await node.audit.search() if act.decision == "deny"]
        assert [act.action for act in denied] == ["announce"]


def test_a_caller_tells_of_sources_that_there_are() -> None:
    source = DimseSource(name="PACS", ae_title="PACS", host="10.0.0.1")
    config = NodeConfig(dimse=LISTENER, sources=SourcesConfig(dimse=(source,)))
    check_notifies(config)
    with pytest.raises(ConfigError, match="no source"):
        check_notifies(replace(config, sources=SourcesConfig()))


async def _asked(double: Double, before: int) -> bool:
    return len(double.asked) > before
