"""Members and presence on both engines, with a second process on the same database."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from callers import operator
from members_region import CLOCK, FAST, REGION, until

from crosslight.runtime.audit import AuditLog
from crosslight.runtime.db import Db, Tx
from crosslight.runtime.peers import named_peer
from crosslight.runtime.seams import system_seams
from crosslight.runtime.tls import Identity
from crosslight.standards.concern import Concern, concern_of
from crosslight.standards.ids import Identifier, MemberId
from crosslight.standards.membership import Endpoints, Invitation
from crosslight.standards.problem import Conflict, Forbidden, Invalid, NotFound, TooLarge, Unauthenticated
from registry.members import foreign_rows
from registry.members.foreign_rows import ArrivedMeanwhile
from registry.members.presence import PresenceRow, Report
from registry.members.service import MemberService

URL = "https://registry.example"
NOW = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)


async def service(db: Db, folder: Path) -> MemberService:
    audit = AuditLog(db, CLOCK)
    await audit.open()
    one = MemberService(db, system_seams(), REGION, folder, FAST, audit)
    await one.open()
    return one


async def admit(members: MemberService, code: str) -> None:
    secret = Invitation.parse(await members.invite(code, URL)).secret
    await members.store.use_invitation(secret, 0)
    await members.refresh()


async def test_oids_are_permanent_and_unique(database: Db, tmp_path: Path) -> None:
    members = await service(database, tmp_path)
    await asyncio.gather(
        *(members.invite(code, URL, name=f"{code} Trust") for code in ("RTK", "RA2", "RXC", "RPC"))
    )
    assert members.all() == ()  # invited is not a member yet
    everyone = members.everyone()
    oids = {oid for m in everyone for oid in (m.repository_unique_id, m.retrieve_location_uid, m.authority)}
    assert len(oids) == 12
    assert all(oid.startswith(f"{REGION.home_community_id}.10.") for oid in oids)
    before = members.by_code("RTK")
    await members.invite("RTK", URL, name="Renamed", hosts=("node.example",))
    after = members.by_code("RTK")
    assert before is not None
    assert after is not None
    assert (after.id, after.repository_unique_id, after.secret) == (
        before.id,
        before.repository_unique_id,
        before.secret,
    )
    assert after.name == "Renamed"
    row = members.row(after.id)
    assert row is not None
    assert row.hosts == ("node.example",)


async def test_directory_lookups(database: Db, tmp_path: Path) -> None:
    members = await service(database, tmp_path)
    for code in ("RTK", "RA2"):
        await admit(members, code)
    assert [m.code for m in members.all()] == ["RA2", "RTK"]
    rtk = members.active("RTK")
    assert members.by_id(rtk.id) == members.by_repository(rtk.repository_unique_id) == rtk
    assert (
        members.by_retrieve_location(rtk.retrieve_location_uid) == members.by_authority(rtk.authority) == rtk
    )
    for nothing in (
        members.by_code("X"),
        members.by_repository(""),
        members.by_authority(""),
        members.by_id(MemberId(99)),
    ):
        assert nothing is None
    with pytest.raises(Unauthenticated):
        members.active("X")
    assert rtk.epoch == 1
    assert not members.presence(rtk.id).reachable
    assert (members.presence(rtk.id).since, members.presence(rtk.id).never_linked) == (None, True)


@pytest.mark.parametrize("bad", ["", "a b", "ä", "x" * 40, "../x", "-x", "x/y"])
async def test_codes_that_are_none(database: Db, tmp_path: Path, bad: str) -> None:
    members = await service(database, tmp_path)
    with pytest.raises(Invalid):
        await members.invite(bad, URL)
    with pytest.raises(Invalid):
        await members.invite("RTK", URL, hosts=("gateway.crosslight.internal",))


async def test_an_invitation_is_spent_once_however_many_try(database: Db, tmp_path: Path) -> None:
    members = await service(database, tmp_path)
    secret = Invitation.parse(await members.invite("RTK", URL)).secret
    assert (await members.store.invited_member(secret)).member.status == "invited", "asked for, not spent"
    results = await asyncio.gather(
        *(members.store.use_invitation(secret, 3) for _ in range(6)), return_exceptions=True
    )
    assert sum(isinstance(r, Conflict) for r in results) == 5
    row = await members.store.by_code("RTK")
    assert row is not None
    assert (row.member.status, row.member.epoch) == ("active", 4)
    stored = await database.read("t", lambda tx: tx.rows("SELECT secret_hash FROM invitation"))
    assert secret not in str(stored)


async def test_suspension_by_another_process(database: Db, tmp_path: Path) -> None:
    """Both see it within the poll; what is open for the member is cut in each."""
    server, command = await service(database, tmp_path), await service(database, tmp_path)
    await admit(server, "RTK")
    await command.refresh()
    server.start()
    member = server.active("RTK").id
    cut = asyncio.Event()
    called = asyncio.Event()
    server.live.closer(member, cut.set)
    shown = named_peer(Identity("member", "RTK", server.community))
    server.peers.closer(shown, lambda error: called.set())
    heard: list[int] = []
    server.on_change(lambda: heard.append(1))
    version, before = server.signed_directory()
    await command.suspend("RTK", "stolen")
    await asyncio.wait_for(cut.wait(), 5)
    await asyncio.wait_for(called.wait(), 5)
    suspended = server.by_code("RTK")
    assert suspended is not None
    assert (suspended.status, suspended.status_reason) == ("suspended", "stolen")
    assert [m.code for m in server.all()] == ["RTK"]  # it counts for coverage
    newer, after = server.signed_directory()
    assert newer > version
    assert after != before
    assert heard
    await command.readmit("RTK")
    await until(lambda: (m := server.by_code("RTK")) is not None and m.status == "active", 5)
    with pytest.raises(NotFound):
        await command.suspend("NONE", "x")
    acts = [(e.action, e.query, e.text) for e in await AuditLog(database, CLOCK).search()]
    assert ("suspend", {"member": "RTK", "reason": "stolen"}, "ok") in acts
    assert ("suspend", {"member": "NONE", "reason": "x"}, "refused: NotFound") in acts
    await server.close()


async def test_foreign_repositories(database: Db, tmp_path: Path) -> None:
    members = await service(database, tmp_path)
    one, again = await asyncio.gather(
        members.foreign_member("1.2.3.4", "system:A"), members.foreign_member("1.2.3.5", "system:A")
    )
    assert (await members.foreign_member("1.2.3.4", "system:B")).id == one.id != again.id
    assert one.status == "foreign"
    assert members.all() == ()
    assert {m.repository_unique_id for m in members.foreign()} == {"1.2.3.4", "1.2.3.5"}
    assert [m.code for m in members.foreign()] == sorted(m.code for m in members.foreign())
    assert members.by_repository("1.2.3.4") == members.by_id(one.id)
    with pytest.raises(Unauthenticated):
        members.active(one.code)
    with pytest.raises(Invalid):
        await members.foreign_member("no oid", "system:A")


async def test_a_source_is_there_with_its_first_submission_or_not_at_all(
    database: Db, tmp_path: Path
) -> None:
    members, other = await service(database, tmp_path), await service(database, tmp_path)

    class RefusedError(Exception):
        pass

    async def submit(to: MemberService, refused: bool) -> MemberId:
        async with to.arriving("1.2.3.4", "system:A") as arrival:

            def write(tx: Tx) -> None:
                arrival.write(tx)
                if refused:
                    raise RefusedError

            assert to.by_id(arrival.member.id) == arrival.member
            await database.write("submission", write)
            arrival.written()
        return arrival.member.id

    with pytest.raises(RefusedError):
        await submit(members, refused=True)
    assert await database.read("rows", lambda tx: tx.rows("SELECT * FROM member")) == []
    assert await database.read("rows", lambda tx: tx.rows("SELECT * FROM foreign_source")) == []
    assert (members.by_repository("1.2.3.4"), members.everyone()) == (None, ())
    async with members.arriving("1.2.3.4", "system:A") as late:
        first = await submit(other, refused=False)
        with pytest.raises(ArrivedMeanwhile):
            await database.write("submission", late.write)
    assert await submit(members, refused=False) == first, "what another process made is found"
    assert members.by_id(late.member.id) is None
    assert [m.id for m in members.foreign()] == [first]
    assert members.version == await members.store.version()


async def test_one_system_cannot_take_all_places_of_sources_nor_an_oid_of_the_region(
    database: Db, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = await service(database, tmp_path)
    monkeypatch.setattr(foreign_rows, "MAX_FOREIGN_EACH", 2)
    loads = 0
    load = members.store.load

    async def counted() -> Any:
        nonlocal loads
        loads += 1
        return await load()

    monkeypatch.setattr(members.store, "load", counted)
    for oid in ("1.2.3.4", "1.2.3.5"):
        assert (await members.foreign_member(oid, "system:A")).repository_unique_id == oid
        assert members.by_repository(oid) is not None
    with pytest.raises(TooLarge, match="Limit here: 2"):
        await members.foreign_member("1.2.3.6", "system:A")
    assert (await members.foreign_member("1.2.3.4", "system:A")).status == "foreign", "known ones are known"
    await members.foreign_member("1.2.3.6", "system:B")
    assert loads == 0, "the others are not read anew for each"
    assert members.version == await members.store.version()
    root = members.root_oid
    for oid in (root, f"{root}.10.{99}.1", str(members.region.home_community_id)):
        with pytest.raises(Forbidden, match="region's own"):
            await members.foreign_member(oid, "system:B")


async def test_a_new_member_gets_oids_that_nobody_has(database: Db, tmp_path: Path) -> None:
    """A source may have registered under one of them, before that was refused."""
    members = await service(database, tmp_path)
    await admit(members, "RTK")
    number = max(int(m.id) for m in members.everyone())
    taken = [f"{members.root_oid}.10.{number + 2}.1", f"{members.root_oid}.10.{number + 3}.3"]
    await members.foreign_rows.foreign(taken[0], "system:A")
    await database.write(
        "squat",
        lambda tx: tx.execute(
            "INSERT INTO member_authority VALUES (?, ?, 0, NULL, '2026')", (number, taken[1])
        ),
    )
    await members.refresh()
    await admit(members, "RXC")
    new = members.by_code("RXC")
    assert new is not None
    assert {new.repository_unique_id, new.authority}.isdisjoint(taken)
    assert new.repository_unique_id == f"{members.root_oid}.10.{number + 4}.1"


async def test_a_source_is_described_by_the_operator(database: Db, tmp_path: Path) -> None:
    members = await service(database, tmp_path)
    await admit(members, "RTK")
    known = await members.foreign_member("1.2.3.4", "system:A")
    for address in ("ftp://x", "images.example"):
        with pytest.raises(Invalid):
            await members.sources.describe("1.2.3.4", dicomweb=address, by=operator())
    own = members.by_code("RTK")
    assert own is not None
    with pytest.raises(Conflict):
        await members.sources.describe(own.repository_unique_id, name="not theirs", by=operator())
    url = "https://x.example/iti43"
    found = await members.sources.describe("1.2.3.4", name="St Elsewhere", repository_url=url, by=operator())
    assert (found.id, found.name, found.endpoints.xds_repository) == (
        known.id,
        "St Elsewhere",
        "https://x.example/iti43",
    )
    assert not found.shows_images
    more = await members.sources.describe("1.2.3.4", dicomweb="https://x.example/dicomweb/", by=operator())
    assert (more.name, more.endpoints.xds_repository, more.endpoints.dicomweb) == (
        "St Elsewhere",
        "https://x.example/iti43",
        "https://x.example/dicomweb",
    )
    assert more.shows_images
    assert [m.code for m in members.foreign()] == [known.code]
    assert (
        await members.sources.describe("1.2.3.9", name="before it registers", by=operator())
    ).status == "foreign"


async def test_hello_is_kept_and_counts_only_when_it_changes(database: Db, tmp_path: Path) -> None:
    members = await service(database, tmp_path)
    await admit(members, "RTK")
    member = members.active("RTK").id
    endpoints = Endpoints(base="https://n.example", aet="RTK")
    assert await members.store.hello(member, epoch=2, state_id="s", endpoints=endpoints)
    version = await members.store.version()
    assert not await members.store.hello(member, epoch=2, state_id="s", endpoints=endpoints)
    assert await members.store.version() == version
    await members.refresh()
    row = members.row(member)
    assert row is not None
    assert (row.member.epoch, row.state_id, row.member.endpoints) == (2, "s", endpoints)


async def test_an_epoch_never_goes_back(database: Db, tmp_path: Path) -> None:
    """An old link that began while the member joined anew knows the epoch of before (D10)."""
    members = await service(database, tmp_path)
    await admit(members, "RTK")
    member = members.active("RTK").id
    await members.store.hello(member, epoch=6, state_id="new", endpoints=Endpoints())
    await members.store.hello(member, epoch=5, state_id="old", endpoints=Endpoints())
    await members.refresh()
    assert members.active("RTK").epoch == 6


async def test_presence_rows_and_who_may_say_lost(database: Db, tmp_path: Path) -> None:
    store = (await service(database, tmp_path)).presence_store
    up = PresenceRow(
        member=MemberId(1),
        process="p1",
        reachable=True,
        since=None,
        last_heard=NOW,
        report=Report(waiting=1, census_equal=True),
    )
    await store.write([up])
    assert await store.read() == [up]
    moved = replace(up, process="p2", last_heard=NOW + timedelta(seconds=5))
    await store.write([moved])
    # p1's link ended after p2 had the member
    await store.write([replace(up, reachable=False, since=NOW)])
    assert await store.read() == [moved]
    gone = replace(moved, reachable=False, since=NOW + timedelta(seconds=6))
    await store.write([gone])
    assert await store.read() == [gone]


async def test_whom_a_members_studies_concern_is_known_to_every_process(database: Db, tmp_path: Path) -> None:
    one, two = await service(database, tmp_path), await service(database, tmp_path)
    await admit(one, "RTK")
    rtk = one.active("RTK").id
    token = one.board.opened(rtk)
    for concern in (concern_of(b"s", [Identifier("A1", "1")], []), Concern(anybody_refused=True), Concern()):
        report = Report(concern=concern.version.hex())
        one.board.heard(rtk, token, report)
        assert one.presence(rtk).concern is None, "named, and not here: it may be anybody"
        one.board.concerned(rtk, concern)
        assert one.presence(rtk).concern == concern
        await one._sync_presence()
        await two._sync_presence()
        assert two.presence(rtk).concern == concern
    one.board.heard(rtk, token, Report())
    assert one.presence(rtk).concern is None, "an older node is back"
    await one._sync_presence()
    await two._sync_presence()
    assert two.presence(rtk).concern is None
    one.board.heard(rtk, token, report)
    await one._sync_presence()
    again = await service(database, tmp_path)  # a restart
    assert again.presence(rtk).concern == Concern()
