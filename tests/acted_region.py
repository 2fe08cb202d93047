"""A region that acts come to, one after the other, of every kind and by a seed; and how all of its faces are
asked.
"""

from __future__ import annotations

import functools
import gc
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import aiohttp
from aiohttp import web
from registry_room import Room
from registry_samples import NHS, REGION, grown, member, nhs, patient, published, study
from room_faces import room_faces
from soap_calls import call_of
from text_traps import TRAPS

from crosslight.standards.access import OPEN, Principal
from crosslight.standards.ids import Identifier, Version
from crosslight.standards.membership import Endpoints
from crosslight.standards.problem import CrosslightError, Forbidden
from crosslight.standards.records import changed
from crosslight.standards.study import Patient, PersonName, StudyRecord
from crosslight.standards.xds.model import vocabulary as v
from crosslight.standards.xds.model.publication import Status
from crosslight.standards.xds.model.xml import parse_untrusted_xml
from crosslight.standards.xds.rules import stored_query
from crosslight.standards.xds.wire import adhoc
from registry.ihe.iti18 import RegistryStoredQuery
from registry.intake.submission import Act, SetAvailability, Withdraw

CODES = ("RA2", "RPC", "RTK")
NUMBERS = (nhs(1), nhs(2))
LOCALS = ("RA20", "RA2X")  # local numbers at a member; RA2X claims somebody's national one
SYSTEM = "https://fhir.nhs.uk/Id/nhs-number"
CORRELATION = "0123456789abcdef0123456789abcdef"
SOURCE = "FGN"
#: By what a caller is known: Authorization of a request.
CALLERS = {
    "open": OPEN,
    "clinician": Principal(subject="a@RA2", roles=frozenset({"clinician"}), organisation="RA2"),
    "other": Principal(subject="b@RPC", roles=frozenset({"clinician"}), organisation="RPC"),
    "identity": Principal(subject="c@RTK", roles=frozenset({"clinician", "identity"}), organisation="RTK"),
}
_KEEPER = type(functools.lru_cache(id))
#: What is of this answer alone: sealed places of pages, and addresses that are sealed for one caller.
_SEALED = re.compile(
    rb"_page=[A-Za-z0-9_.%=-]+|/patients/[A-Za-z0-9_-]{40,}|name=\"(csrf|k)\" value=\"[^\"]*\""
)


def forget() -> None:
    """Empty what functions of ours keep of their last answers."""
    for kept in gc.get_objects():
        if type(kept) is _KEEPER and kept.__module__.startswith(("crosslight.", "registry.")):
            kept.cache_clear()


