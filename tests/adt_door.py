"""A feed of HL7 v2 messages over a real identity store and audit: whose certificates come, what they may
feed, and what the feed left behind.
"""

from __future__ import annotations

from said_by import SaidBy

from crosslight.runtime.audit import AuditLog
from crosslight.runtime.clock import SystemClock, SystemIds
from crosslight.runtime.db import Db
from crosslight.runtime.mllp import Peer
from crosslight.runtime.peers import PeerCertificate
from crosslight.standards.access import BEFORE_GRANTS, Grants
from crosslight.standards.hl7.ack import Ack, parse_ack
from crosslight.standards.ids import NHS_NUMBER_OID, Identifier, MemberId, Oid
from crosslight.standards.region import Region
from registry.identity.config import IdentityRules
from registry.identity.model import Person
from registry.identity.store import IdentityStore
from registry.ihe.iti8 import AdtFeed
from registry.intake.patients import PatientIntake
from registry.members.model import Member, Presence
from registry.members.systems import asked_grants

COMMUNITY = Oid("1.2.826.0.1.1")
REGION = Region(
    name="Test",
    home_community_id=COMMUNITY,
    authority=Oid("1.2.826.0.1.9"),
    national_authority=NHS_NUMBER_OID,
    allow_test_numbers=True,
)
RTK, RXC = Oid("1.2.826.0.1.2.1"), Oid("1.2.826.0.1.2.2")
NHS = "9990000018"


#: What the outside systems of these tests were granted.
SYSTEMS = {
    "PAS": asked_grants(("link",), feeds=(RTK, RXC, REGION.authority, NHS_NUMBER_OID)),
    "ONE": asked_grants(feeds=(RTK,)),
    "FEEDER": asked_grants(feeds=(RTK, NHS_NUMBER_OID)),
    "BEFORE": BEFORE_GRANTS,
    "VIEWER": asked_grants(("find", "open")),
}


def member(n: int, code: str, authority: Oid, status: str = "active") -> Member:
    return Member(
        id=MemberId(n),
        code=code,
        name=f"{code} Trust",
        repository_unique_id=Oid(f"1.3.{n}"),
        retrieve_location_uid=Oid(f"1.4.{n}"),
        authority=authority,
        status=status,  # type: ignore[arg-type]
        secret=b"x" * 32,
    )


class Members:
    """A directory of three."""

    def __init__(self) -> None:
        self.members = (
            member(1, "RTK", RTK),
            member(2, "RXC", RXC),
            member(3, "OUT", Oid("1.5"), "suspended"),
        )

    def all(self) -> tuple[Member, ...]:
        return self.members

    def foreign(self) -> tuple[Member, ...]:
        return ()

    def by_id(self, member: MemberId) -> Member | None:
        return next((m for m in self.members if m.id == member), None)

    def by_code(self, code: str) -> Member | None:
        return next((m for m in self.members if m.code == code), None)

    def by_repository(self, oid: str) -> Member | None:
        return None

    def by_retrieve_location(self, oid: str) -> Member | None:
        return None

    def by_authority(self, oid: str) -> Member | None:
        return next((m for m in self.members if m.owns(oid)), None)

    def presence(self, member: MemberId) -> Presence:
        return Presence(member=member, reachable=True)

    def check_peer(self, peer: PeerCertificate) -> None:
        SaidBy(self, COMMUNITY).check(peer)

    def system_grants(self, name: str) -> Grants:
        return SYSTEMS.get(name, Grants())


def certified(path: str, community: str = COMMUNITY, until: str = "Jan  1 00:00:00 2099 GMT") -> Peer:
    names = (("URI", f"spiffe://{community}/{path}"),)
    return Peer("10.0.0.9", {"subjectAltName": names, "notAfter": until, "serialNumber": "0A"})


class Door:
    """A feed, and what it left behind."""

    def __init__(self, db: Db, *, open_mode: bool = False) -> None:
        rules = IdentityRules(
            feeds=frozenset({"system:PAS"}), traced_from=frozenset({"member:RTK", "system:PAS"})
        )
        self.store, self.audit = IdentityStore(db, REGION, SystemIds(), rules), AuditLog(db, SystemClock())
        self.patients = PatientIntake(self.store, self.audit, Members(), REGION, SystemClock())
        self.feed = AdtFeed(self.patients, Members(), REGION, SystemClock(), SystemIds(), open_mode=open_mode)

    async def send(
        self, pid3: str, peer: Peer, *, event: str = "A04", more: str = "||DOE^Ann||19500101|F", mrg: str = ""
    ) -> Ack:
        text = (
            f"MSH|^~\\&|A|F|R|G|20200101||ADT^{event}|c1|P|2.3.1||||||UNICODE"
            f" UTF-8\rEVN|{event}\rPID|||{pid3}{more}\r"
        )
        return parse_ack(
            await self.feed.handle((text + (f"MRG|{mrg}\r" if mrg else "") + "PV1||O\r").encode(), peer)
        )

    async def person(self, value: str, authority: str) -> Person | None:
        target = await self.store.find_cx(Identifier(value, authority))
        return target.person if target is not None and not target.subsumed else None


async def opened_door(db: Db) -> Door:
    """A feed with its tables."""
    made = Door(db)
    await made.store.open()
    await made.audit.open()
    return made
