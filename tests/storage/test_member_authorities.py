"""Patient authorities of a member's own: agreed by the operator, asked for by a node, shared only by the
operator's word.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from callers import operator
from members_region import CLOCK, FAST, REGION

from crosslight.runtime.audit import AuditLog
from crosslight.runtime.db import Db
from crosslight.runtime.seams import system_seams
from crosslight.standards.ids import NHS_NUMBER_OID
from crosslight.standards.membership import Invitation
from crosslight.standards.problem import Conflict, Invalid, NotFound
from registry.members.service import MemberService

URL = "https://registry.example"
OWN, OLD = "2.16.840.1.113883.2.1.3.2.4.18.24", "1.2.3.77"


async def service(db: Db, folder: Path) -> MemberService:
    audit = AuditLog(db, CLOCK)
    await audit.open()
    one = MemberService(db, system_seams(), REGION, folder, FAST, audit)
    await one.open()
    return one


async def admit(members: MemberService, code: str, *authorities: str, shared: bool = False) -> None:
    text = await members.invite(code, URL, authorities=authorities, shared=shared)
    await members.store.use_invitation(Invitation.parse(text).secret, 0)
    await members.refresh()


async def test_agreed_in_the_invitation_and_seen_by_every_process(database: Db, tmp_path: Path) -> None:
    members = await service(database, tmp_path)
    await admit(members, "RTK", OWN, OLD)
    rtk = members.active("RTK")
    assert rtk.authorities == (OWN, OLD), "in the order in which they were said"
    assert [rtk.owns(one) for one in (OWN, OLD, rtk.authority, "1.2.3.78", "")] == [
        True,
        True,
        True,
        False,
        False,
    ]
    assert members.by_authority(OWN) == members.by_authority(rtk.authority) == rtk
    other = await service(database, tmp_path)
    assert other.active("RTK").authorities == (OWN, OLD)
    _, token = members.signed_directory()
    await members.authorities.withdraw("RTK", OLD, by=operator())
    assert members.active("RTK").authorities == (OWN,)
    assert members.by_authority(OLD) is None
    assert members.signed_directory()[1] != token, "the nodes hear of it"
    await other.refresh()
    assert other.active("RTK").authorities == (OWN,)


async def test_what_a_node_asks_for_waits_for_the_operator(database: Db, tmp_path: Path) -> None:
    members = await service(database, tmp_path)
    await admit(members, "RTK")
    rtk = members.active("RTK")
    await members.authorities.ask(rtk.id, [OWN, OLD, OWN], by=operator())
    await members.authorities.ask(rtk.id, [OWN], by=operator())
    rtk = members.active("RTK")
    assert (rtk.authorities, rtk.asked) == ((), (OWN, OLD))
    assert not rtk.owns(OWN)
    assert members.by_authority(OWN) is None
    await members.authorities.agree("RTK", [OLD], shared=False, by=operator())
    rtk = members.active("RTK")
    assert (rtk.authorities, rtk.asked) == ((OLD,), (OWN,))
    await members.authorities.withdraw("RTK", OWN, by=operator())
    assert members.active("RTK").asked == ()
    with pytest.raises(NotFound):
        await members.authorities.withdraw("RTK", OWN, by=operator())
    acts = [(e.action, e.query.get("authority")) for e in await AuditLog(database, CLOCK).search()]
    assert acts.count(("agree-authority", OLD)) == 1
    assert acts.count(("ask-authority", OWN)) == 1
    assert acts.count(("withdraw-authority", OWN)) == 2, "once in vain"


async def test_shared_only_by_the_operators_word(database: Db, tmp_path: Path) -> None:
    members = await service(database, tmp_path)
    await admit(members, "RTK", OWN)
    await admit(members, "RXC")
    rtk, rxc = members.active("RTK"), members.active("RXC")
    await members.authorities.ask(rxc.id, [OWN], by=operator())
    with pytest.raises(Conflict, match="RTK already"):
        await members.authorities.agree("RXC", [OWN], shared=False, by=operator())
    with pytest.raises(Conflict):
        await members.invite("RA2", URL, authorities=(OWN,))
    assert not members.active("RXC").owns(OWN)
    await members.authorities.agree("RXC", [OWN], shared=True, by=operator())
    assert members.active("RXC").owns(OWN)
    assert members.active("RTK").owns(OWN)
    assert members.by_authority(OWN) == members.active("RTK"), "the first"
    assert rtk.authority != rxc.authority


@pytest.mark.parametrize(
    "authority",
    [
        "", "x", "24", "1.2.", "1..2", "1.02.3", NHS_NUMBER_OID, REGION.authority, REGION.home_community_id,
        f"{REGION.home_community_id}.10.1.3", f"{REGION.home_community_id}.10.1.1", "1.2." + "3" * 70,
    ],
)  # fmt: skip
async def test_authorities_that_are_nobodys_own(database: Db, tmp_path: Path, authority: str) -> None:
    members = await service(database, tmp_path)
    await admit(members, "RTK")  # member 1
    await admit(members, "RXC")
    with pytest.raises(Invalid):
        await members.authorities.agree("RXC", [authority], shared=True, by=operator())
    with pytest.raises(Invalid):
        await members.invite("RA2", URL, authorities=(authority,))
    with pytest.raises(Invalid):
        await members.authorities.ask(members.active("RXC").id, [authority], by=operator())
    assert members.by_code("RA2") is None, "nothing was made"
    assert members.active("RXC").asked == ()
