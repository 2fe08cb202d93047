"""Yesterday's backup is all that is left of a side; restored, the region converges, nothing lost or doubled
(D8, D10).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from dicom_objects import note
from private_files import open_to_others
from scenario_hand import Hand, save, slices
from scenario_processes import until

from simulations.people import test_number as nhs_number

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(300)]
ROADS = {"RTK": "grpc", "RXC": "soap"}
ROOT = "1.2.826.0.1.3680043.10.91"
PATIENT = nhs_number(9101)
KEPT, CORRECTED, DELETED, GROWN, NEW = range(1, 6)
SETTLED_S = 60.0


def uid(code: str, number: int) -> str:
    """A study of a member."""
    return f"{ROOT}.{list(ROADS).index(code) + 1}.{number}"


@pytest.fixture
def region(tmp_path: Path) -> Iterator[Hand]:
    """A registry and a node on each road, with four studies each, and a backup of every side of that
    moment."""
    hand = Hand(tmp_path, ROADS)
    umask = os.umask(0)  # what is private is made so by the commands, not by who types them
    try:
        hand.make_registry()
        hand.serve("registry")
        yield hand
    finally:
        hand.close()
        os.umask(umask)


async def fill(hand: Hand) -> dict[str, int]:
    """Join, serve, import; every study's number of instances."""
    await hand.up("registry")
    expected = {}
    for code in ROADS:
        hand.make_node(code)
        hand.serve(code)
        objects = []
        for number in (KEPT, CORRECTED, DELETED, GROWN):
            objects += slices(uid(code, number), 3, local=f"{code}1", national=PATIENT)
            expected[uid(code, number)] = 3
        hand.command(code, "import", str(save(hand.folder / "before" / code, objects)))
    await hand.up(*ROADS)
    await until("all is listed", lambda: hand.holds(expected), SETTLED_S)
    return expected


def change(hand: Hand, expected: dict[str, int]) -> dict[str, int]:
    """A day's work at both members: one study corrected, one deleted, one grown, one new; what is right from
    now on.
    """
    after = dict(expected)
    for code in ROADS:
        wrong = slices(uid(code, CORRECTED), 3, local=f"{code}1", national=PATIENT)[-1:]
        objects = [note("113037", wrong, study=uid(code, CORRECTED))]
        objects += slices(uid(code, GROWN), 2, local=f"{code}1", national=PATIENT, first=4)
        objects += slices(uid(code, NEW), 4, local=f"{code}1", national=PATIENT)
        hand.command(code, "import", str(save(hand.folder / "after" / code, objects)))
        hand.command(code, "delete", uid(code, DELETED), "--reason", "imaged in error")
        after |= {uid(code, CORRECTED): 2, uid(code, GROWN): 5, uid(code, NEW): 4, uid(code, DELETED): 0}
    return after


async def assert_once_each(hand: Hand, expected: dict[str, int]) -> None:
    """Through every face: each live study once, nothing else."""
    live = sorted(study for study, count in expected.items() if count)
    entries = (await hand.told().find_documents(PATIENT)).entries
    assert sorted(e.study_uid for e in entries) == live, "one Approved entry for each study"
    async with hand.told().dicomweb() as client:
        rows, _ = await client.search("studies", PatientID=PATIENT)
    assert sorted(r["0020000D"]["Value"][0] for r in rows) == live
    for study in live:
        async with hand.told().dicomweb() as client:
            images = [data async for data in client.instances(f"studies/{study}")]
        assert len(images) == expected[study], "what is listed can be opened"
    for code in ROADS:
        status = hand.command(code, "status").output
        assert [
            line for line in status.splitlines() if "Refused by the registry" in line and " 0 " in f"{line} "
        ], status
    backups = [folder for folder in (hand.folder / "backup", hand.folder / "backups") if folder.exists()]
    assert [open_to_others(folder) for folder in (*hand.folders.values(), *backups)] == [[]] * (
        len(hand.folders) + 1
    )


def restore(hand: Hand, name: str, backup: Path) -> None:
    """Disaster: the folder is gone, a new one is made of the backup."""
    shutil.rmtree(hand.folders[name])
    hand.folders[name] = hand.folder / f"{name}-restored"
    hand.command(name, "restore", str(backup))
    hand.serve(name)


async def test_a_registry_from_an_old_backup_learns_what_came_after(region: Hand) -> None:
    expected = await fill(region)
    region.command("registry", "backup", str(region.folder / "backup"))
    expected = change(region, expected)
    await until("the day's work is listed", lambda: region.holds(expected), SETTLED_S)
    region.stop("registry")
    restore(region, "registry", region.folder / "backup")
    await region.up("registry", *ROADS)
    _, took = await until("the restored registry has all", lambda: region.holds(expected), SETTLED_S)
    print(f"the registry was whole {took:.1f} s after it was up")
    await until("both ends count alike", region.counted, SETTLED_S)
    await assert_once_each(region, expected)
    # and goes on
    for code in ROADS:
        more = slices(uid(code, 9), 2, local=f"{code}1", national=PATIENT)
        region.command(code, "import", str(save(region.folder / "later" / code, more)))
        expected[uid(code, 9)] = 2
    await until("new studies are listed", lambda: region.holds(expected), SETTLED_S)


async def test_nodes_from_an_old_backup_make_the_registry_equal_to_them(region: Hand) -> None:
    before = await fill(region)
    for code in ROADS:
        region.command(code, "backup", str(region.folder / "backups" / code))
    expected = change(region, before)
    await until("the day's work is listed", lambda: region.holds(expected), SETTLED_S)
    for code in ROADS:
        region.stop(code)
        restore(region, code, region.folder / "backups" / code)
    await region.up(*ROADS)
    _, took = await until(
        "the registry lists what the nodes hold now", lambda: region.holds(before | lost()), SETTLED_S
    )
    print(f"the registry was equal {took:.1f} s after the nodes were up")
    await until("both ends count alike", region.counted, SETTLED_S)
    await assert_once_each(region, before)
    # what was lost is sent again by the PACS, and is one study, not two
    for code in ROADS:
        again = slices(uid(code, NEW), 4, local=f"{code}1", national=PATIENT)
        region.command(code, "import", str(save(region.folder / "again" / code, again)))
        before[uid(code, NEW)] = 4
    await until("it is listed again", lambda: region.holds(before), SETTLED_S)
    await assert_once_each(region, before)


def lost() -> dict[str, int]:
    """What no backup had."""
    return {uid(code, NEW): 0 for code in ROADS}
