"""AdtFeed: from message to committed identity, on both engines."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from adt_door import COMMUNITY, NHS, REGION, RTK, RXC, Door, certified, opened_door

from crosslight.runtime.clock import SystemClock, SystemIds
from crosslight.runtime.db import Db
from crosslight.runtime.files import SystemFiles
from crosslight.runtime.mllp import MllpClient, MllpServer, Peer
from crosslight.runtime.tls import Identity, client_context, peer_identity, server_context
from crosslight.standards.hl7.ack import parse_ack
from crosslight.standards.hl7.adt import MessageHeader, feed_message, render_adt
from crosslight.standards.ids import NHS_NUMBER_OID, Identifier
from crosslight.standards.problem import Unavailable
from crosslight.standards.study import Patient, PersonName
from registry.members.ca import CertificateAuthority


@pytest.fixture
async def door(database: Db) -> Door:
    return await opened_door(database)


async def test_a_member_feeds_its_own_authority_with_national_numbers(door: Door) -> None:
    assert (
        await door.send(f"a1^^^&{RTK}&ISO~{NHS}^^^NHS~zz^^^&9.9&ISO~x^^^&{RXC}&ISO", certified("member/RTK"))
    ).accepted
    assert (
        await door.send(f"b1^^^&{RXC}&ISO~{NHS}^^^&{NHS_NUMBER_OID}&ISO", certified("member/RXC"))
    ).accepted
    assert (await door.send("a2", certified("member/RTK"))).accepted, "without authority: the sender's own"
    assert await door.person("a2", RTK) is not None
    assert await door.person("x", RXC) is None, "another member's id in the same message is no record"
    person = await door.person(NHS, NHS_NUMBER_OID)
    assert person is not None
    assert {(r.patient.local.value, r.member) for r in person.records} == {("a1", 1), ("b1", 2)}
    assert {i for r in person.records for i in r.patient.others} == {Identifier(NHS, NHS_NUMBER_OID)}
    [act] = await door.audit.search(patient=Identifier("b1", RXC))
    assert (act.face, act.action, act.decision, act.text, act.query) == (
        "hl7",
        "feed",
        "permit",
        "ok 1 fed",
        {"event": "A04"},
    )
    assert act.who.organisation == "RXC"


@pytest.mark.parametrize(
    ("adds", "changes"), [("A04", "A08"), ("A28", "A31"), ("A01", "A31"), ("A28", "A08"), ("A31", "A05")]
)
async def test_a_person_is_added_and_changed_with_or_without_a_visit(
    door: Door, adds: str, changes: str
) -> None:
    """A28 and A31 do what A04 and A08 do (ITI-30's events, as patient administration systems send them)."""
    pid3, peer = f"a1^^^&{RTK}&ISO~{NHS}^^^NHS", certified("system/PAS")
    assert (await door.send(pid3, peer, event=adds)).accepted
    assert (await door.send(pid3, peer, event=changes, more="||DOE^Anne||19500102|F")).accepted
    person = await door.person("a1", RTK)
    assert person is not None
    [record] = person.records
    assert (record.patient.name.pn, record.patient.birth_date) == ("DOE^Anne", "19500102")
    acts = await door.audit.search(patient=Identifier("a1", RTK))
    assert sorted(act.query["event"] for act in acts) == sorted((adds, changes))


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (f"{NHS[:3]} {NHS[3:6]}-{NHS[6:]}", True),
        (f"{NHS[:3]}\N{NO-BREAK SPACE}{NHS[3:6]}\N{EN DASH}{NHS[6:]}", True),
        (f"NHS No. {NHS}", True),
        (NHS[:9], False),
        (NHS[:9] + str((int(NHS[9]) + 1) % 10), False),
    ],
)  # fmt: skip
async def test_a_national_number_is_read_as_people_write_it_or_passed_over_and_counted(
    door: Door, given: str, read: bool
) -> None:
    ack = await door.send(f"a1^^^&{RTK}&ISO~{given}^^^NHS", certified("member/RTK"))
    assert ack.accepted
    found = await door.person("a1", RTK)
    assert found is not None
    assert [n.value for r in found.records for n in r.national] == ([NHS] if read else [])
    assert dict(door.patients.unread) == ({} if read else {"RTK": 1})
    [act] = await door.audit.search(patient=Identifier("a1", RTK))
    assert {text.rpartition("|")[2] for text in act.patients} == {"a1", given}, "kept as received"


