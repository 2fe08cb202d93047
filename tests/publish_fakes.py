"""Twins of what publication stands on: a virtual clock, an archive in memory, and a registry that follows XDS
to the letter.
"""

from __future__ import annotations

import asyncio
import heapq
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random

from cryptography.hazmat.primitives.asymmetric import ec
from publish_records import make_instances

from crosslight.runtime.db import SqliteDb
from crosslight.standards.ids import Identifier, Oid
from crosslight.standards.problem import Unavailable
from crosslight.standards.study import Patient, StudyRecord
from crosslight.standards.xds.model.publication import Publication, Source, Status
from crosslight.standards.xds.rules.errors import RegistryRefusal, refusal
from node.holdings import StoredObject
from node.marks import Marks
from node.publish.model import PublisherIdentity
from node.publish.soap_road import AssociationState, DocumentState, StatusChange

IDENTITY = PublisherIdentity(
    source=Source(
        code="RTK",
        name="Ashford",
        repository_unique_id=Oid("1.2.7.1"),
        retrieve_location_uid=Oid("1.2.7.2"),
        authority=Oid("1.2.99"),
    ),
    secret=b"s" * 32,
)


class VirtualClock:
    """Time that moves only when everybody waits: :meth:`advance` wakes sleepers in order."""

    def __init__(self) -> None:
        self._now = 0.0
        self._start = datetime(2025, 7, 1, 12, tzinfo=UTC)
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._count = 0

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._now)

    def monotonic_s(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._count += 1
        heapq.heappush(self._sleepers, (self._now + max(0.0, seconds), self._count, future))
        await future

    async def advance(self, seconds: float, settle: Callable[[], object] | None = None) -> None:
        """Move on, letting all tasks run at each wake-up."""
        end = self._now + seconds
        while True:
            await quiet()
            while self._sleepers and self._sleepers[0][2].done():
                heapq.heappop(self._sleepers)
            if not self._sleepers or self._sleepers[0][0] > end:
                break
            when, _, future = heapq.heappop(self._sleepers)
            self._now = max(self._now, when)
            if not future.done():
                future.set_result(None)
        self._now = end
        await quiet()


async def quiet(rounds: int = 12) -> None:
    """Let database threads and tasks come to rest."""
    for _ in range(rounds):
        await asyncio.sleep(0.001)


class SeededIds:
    """Reproducible randomness."""

    def __init__(self, seed: int = 0) -> None:
        self._random = Random(seed)

    def uuid4(self) -> uuid.UUID:
        return uuid.UUID(int=self._random.getrandbits(128), version=4)

    def token_bytes(self, n: int) -> bytes:
        return self._random.randbytes(n)

    def draw(self) -> float:
        """Jitter, as ``Seams.draw``."""
        return self._random.random()

    def key63(self) -> int:
        return self._random.getrandbits(62) + 1

    def private_key(self) -> ec.EllipticCurvePrivateKey:
        return ec.derive_private_key(self._random.getrandbits(255) + 1, ec.SECP256R1())


MARK_TABLE = (
    "CREATE TABLE IF NOT EXISTS mark (study_uid TEXT PRIMARY KEY, change INTEGER NOT NULL, serial INTEGER NOT"
    " NULL DEFAULT 0, first_change_unix REAL NOT NULL, last_change_unix REAL NOT NULL)"
)


class MemoryArchive:
    """An archive without files: studies as values, change marks in the shared database."""

    def __init__(self, db: SqliteDb, clock: VirtualClock) -> None:
        self._db, self._clock = db, clock
        self.studies: dict[str, tuple[StudyRecord, int]] = {}
        self._listeners: list[Callable[[str], None]] = []

    async def open(self) -> None:
        await self._db.write("mark_table", lambda tx: tx.execute(MARK_TABLE))

    def on_change(self, callback: Callable[[str], None]) -> None:
        self._listeners.append(callback)

    async def catch_up(self) -> None:
        """Nothing is behind: a study is told of when it is put."""

    async def put(self, record: StudyRecord, count: int = 1, *, tell: bool = True) -> None:
        """Receive objects: the study is now this. ``tell`` False: another process received them."""
        self.studies[record.study_uid] = (record, count)
        await self._changed(record.study_uid, tell=tell)

    async def delete(self, study_uid: str) -> None:
        self.studies.pop(study_uid, None)
        await self._changed(study_uid)

    async def _changed(self, study_uid: str, *, tell: bool = True) -> None:
        now = self._clock.now().timestamp()

        await self._db.write("mark", lambda tx: Marks().touch_tx(tx, study_uid, now))
        for listener in self._listeners if tell else ():
            listener(study_uid)

    async def record(self, study_uid: str) -> StudyRecord | None:
        found = self.studies.get(study_uid)
        return found[0] if found else None

    async def concerned(self, study_uids: Sequence[str]) -> set[Identifier]:
        patients = [self.studies[uid][0].patient for uid in study_uids if uid in self.studies]
        return {i for patient in patients for i in (patient.local, *patient.others)}

    async def refused(self, limit: int) -> tuple[set[Identifier], bool]:
        return set(), False

    async def objects(self, study_uid: str) -> list[StoredObject]:
        found = self.studies.get(study_uid)
        if found is None:
            return []
        return [StoredObject(ref=ref, size=None) for ref in make_instances(study_uid, found[1])]


@dataclass
class Entry:
    """A DocumentEntry as the model registry holds it."""

    study_uid: str
    patient: Identifier
    status: Status
    sha1: str
    unique_id: str
    submission: str
    replaced: str = ""


@dataclass
class StrictRegistry:
    """XDS as the standard says, over values: refuses replays, unresolved and deprecated targets, unknown
    patients.

    ``lose`` decides for each message: '' delivers it, 'request' loses it, 'answer' loses its answer, and
    'late' has the sender wait in vain while the message arrives after the next ones.
    """

    lose: Callable[[str], str] = lambda _transaction: ""
    patients: dict[Identifier, Patient] = field(default_factory=dict)
    entries: dict[str, Entry] = field(default_factory=dict)
    submissions: dict[str, str] = field(default_factory=dict)  # uniqueId -> entryUUID
    links: dict[str, AssociationState] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    late: list[Callable[[], None]] = field(default_factory=list)

    def _meet(self, transaction: str, act: Callable[[], None] = lambda: None) -> None:
        fate = self.lose(transaction)
        if fate in ("request", "late"):
            if fate == "late":
                self.late.append(act)
            raise Unavailable("lost", where="answer")
        if len(self.late) > 1 or (self.late and len(self.log) % 3 == 0):
            self.arrive_late()
        self.log.append(transaction)
        try:
            act()
        finally:
            if fate == "answer":
                raise Unavailable("lost", where="answer")

    def arrive_late(self) -> None:
        """Act on what was under way; nobody hears the answers."""
        late, self.late = self.late, []
        for act in late:
            with suppress(RegistryRefusal):
                act()

    async def feed(self, patient: Patient, *, first: bool) -> None:
        self._meet("iti8", lambda: self.patients.__setitem__(patient.local, patient))

    async def register(self, publication: Publication, patient: Identifier) -> None:
        self._meet("iti42", lambda: self._register(publication, patient))

    def _register(self, publication: Publication, patient: Identifier) -> None:
        if patient not in self.patients:
            raise refusal("XDSUnknownPatientId", patient.value)
        if publication.submission_uid in self.submissions:
            raise refusal("XDSDuplicateUniqueIdInRegistry", publication.submission_uid)
        if publication.entry_uuid in self.entries:
            raise refusal("XDSRegistryMetadataError", "entryUUID is used")
        for entry in self.entries.values():
            if (
                entry.unique_id == publication.manifest.document_uid
                and entry.sha1 != publication.manifest.sha1
            ):
                raise refusal("XDSNonIdenticalHash", entry.unique_id)
        target = publication.replaces_entry_uuid
        if target:
            old = self.entries.get(target)
            if old is None:
                raise refusal("UnresolvedReferenceException", target)
            if old.status != "Approved":
                raise refusal("XDSRegistryDeprecatedDocumentError", target)
            if old.patient != patient:
                raise refusal("XDSPatientIdDoesNotMatch", target)
            old.status = "Deprecated"
            self.links[publication.replaces_uuid] = AssociationState(
                publication.replaces_uuid, publication.entry_uuid, target
            )
        self.entries[publication.entry_uuid] = Entry(
            publication.record.study_uid,
            patient,
            "Approved",
            publication.manifest.sha1,
            publication.manifest.document_uid,
            publication.submission_uuid,
        )
        self.submissions[publication.submission_uid] = publication.submission_uuid
        member = publication.has_member_uuid
        self.links[member] = AssociationState(member, publication.submission_uuid, publication.entry_uuid)

    async def change_status(self, change: StatusChange, patient: Identifier) -> None:
        self._meet("iti57", lambda: self._change_status(change, patient))

    def _change_status(self, change: StatusChange, patient: Identifier) -> None:
        if change.submission_uid in self.submissions:
            raise refusal("XDSDuplicateUniqueIdInRegistry", change.submission_uid)
        entry = self.entries.get(change.entry_uuid)
        if entry is None:
            raise refusal("UnresolvedReferenceException", change.entry_uuid)
        if entry.status != change.original or entry.patient != patient:
            raise refusal("XDSMetadataVersionError", change.entry_uuid)
        entry.status = change.new
        self.submissions[change.submission_uid] = change.submission_uuid
        self.links[change.association_uuid] = AssociationState(
            change.association_uuid, change.submission_uuid, change.entry_uuid
        )

    async def remove(self, ids: Sequence[str]) -> None:
        self._meet("iti62", lambda: self._remove(ids))

    def _remove(self, ids: Sequence[str]) -> None:
        gone, sets = set(ids), set(self.submissions.values())
        known = set(self.entries) | sets | set(self.links)
        if not gone <= known:
            raise refusal("UnresolvedReferenceException", str(gone - known))
        for link in self.links.values():
            if link.id not in gone and (link.source in gone or link.target in gone):
                raise refusal("ReferencesExistException", link.id)
        self.entries = {k: e for k, e in self.entries.items() if k not in gone}
        self.submissions = {k: s for k, s in self.submissions.items() if s not in gone}
        self.links = {k: link for k, link in self.links.items() if k not in gone}

    async def documents(self, entry_uuids: Sequence[str]) -> dict[str, DocumentState]:
        self._meet("iti18")
        return {
            u: DocumentState(self.entries[u].status, self.entries[u].sha1)
            for u in entry_uuids
            if u in self.entries
        }

    async def associations(self, uuids: Sequence[str]) -> list[AssociationState]:
        self._meet("iti18")
        asked = set(uuids)
        return [link for link in self.links.values() if link.source in asked or link.target in asked]

    def approved(self, study_uid: str) -> list[Entry]:
        """The Approved entries of a study: one, or none."""
        return [e for e in self.entries.values() if e.study_uid == study_uid and e.status == "Approved"]
