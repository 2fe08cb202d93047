"""A room among members that are truly so: invited, admitted, linked and suspended by the registry's own
member service.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from registry_room import AnyRoom, TestClock, room_config
from registry_samples import CODES, REGION

from crosslight.runtime.db import SqliteDb
from crosslight.runtime.seams import system_seams
from crosslight.standards.concern import Concern
from crosslight.standards.ids import MemberId
from crosslight.standards.membership import Endpoints, Invitation
from crosslight.standards.region import Region
from registry.config import RegistryConfig
from registry.members.presence import Report
from registry.members.service import MemberService
from registry.parts import make_ground, make_members, make_waists

URL = "https://registry.example"
NAMES = {code: f"{code} Hospitals NHS Foundation Trust" for code in CODES}


@dataclass
class MemberRoom(AnyRoom[MemberService]):
    """A room whose members' links say what the test lets them say."""

    links: dict[MemberId, int] = field(default_factory=dict)

    @property
    def members(self) -> MemberService:
        return self.directory

    async def admit(self, code: str, name: str) -> None:
        """A member more, by an invitation that is used."""
        text = await self.members.invite(code, URL, name=name)
        await self.members.store.use_invitation(Invitation.parse(text).secret, 0)
        await self.members.refresh()

    async def reached_at(self, code: str, endpoints: Endpoints) -> None:
        """A member's link says where its faces are."""
        await self.members.store.hello(self.member(code).id, epoch=1, state_id="state", endpoints=endpoints)
        await self.members.refresh()

    def said(self, *codes: str, **what: Any) -> None:
        """A heartbeat of each: of a member whose list is whole, but for ``what``; it is linked from now
        on."""
        now = self.clock.now().isoformat()
        for code in codes or tuple(m.code for m in self.members.all()):
            member = self.member(code).id
            if member not in self.links:
                self.links[member] = self.members.board.opened(member)
            report = Report(**({"census_equal": True, "census_at": now} | what))
            self.members.board.heard(member, self.links[member], report)

    def concerned(self, code: str, concern: Concern, **what: Any) -> None:
        """A heartbeat that says whom the member's unlisted studies concern."""
        self.members.board.concerned(self.member(code).id, concern)
        self.said(code, concern=concern.version.hex(), **what)

    def lost(self, *codes: str) -> None:
        """The links of these members end."""
        for code in codes:
            member = self.member(code).id
            self.members.board.lost(member, self.links.pop(member))


@asynccontextmanager
async def member_room(
    folder: Path,
    names: Mapping[str, str] = NAMES,
    *,
    region: Region = REGION,
    config: RegistryConfig | None = None,
) -> AsyncIterator[MemberRoom]:
    """A room with a database of its own and these members, by code, of whom nothing was heard yet."""
    folder.mkdir(parents=True, exist_ok=True)
    db, seams = SqliteDb(folder / "registry.sqlite"), system_seams(clock=TestClock())
    ground = make_ground(seams, config or room_config(), db, db, region)
    members = make_members(ground, folder)
    room = MemberRoom(ground, make_waists(ground, members), members)
    await room.audit.open()
    await members.open()
    await room.waists.open()
    room.waists.changed.add(room.changes.extend)
    for code, name in names.items():
        await room.admit(code, name)
    try:
        yield room
    finally:
        await room.ask.close()
        await db.close()
