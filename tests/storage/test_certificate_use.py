"""Certificates in use, what they supersede, and alarms, on both engines."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from members_region import CLOCK, FAST, REGION

from crosslight.runtime.audit import AuditLog
from crosslight.runtime.db import Db
from crosslight.runtime.seams import system_seams
from crosslight.standards.problem import Conflict
from registry.members.model import Member
from registry.members.service import MemberService
from registry.members.use_store import UseStore

URL = "https://registry.example"
SPIFFE = f"spiffe://{REGION.home_community_id}/"


async def service(db: Db, folder: Path) -> tuple[MemberService, Member, UseStore]:
    """A registry's members, one of them, and the tables."""
    audit = AuditLog(db, CLOCK)
    await audit.open()
    members = MemberService(db, system_seams(), REGION, folder, FAST, audit)
    await members.open()
    await members.invite("RTK", URL)
    found = members.by_code("RTK")
    assert found is not None
    return members, found, UseStore(db, CLOCK)


async def test_what_was_shown_supersedes_what_its_holder_had_before(database: Db, tmp_path: Path) -> None:
    members, member, used = await service(database, tmp_path)
    later = CLOCK.now() + timedelta(days=1)
    for serial, who in (("a1", "member/RTK"), ("a2", "member/RTK"), ("b1", "system/PACS")):
        of = member.id if who.startswith("member") else None
        await members.store.credentials.certificate(serial, SPIFFE + who, of, later)
    assert await used.superseded(CLOCK.now()) == []
    await used.note({"a2", "b1", "never issued"})
    await used.note({"a2"})
    assert [one.serial for one in await used.superseded(CLOCK.now())] == ["a1"]
    assert await used.superseded(CLOCK.now() - timedelta(minutes=1)) == [], "the grace is not over"
    assert (await used.is_superseded("a1"), await used.is_superseded("a2")) == (True, False)
    assert await members.renewals.follow() is False, "within the grace of the configuration"
    (old,) = await used.superseded(CLOCK.now())
    await members.store.credentials.withdraw("certificate", old.serial, old.expires)
    assert await used.superseded(CLOCK.now()) == []
    assert await used.is_superseded("a1"), "it renews nothing either"
    await members.refresh()
    assert members.issued.withdrawn_certificates == {"a1"}
    assert await used.issued_since(member.id, datetime(2020, 1, 1, tzinfo=UTC)) == 2
    assert {one.serial for one in await used.of_member(member.id)} == {"a1", "a2"}
    assert await members.renewals.withdraw_all(member) == 2
    await members.refresh()
    assert members.issued.withdrawn_certificates == {"a1", "a2"}


async def test_alarms_add_up_until_they_are_seen(database: Db, tmp_path: Path) -> None:
    members, member, used = await service(database, tmp_path)
    await used.alarm(member.id, "two-holders", "from 10.0.0.9", 1)
    await used.alarm(member.id, "two-holders", "from 10.0.0.8", 4)
    await used.alarm(member.id, "renewals", "12 certificates", 1)
    standing = {alarm.kind: alarm for alarm in (await members.alarms.standing())[member.id]}
    assert (standing["two-holders"].times, standing["two-holders"].detail) == (5, "from 10.0.0.8")
    assert standing["two-holders"].first <= standing["two-holders"].last
    assert await members.alarms_seen("RTK") == 2
    assert await members.alarms.standing() == {}


async def test_a_code_in_another_case_is_no_other_member(database: Db, tmp_path: Path) -> None:
    members, _, _ = await service(database, tmp_path)
    with pytest.raises(Conflict, match="There is a member RTK"):
        await members.invite("Rtk", URL)