@pytest.mark.parametrize(
    ("path", "pid3", "code", "condition"),
    [
        ("member/RTK", f"b1^^^&{RXC}&ISO", "AR", "204"),
        ("member/RTK", "b1^^^&9.9.9&ISO", "AE", "204"),
        ("member/RTK", f"b1^^^&{REGION.authority}&ISO", "AR", "204"),
        ("member/OUT", "b1^^^&1.5&ISO", "AR", "204"),
        ("member/NONE", f"b1^^^&{RTK}&ISO", "AR", "204"),
        ("gateway", f"b1^^^&{RTK}&ISO", "AR", "204"),
        ("system/PAS", "1234567890^^^NHS", "AE", "102"),
        ("system/ONE", f"b1^^^&{RXC}&ISO", "AR", "204"),
        ("system/ONE", f"b1^^^&{REGION.authority}&ISO", "AR", "204"),
        ("system/ONE", f"{NHS}^^^NHS", "AR", "204"),
        ("system/VIEWER", f"b1^^^&{RTK}&ISO", "AR", "204"),
        ("system/NOBODY", f"b1^^^&{RTK}&ISO", "AR", "204"),
        ("member/RTK", f"b1\\X00\\^^^&{RTK}&ISO", "AE", "101"),
    ],
)
async def test_who_may_not_feed_what(door: Door, path: str, pid3: str, code: str, condition: str) -> None:
    ack = await door.send(pid3, certified(path))
    assert (ack.code, ack.control_id, ack.condition) == (code, "c1", condition)
    assert ack.text
    assert await door.person("b1", RTK) is None
    assert await door.person("b1", RXC) is None


async def test_strangers_are_refused(door: Door, database: Db) -> None:
    pid3 = f"a1^^^&{RTK}&ISO"
    for peer in (
        Peer("x"),
        certified("member/RTK", community="1.2"),
        certified("member/RTK", until="Jan  1 00:00:00 2020 GMT"),
    ):
        assert (await door.send(pid3, peer)).code == "AR"
    assert await door.person("a1", RTK) is None
    opened = Door(database, open_mode=True)
    assert (await opened.send(pid3, Peer("127.0.0.1"))).accepted
    [act] = await door.audit.search(patient=Identifier("a1", RTK))
    assert act.who.roles == {"open"}


async def test_a_system_feeds_the_authorities_that_it_was_granted(door: Door) -> None:
    pas = certified("system/PAS")
    assert (await door.send(f"{NHS}^^^&{NHS_NUMBER_OID}&ISO", pas)).accepted
    assert (await door.send(f"v1^^^&{REGION.authority}&ISO", pas)).accepted
    assert (await door.send(f"a1^^^&{RTK}&ISO~b1^^^&{RXC}&ISO", pas)).accepted
    visitor = await door.person("v1", REGION.authority)
    assert visitor is not None
    assert visitor.domain_id == Identifier("v1", REGION.authority)
    first, second = await door.person("a1", RTK), await door.person("b1", RXC)
    assert first is not None
    assert second is not None
    assert first.key != second.key, "local numbers never join anything"


async def test_traced_from_pid_32(door: Door) -> None:
    traced = "||DOE^Ann||19500101|F" + "|" * 24 + "01"
    assert (await door.send(f"a1^^^&{RTK}&ISO~{NHS}^^^NHS", certified("member/RTK"), more=traced)).accepted
    assert (
        await door.send(f"b1^^^&{RXC}&ISO~{NHS}^^^NHS", certified("member/RXC"), more="||DOE^Ann||19660606|F")
    ).accepted
    holder, loser = await door.person(NHS, NHS_NUMBER_OID), await door.person("b1", RXC)
    assert holder is not None
    assert holder.records[0].patient.local.value == "a1"
    assert loser is not None
    assert loser.records[0].disputed


