"""The moment that orders the region's directories, on both engines, with a clock that goes back."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from members_region import FAST, REGION
from registry_room import TestClock

from crosslight.runtime.audit import AuditLog
from crosslight.runtime.db import Db
from crosslight.runtime.seams import system_seams
from crosslight.standards.directory import DirectoryDocument
from crosslight.standards.membership import Invitation
from crosslight.standards.problem import StorageError
from node.membership.directory import check_fresh, read_directory
from registry.members.service import MemberService

AHEAD = timedelta(seconds=400)


async def service(db: Db, folder: Path, clock: TestClock) -> MemberService:
    audit = AuditLog(db, clock)
    await audit.open()
    one = MemberService(db, system_seams(clock=clock), REGION, folder, FAST, audit)
    await one.open(starting=True)
    return one


async def member(members: MemberService) -> None:
    text = await members.invite("RTK", "https://registry.example")
    await members.store.use_invitation(Invitation.parse(text).secret, 0)
    await members.refresh()


def read(members: MemberService) -> DirectoryDocument:
    return read_directory(members.signed_directory()[1], members.keys.jwks(), members.community)


async def test_a_clock_that_ran_ahead_and_was_set_right_keeps_no_directory_from_nodes(
    database: Db, tmp_path: Path
) -> None:
    clock = TestClock()
    members = await service(database, tmp_path, clock)
    await member(members)
    clock.moment += AHEAD
    await members.suspend("RTK", "a key was lost")
    known = read(members)
    clock.moment -= AHEAD
    await members.readmit("RTK")
    then = read(members)
    assert (known.suspended, then.suspended) == ({"RTK"}, frozenset())
    check_fresh(then, known, clock.now())
    assert then.expires == int((clock.now() + timedelta(hours=FAST.directory_hours)).timestamp())


async def test_processes_agree_on_it_and_a_start_issues_anew(database: Db, tmp_path: Path) -> None:
    clock = TestClock()
    one, two = await service(database, tmp_path, clock), await service(database, tmp_path, clock)
    await member(one)
    clock.moment += timedelta(seconds=3)
    await two.refresh()
    assert read(one).issued == read(two).issued
    before = read(two)
    await two.refresh(starting=True)
    again = read(two)
    assert again.issued > before.issued, "a database from a backup must be heard"
    check_fresh(again, before, clock.now())


async def test_it_is_signed_anew_when_a_quarter_of_its_life_is_over_or_the_clock_went_back(
    database: Db, tmp_path: Path
) -> None:
    clock = TestClock()
    members = await service(database, tmp_path, clock)
    clock.moment += timedelta(days=365)
    far = members.signed_directory()[1]
    clock.moment -= timedelta(days=365)
    near = read(members)
    assert members.signed_directory()[1] != far
    assert near.expires < clock.now().timestamp() + FAST.directory_hours * 3600 + 1
    token = members.signed_directory()[1]
    clock.moment += timedelta(hours=FAST.directory_hours / 4)
    assert members.signed_directory()[1] != token
    check_fresh(read(members), near, clock.now())


async def test_a_moment_that_cannot_be_kept_stops_no_suspension(
    database: Db, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = TestClock()
    members = await service(database, tmp_path, clock)
    await member(members)
    before = read(members)

    async def full(version: int, now: int, *, anew: bool = False) -> int:
        raise StorageError("The disk is full.")

    monkeypatch.setattr(members.store.directory_issue, "of", full)
    await members.suspend("RTK", "a key was lost")
    then = read(members)
    assert then.suspended == {"RTK"}
    check_fresh(then, before, clock.now())
