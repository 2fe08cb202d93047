"""A registry without faces: database, identity, index, accept and ask together, with a clock that a test
moves.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Generic, TypeVar, cast

from callers import caller
from registry_samples import REGION, MemoryDirectory, published

from crosslight.runtime.audit import AuditLog
from crosslight.runtime.clock import Clock, Ids
from crosslight.runtime.db import Db, Tx
from crosslight.runtime.seams import system_seams
from crosslight.standards.access import Action, Face, Principal
from crosslight.standards.ids import Version
from crosslight.standards.study import Patient, StudyRecord
from crosslight.standards.xds.model.publication import Publication, Status
from registry.ask.ask import Ask
from registry.ask.question import Answer, Question, is_export
from registry.config import RegionConfig, RegistryConfig
from registry.identity.batch import Kind
from registry.identity.model import RecordKey
from registry.identity.store import IdentityStore
from registry.index.model import Change, Holding, HoldingKey
from registry.index.rows import Loaded
from registry.index.store import IndexStore
from registry.intake.accept import Acceptor
from registry.intake.submission import Acceptance, Act, Publish, SetAvailability, Submission, Withdraw
from registry.members.config import MembersConfig
from registry.members.model import Directory, Member, Presence
from registry.parts import Ground, Waists, make_ground, make_waists

START = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)


class TestClock:
    """A clock that stands until it is moved."""

    __test__ = False

    def __init__(self) -> None:
        self.moment = START

    def now(self) -> datetime:
        return self.moment

    def monotonic_s(self) -> float:
        return (self.moment - START).total_seconds()

    async def sleep(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)


def clinician(organisation: str = "RA2", *roles: str) -> Principal:
    """A person with these roles, clinician by default."""
    return Principal(
        subject=f"user@{organisation}", roles=frozenset(roles or ("clinician",)), organisation=organisation
    )


D = TypeVar("D", bound=Directory)


@dataclass
class AnyRoom(Generic[D]):
    """What a test works with: production's ground and waists, among members of one kind."""

    ground: Ground
    waists: Waists
    directory: D
    changes: list[Change] = field(default_factory=list)

    @property
    def db(self) -> Db:
        return self.ground.db

    @property
    def audit(self) -> AuditLog:
        return self.ground.audit

    @property
    def clock(self) -> TestClock:
        return cast(TestClock, self.ground.seams.clock)

    @property
    def index(self) -> IndexStore:
        return self.waists.index

    @property
    def identity(self) -> IdentityStore:
        return self.waists.identity

    @property
    def acceptor(self) -> Acceptor:
        return self.waists.acceptor

    @property
    def ask(self) -> Ask:
        return self.waists.ask

    def member(self, code: str) -> Member:
        found = self.directory.by_code(code)
        assert found is not None
        return found

    # --- intake ---------------------------------------------------------------------------------------------

    def grpc(self, code: str, *acts: Act) -> Submission:
        """Acts as the index feed brings them."""
        member = self.member(code)
        principal = Principal(subject=code, roles=frozenset({"member"}), organisation=code, member=member.id)
        return Submission(member=member, caller=caller(principal), acts=acts, road="grpc", strict=False)

    def soap(self, code: str, *acts: Act) -> Submission:
        """Acts as ITI-42, 57 and 62 bring them."""
        member = self.member(code)
        principal = Principal(subject=code, roles=frozenset({"member"}), organisation=code, member=member.id)
        return Submission(member=member, caller=caller(principal), acts=acts, road="soap", strict=True)

    def published(self, code: str, record: StudyRecord, n: int, *, epoch: int = 1) -> Publish:
        """A publish of the feed."""
        publication = published(self.member(code), record, n, epoch=epoch)
        return Publish(publication=publication, digest=record.digest(), patient=record.patient)

    async def publish(self, code: str, record: StudyRecord, n: int, *, epoch: int = 1) -> str:
        """Publish over the feed; the outcome."""
        self.clock.moment += timedelta(seconds=1)
        return (
            await self.acceptor.accept(self.grpc(code, self.published(code, record, n, epoch=epoch)))
        ).outcomes[0]

    async def availability(self, code: str, study_uid: str, status: Status, n: int, epoch: int = 1) -> str:
        """Approve or deprecate over the feed."""
        act = SetAvailability(study_uid=study_uid, status=status, version=Version(epoch, n))
        return (await self.acceptor.accept(self.grpc(code, act))).outcomes[0]

    async def withdraw(self, code: str, study_uid: str, n: int, epoch: int = 1) -> str:
        """Withdraw over the feed."""
        act = Withdraw(study_uid=study_uid, version=Version(epoch, n))
        return (await self.acceptor.accept(self.grpc(code, act))).outcomes[0]

    async def register(self, code: str, publication: Publication, *, cx: str = "") -> Acceptance:
        """ITI-42 of one manifest; its patient was fed before."""
        cx = cx or publication.record.patient.local.cx()
        act = Publish(publication=publication, digest=publication.manifest.sha1, patient_cx=cx)
        return await self.acceptor.accept(self.soap(code, act))

    async def feed(self, code: str, patient: Patient, *, kind: Kind = "header") -> RecordKey:
        """ITI-8; ``feed`` as of a source that the region names."""
        return await self.identity.feed(patient, self.member(code).id, self.clock.now(), kind=kind)

    # --- asking ---------------------------------------------------------------------------------------------

    async def asked(
        self,
        question: Question,
        who: Principal | None = None,
        *,
        face: Face = "fhir",
        action: Action = "search",
    ) -> Answer:
        """One question, answered."""
        principal = who or clinician()
        if is_export(question):  # in these tests whoever asks for everybody may
            principal = replace(principal, roles=principal.roles | {"exporter"})
        asked = self.ask.question(
            caller(principal, "c1", "test"), face=face, action=action, question=question
        )
        async with asked as answer:
            return answer

    async def holdings(self, code: str) -> list[Holding]:
        """All that a member holds, by study UID, with its past."""
        found, cursor = [], ""
        while True:
            page, cursor = await self.index.held_after(self.member(code).id, cursor, 100)
            for one in page:
                rows = await self.db.read("t", partial(self._current, code, one.study_uid))
                loaded = rows[one.study_uid].holding
                holding = await self.index.holding(
                    HoldingKey(loaded.record_key, loaded.study_uid, loaded.member)
                )
                assert holding is not None
                found.append(holding)
            if not cursor:
                return sorted(found, key=lambda h: h.study_uid)

    def _current(self, code: str, uid: str, tx: Tx) -> dict[str, Loaded]:
        return self.index.read.current(tx, self.member(code).id, [uid])