async def test_what_cannot_be_read_is_answered(door: Door) -> None:
    for data in (b"", b"MSH|^~\\&|", b"MSH|^~\\&|||||||ORU^R01|c9|P|2.5\r"):
        assert parse_ack(await door.feed.handle(data, certified("member/RTK"))).code == "AR"


@pytest.mark.parametrize(
    ("msh2", "msh18", "body"),
    [
        ("^~\\&", "KLINGON", b"\rPID|||a1"),
        ("^~\\&", "UNICODE UTF-8", b"\rPID|||a1||M\xdcLLER"),
        ("^~\\&", "", b"\rZZZ" * 1001),
        ("^^\\&", "", b"\rPID|||a1"),
        ("PAS", "", b"\rPID|||a1"),
    ],
)
async def test_every_refusal_names_its_message(door: Door, msh2: str, msh18: str, body: bytes) -> None:
    msh = f"MSH|{msh2}|PAS|TRUST|CL|REGION|20200101||ADT^A04|c42|T|2.5||||||{msh18}".encode()
    answer = await door.feed.handle(msh + body, certified("member/RTK"))
    ack = parse_ack(answer)
    assert (ack.code, ack.control_id, ack.temporary) == ("AR", "c42", False)
    assert answer.startswith(b"MSH|^~\\&|CL|REGION|PAS|TRUST|")
    assert b"|T|2.5" in answer


async def test_no_audit_no_feed(database: Db) -> None:
    door = Door(database)
    await door.store.open()  # the audit has no tables
    ack = await door.send(f"a1^^^&{RTK}&ISO", certified("member/RTK"))
    assert (ack.code, ack.temporary) == ("AR", True)
    assert await door.person("a1", RTK) is None


async def test_over_mutual_tls(door: Door, tmp_path: Path) -> None:
    """The whole road: a node's client, certificates of the region's own authority, and the sender known by
    them.
    """
    ca = CertificateAuthority(tmp_path / "ca", COMMUNITY, "Test", SystemClock(), SystemIds(), SystemFiles())
    ca.open()
    life = timedelta(hours=1)
    gateway = Identity("gateway", "", COMMUNITY)
    ca.write_pair(tmp_path / "gateway.pem", gateway, ("localhost",), life)
    ca.write_pair(tmp_path / "rtk.pem", Identity("member", "RTK", COMMUNITY), (), life)
    tls = server_context(tmp_path / "gateway.pem", tmp_path / "gateway.pem", client_ca=ca.bundle)
    server = MllpServer(door.feed.handle, "127.0.0.1", 0, tls=tls)
    await server.start()
    trusted = client_context(ca.bundle, tmp_path / "rtk.pem", tmp_path / "rtk.pem", expect=gateway)
    client = MllpClient("127.0.0.1", server.port, tls=trusted)
    header = MessageHeader(control_id="9", time="20261122030000")
    for authority, accepted in ((RTK, True), (RXC, False)):
        patient = Patient(local=Identifier("t1", authority), name=PersonName("Ng^Ada"), birth_date="19500101")
        ack = parse_ack(await client.send(render_adt(feed_message(patient, header, "A04"))))
        assert ack.accepted == accepted
    assert server.disconnect(lambda peer: peer_identity(peer.certificate).name == "RTK") == 1
    nobody = MllpClient("127.0.0.1", server.port, tls=client_context(ca.bundle, expect=gateway))
    with pytest.raises(Unavailable):
        await nobody.send(b"MSH|^~\\&|")
    await client.close()
    await nobody.close()
    await server.stop()
    assert await door.person("t1", RTK) is not None
    assert await door.person("t1", RXC) is None