def differing(one: bytes, other: bytes) -> str:
    """Where two answers begin to differ; '' where they are the same."""
    if one == other:
        return ""
    at = next(
        (n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )
    around = slice(max(0, at - 60), at + 60)
    return f"{one[around]!r} is not {other[around]!r}"


def asking(request: web.Request) -> Principal:
    """Who a request says that it is of."""
    return CALLERS[request.headers.get("Authorization", "open")]


@dataclass
class ActedRegion:
    """A room with a source of others beside its members, and what it holds.

    Args:
        room: An empty one.
        seed: What acts come, and their texts.
    """

    room: Room
    seed: int
    held: dict[tuple[str, str], StudyRecord] = field(default_factory=dict)  # (member, study)
    n: int = 0

    def __post_init__(self) -> None:
        self.r = random.Random(self.seed)
        self.room.live(*CODES)
        self.room.directory.set(replace(member(SOURCE, 9), status="foreign", secret=b""))

    def words(self) -> str:
        """A text with traps in it."""
        return "".join(
            self.r.choice((*TRAPS, "CT", " ", "Kopf")) for _ in range(self.r.randint(0, 4))
        ).strip()

    def who(self, code: str, person: int, **more: Any) -> Patient:
        """A person as a member describes them; each has a number."""
        described = patient(self.room.member(code), f"{code}{person}", number=NUMBERS[person], **more)
        return replace(described, name=PersonName(f"Baker{person}^Änn^^Dr"))

    async def accept(self, code: str, act: Act) -> None:
        """An act of a member over the feed; of one that is suspended nothing is taken."""
        self.room.clock.moment += timedelta(seconds=1)
        with suppress(Forbidden):
            await self.room.acceptor.accept(self.room.grpc(code, act))

    async def publish(self, code: str, record: StudyRecord) -> None:
        self.n += 1
        self.held[code, record.study_uid] = record
        await self.accept(code, self.room.published(code, record, self.n))

    # --- acts -----------------------------------------------------------------------------------------------

    async def new(self) -> None:
        """A study more of somebody."""
        code = self.r.choice(CODES)
        record = study(self.who(code, self.r.randrange(2)), self.r.randrange(1 << 30))
        texts: dict[str, Any] = {
            "description": self.words(),
            "institution": self.words(),
            "referrer": self.words().replace("=", "").replace("^", ""),
            "orders": (Identifier(self.words() or "O1", namespace=self.words()),),
        }
        await self.publish(code, changed(record, **texts) if self.r.random() < 0.6 else record)

    def _any(self) -> tuple[str, StudyRecord] | None:
        if not self.held:
            return None
        (code, _), record = self.r.choice(list(self.held.items()))
        return code, record

    async def more(self) -> None:
        """A study grows."""
        if (found := self._any()) is not None and found[1].series:
            await self.publish(found[0], grown(found[1], self.n))

    async def corrected(self) -> None:
        """A study's header says another birth date: another person's, perhaps."""
        if (found := self._any()) is not None:
            who = replace(found[1].patient, birth_date=self.r.choice(("19620304", "19610203", "")))
            await self.publish(found[0], changed(found[1], patient=who))

    async def copied(self) -> None:
        """Another member has the study too, as it is or otherwise."""
        if (found := self._any()) is not None:
            code = self.r.choice([c for c in CODES if c != found[0]])
            record = changed(found[1], patient=self.who(code, self.r.randrange(2)))
            await self.publish(code, grown(record, 1) if record.series and self.r.random() < 0.5 else record)

    async def claimed(self) -> None:
        """A record with somebody's number and other demographics."""
        code = self.r.choice(CODES)
        who = patient(
            self.room.member(code), f"{code}X", number=self.r.choice(NUMBERS), family="Zed", born="19200101"
        )
        await self.publish(code, study(who, self.r.randrange(1 << 30)))

    async def withdrawn(self) -> None:
        if (found := self._any()) is not None:
            self.n += 1
            uid = found[1].study_uid
            await self.accept(found[0], Withdraw(study_uid=uid, version=Version(1, self.n)))
            del self.held[found[0], uid]

    async def deprecated(self) -> None:
        """A study is withdrawn for a while, or stands again."""
        if (found := self._any()) is not None:
            self.n += 1
            status: Status = self.r.choice(("Deprecated", "Approved"))
            uid, version = found[1].study_uid, Version(1, self.n)
            await self.accept(found[0], SetAvailability(study_uid=uid, status=status, version=version))

    async def merged(self) -> None:
        """A40 of two local numbers."""
        authority = self.room.member("RA2").authority
        gone, kept = (Identifier(value, authority) for value in LOCALS)
        with suppress(CrosslightError):  # one of them is not there, or went before
            await self.room.identity.merge(kept, gone, self.room.clock.now())

    async def decided(self) -> None:
        """An officer decides of a record that waits, or ends what was decided."""
        now = self.room.clock.now()
        waiting, made = await self.room.identity.waiting(), await self.room.identity.decisions()
        with suppress(CrosslightError):  # a merge, or nothing left to decide
            if waiting:
                await self.room.identity.decide(waiting[0].key, None, now, who="ig@x", why="seen")
            elif made:
                await self.room.identity.end_decision(made[0].id, now, who="ig@x", why="not so")

    async def suspended(self) -> None:
        """A member is suspended, or no longer."""
        one = self.room.member(self.r.choice(CODES))
        status = "active" if one.status == "suspended" else "suspended"
        self.room.directory.set(replace(one, status=status))

    async def renamed(self) -> None:
        """A member is called otherwise, and is had elsewhere."""
        one = self.room.member(self.r.choice(CODES))
        self.n += 1
        endpoints = Endpoints(base=f"https://{one.code.lower()}{self.n}.example", aet=one.code)
        self.room.directory.set(replace(one, name=f"{one.code} <{self.n}>", endpoints=endpoints))

    async def silent(self) -> None:
        """A member is not reached, or is again; time goes on."""
        code = self.r.choice(CODES)
        one = self.room.member(code).id
        presence = self.room.directory.presences[one]
        self.room.directory.presences[one] = replace(presence, reachable=not presence.reachable)

    async def outside(self) -> None:
        """A source of others claims a study: one of its own, or a member's."""
        found = self._any()
        record = (
            found[1] if found is not None and self.r.random() < 0.5 else study(self.who("RA2", 0), self.n)
        )
        record = changed(record, patient=self.who(SOURCE, 0))
        self.n += 1
        said = published(self.room.member(SOURCE), record, self.n)
        entry = {"comments": [{"value": "<more>"}]} if self.r.random() < 0.5 else {}
        said = changed(said, version=None, extras={"entry": entry} if entry else {})
        await self.room.feed(SOURCE, record.patient)
        await self.room.register(SOURCE, said)

    @property
    def acts(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """Every kind of act, by its name."""
        names = (
            *("new", "more", "corrected", "copied", "claimed", "withdrawn", "deprecated", "merged"),
            *("decided", "suspended", "renamed", "silent", "outside"),
        )
        return {name: getattr(self, name) for name in names}

    async def filled(self, acts: int) -> None:
        """So many acts, of every kind at the least once."""
        for _ in range(6):
            await self.new()
        order = [name for name in self.acts for _ in range(max(1, acts // len(self.acts)))]
        self.r.shuffle(order)
        for name in order:
            await self.acts[name]()


@dataclass
class Asking:
    """The faces of a region, asked in every way that matters here."""

    room: Room
    base: str
    http: aiohttp.ClientSession

    async def get(self, path: str, caller: str) -> bytes:
        headers = {"Authorization": caller, "X-Correlation-Id": CORRELATION}
        url = aiohttp.client.URL(f"{self.base}/{path}", encoded=True)
        async with self.http.get(url, headers=headers) as response:
            body = await response.read()
            kept = ("ETag", "Warning", "Crosslight-Coverage", "Last-Modified", "Content-Type")
            said = [f"{name}: {value}" for name in kept for value in response.headers.getall(name, ())]
            return b"\n".join((str(response.status).encode(), *(s.encode() for s in said), body))

    async def xds(self, query: adhoc.AdhocQuery, caller: str) -> bytes:
        iti18 = RegistryStoredQuery(self.room.ask, REGION)
        body = parse_untrusted_xml(adhoc.render_adhoc_request(query))
        return await iti18.answer(call_of(body, CALLERS[caller]))

    async def page(self, number: str, caller: str) -> bytes:
        headers = {"Authorization": caller, "X-Correlation-Id": CORRELATION}
        url = f"{self.base}/search"
        async with self.http.post(url, data={"number": number}, headers=headers) as response:
            return await response.read()

    async def everything(self, caller: str) -> dict[str, bytes]:
        """What every face says to a caller of everybody, by what was asked."""
        said: dict[str, bytes] = {}
        for number in NUMBERS:
            who = f"patient.identifier={quote(SYSTEM, safe='')}%7C{number}"
            for more in FHIR:
                said[f"fhir {number} {more}"] = await self.get(f"fhir/ImagingStudy?{who}{more}", caller)
            for level, more in QIDO:
                path = f"dicomweb/{level}?PatientID={number}{more}"
                said[f"qido {number} {level}{more}"] = await self.get(path, caller)
            cx = Identifier(number, NHS).cx()
            said[f"xds {number}"] = await self.xds(stored_query.find_documents(cx), caller)
            said[f"xds all {number}"] = await self.xds(_get_all(cx), caller)
        said["portal"] = await self.page(NUMBERS[0], caller)
        for local in LOCALS:
            said[f"fhir {local}"] = await self.get(f"fhir/ImagingStudy?patient.identifier={local}", caller)
        return {name: _SEALED.sub(b"", body) for name, body in said.items()}


def _get_all(cx: str) -> adhoc.AdhocQuery:
    statuses = stored_query.quoted_list((v.APPROVED, v.DEPRECATED))
    kinds = ("$XDSDocumentEntryStatus", "$XDSSubmissionSetStatus", "$XDSFolderStatus")
    named = ("$patientId", (stored_query.quoted(cx),))
    return adhoc.AdhocQuery(
        query_id=stored_query.GET_ALL,
        return_type="LeafClass",
        parameters=(named, *((kind, statuses) for kind in kinds)),
    )


#: Searches of FHIR and of QIDO-RS for somebody.
FHIR = (
    "",
    "&_count=2",
    "&_sort=_lastUpdated&_include=ImagingStudy:patient&_include=ImagingStudy:endpoint",
    "&modality=CT,MR,DX",
    "&_elements=series",
    "&_summary=count",
    "&_pretty=true",
)
QIDO = (
    ("studies", "&includefield=all"),
    ("studies", "&limit=2&ModalitiesInStudy=CT"),
    ("series", "&includefield=all"),
)


@asynccontextmanager
async def asked(room: Room) -> AsyncIterator[Asking]:
    """The faces over a room, for asking."""
    async with room_faces(room, asking) as there, aiohttp.ClientSession() as http:
        yield Asking(room, there.base, http)