class Room(AnyRoom[MemoryDirectory]):
    """Among members that the test sets."""

    def live(self, *codes: str) -> None:
        """Members that are well, as their links say now."""
        for code in codes:
            member = self.member(code)
            self.directory.presences[member.id] = Presence(
                member=member.id,
                reachable=True,
                last_heard=self.clock.now(),
                census_equal=True,
                census_at=self.clock.now(),
            )


def room_config(**sections: Any) -> RegistryConfig:
    """A registry's configuration for the region of the samples; ``sections`` replace the defaults."""
    home, authority = REGION.home_community_id, REGION.authority
    region = RegionConfig(
        name=REGION.name, home_community_id=home, authority=authority, allow_test_numbers=True
    )
    sections.setdefault("members", MembersConfig(loopback=True))  # members are on this machine
    return RegistryConfig(region=region, **sections)


async def make_room(
    db: Db, *, clock: Clock | None = None, ids: Ids | None = None, config: RegistryConfig | None = None
) -> Room:
    """A room over an empty database; its clock is a :class:`TestClock` unless another is given."""
    seams, directory = system_seams(clock=clock or TestClock(), ids=ids), MemoryDirectory()
    config = config or room_config()
    ground = make_ground(seams, config, db, db, REGION)
    room = Room(ground, make_waists(ground, directory), directory)
    await room.audit.open()
    await room.waists.open()
    room.waists.changed.add(room.changes.extend)
    return room
