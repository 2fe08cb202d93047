"""A region for the page's tests: five trusts, a patient imaged at three, and pictures."""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import barcode
from aiohttp import web
from PIL import Image, ImageDraw
from said_by import SaidBy

from crosslight.runtime.peers import PeerCertificate
from crosslight.standards.access import Principal
from crosslight.standards.ids import NHS_NUMBER_OID, Identifier, MemberId, Oid, Version
from crosslight.standards.records import changed
from crosslight.standards.region import Region
from crosslight.standards.study import (
    ManifestFacts,
    Patient,
    PersonName,
    SeriesRecord,
    StudyRecord,
    StudyTime,
)
from crosslight.standards.xds.model.publication import Publication, Source
from registry.ask.coverage import Coverage, MemberCoverage
from registry.identity.model import DisputedNotice, PatientRecord, Person, PersonKey, RecordKey
from registry.index.model import Holding
from registry.members.model import Member, Presence

NOW = datetime(2026, 11, 22, 3, 12, 40, tzinfo=UTC)
REGION = Region(
    name="Surrey and Sussex",
    home_community_id=Oid("1.2.3"),
    authority=Oid("1.2.3.9"),
    national_authority=NHS_NUMBER_OID,
    national_label="NHS No.",
    allow_test_numbers=True,
)
TRUSTS = {
    "RA2": "Royal Surrey NHS Foundation Trust",
    "RPC": "Queen Victoria Hospital NHS Foundation Trust",
    "RTK": "Ashford and St Peter’s Hospitals NHS Foundation Trust",
    "RXC": "East Sussex Healthcare NHS Trust",
    "RYR": "University Hospitals Sussex NHS Foundation Trust",
}
NUMBER = Identifier("9990000018", NHS_NUMBER_OID)
CLINICIAN = Principal(
    subject="ada",
    name="Dr Ada Person",
    roles=frozenset({"clinician"}),
    organisation="RA2",
    evidence="session",
)


class Directory:
    """The five trusts."""

    def __init__(self) -> None:
        self.members = tuple(
            Member(
                id=MemberId(n),
                code=code,
                name=name,
                repository_unique_id=Oid(f"1.3.{n}"),
                retrieve_location_uid=Oid(f"1.4.{n}"),
                authority=Oid(f"1.5.{n}"),
                status="active",
                secret=b"x" * 32,
            )
            for n, (code, name) in enumerate(TRUSTS.items(), 1)
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
        return next((m for m in self.members if m.repository_unique_id == oid), None)

    def by_retrieve_location(self, oid: str) -> Member | None:
        return next((m for m in self.members if m.retrieve_location_uid == oid), None)

    def by_authority(self, oid: str) -> Member | None:
        return next((m for m in self.members if m.owns(oid)), None)

    def presence(self, member: MemberId) -> Presence:
        return Presence(member=member, reachable=True)

    def check_peer(self, peer: PeerCertificate) -> None:
        SaidBy(self, "1.2.3").check(peer)


DIRECTORY = Directory()


def well(member: Member) -> MemberCoverage:
    """Everything current."""
    return MemberCoverage(
        member=member.id,
        code=member.code,
        name=member.name,
        list_state="live",
        reachable=True,
        as_of=NOW - timedelta(seconds=20),
        census_equal=True,
        census_at=NOW,
    )


def away(part: MemberCoverage) -> MemberCoverage:
    """Not reachable for two hours."""
    return replace(
        part,
        reachable=False,
        since=NOW - timedelta(hours=2),
        list_state="behind",
        as_of=NOW - timedelta(hours=2),
    )


def coverage(**changed: Any) -> Coverage:
    """All well, but for the members in ``changed`` (code -> function of its part)."""
    parts = (well(m) for m in DIRECTORY.all())
    return Coverage(members=tuple(changed[p.code](p) if p.code in changed else p for p in parts), at=NOW)


def record(
    key: int, code: str, *, pn: str = "SMITH^Ada^^Mrs", birth: str = "19550214", **more: Any
) -> PatientRecord:
    """A patient's record at a trust."""
    member = DIRECTORY.by_code(code)
    assert member is not None
    local = Identifier(f"{code}-{key:05d}", member.authority)
    patient = Patient(local=local, others=(NUMBER,), name=PersonName(pn), birth_date=birth, sex="F")
    return PatientRecord(
        key=RecordKey(key), patient=patient, member=member.id, person=PersonKey(1), national=(NUMBER,), **more
    )


def person(*records: PatientRecord, differs: bool = False) -> Person:
    """A person of these records."""
    return Person(
        key=PersonKey(1),
        fhir_id="5d1f1c9e-0000-4000-8000-000000000001",
        domain_id=NUMBER,
        records=records,
        differs=differs,
    )


def holding(
    code: str,
    n: int,
    description: str,
    *,
    modality: str = "CT",
    day: str = "20260312",
    time: str = "101530",
    images: int = 40,
    series: int = 2,
    body: str = "CHEST",
    progress: str = "complete",
    conflict: bool = False,
    detail: str = "full",
    key: int = 1,
) -> Holding:
    """A study at a trust."""
    member = DIRECTORY.by_code(code)
    assert member is not None
    made = StudyRecord(
        study_uid=f"1.2.826.0.1.{n}",
        patient=record(key, code).patient,
        description=description,
        time=StudyTime(date=day, time=time, zone="Europe/London", zone_source="site"),
        modalities=(modality,),
        body_sites=(body,) if body else (),
        progress=cast(Any, progress),
        n_series=series,
        n_instances=images * series,
    )
    lines = [
        SeriesRecord(
            series_uid=f"1.2.826.0.1.{n}.{i}",
            modality=modality,
            number=str(i),
            n_instances=images,
            description=("Axial soft tissue", "Axial lung", "Coronal")[(i - 1) % 3],
            digest=hashlib.sha256(f"{n} {i} {images}".encode()).hexdigest(),
        )
        for i in range(1, series + 1)
    ]
    if detail == "full":
        made = made.with_series(lines, detail="full")
    publication = Publication(
        source=Source(
            code=member.code,
            name=member.name,
            repository_unique_id=member.repository_unique_id,
            retrieve_location_uid=member.retrieve_location_uid,
            authority=member.authority,
        ),
        record=changed(made, detail=cast(Any, detail)),
        manifest=ManifestFacts(
            document_uid="2.25.1", sha1="0" * 40, size_bytes=10, creation_time="20260101000000"
        ),
        version=Version(1, n),
        entry_uuid="urn:uuid:1",
        submission_uuid="urn:uuid:2",
        submission_uid="2.25.2",
        submission_time="20260101000000",
        has_member_uuid="urn:uuid:3",
    )
    return Holding(
        member=member.id,
        record_key=RecordKey(key),
        publication=publication,
        state="approved",
        digest="d",
        revision=1,
        fhir_id=f"h{n}{code}",
        updated=NOW,
        conflict=conflict,
    )


def notice(code: str) -> DisputedNotice:
    """A disputed record at a trust."""
    member = DIRECTORY.by_code(code)
    assert member is not None
    return DisputedNotice(member=member.id, member_code=code, member_name=member.name)


STUDIES = (
    holding("RTK", 1, "CT thorax with contrast", images=96, series=3, day="20261121", time="221500"),
    holding("RYR", 2, "Chest X-ray PA", modality="DX", images=1, series=1, day="20260802", time="0931"),
    holding("RA2", 2, "Chest X-ray PA", modality="DX", images=1, series=1, day="20260802", time="0931"),
    holding(
        "RXC", 3, "MRI head with gadolinium", modality="MR", images=30, series=2, day="20251119", body="HEAD"
    ),
    holding(
        "RYR",
        4,
        "US abdomen",
        modality="US",
        images=12,
        series=1,
        day="20250807",
        body="ABDOMEN",
        progress="arriving",
    ),
    holding(
        "RA2",
        5,
        "Mammogram both breasts",
        modality="MG",
        images=2,
        series=2,
        day="20240130",
        body="BREAST",
        conflict=True,
    ),
    holding(
        "RYR",
        5,
        "Mammogram both breasts",
        modality="MG",
        images=4,
        series=1,
        day="20240130",
        body="BREAST",
        conflict=True,
    ),
    holding("RPC", 6, "", modality="OT", day="", time="", detail="entry", body=""),
)


WINDOWS = ("", "40,400,linear", "-600,1500,linear", "400,1800,linear")


def picture(uid: str, side: int = 512, window: str = "") -> bytes:
    """A grey picture that looks a little like a slice, and says in its pixels which it is."""
    parts = [int(part) for part in uid.removeprefix("1.2.826.0.1.").split(".")]
    study, series, number = (*parts, 0, 0)[:3]
    pixels = barcode.blank(side)
    barcode.stamp(pixels, series, number, WINDOWS.index(window))
    image = Image.fromarray(pixels)
    draw = ImageDraw.Draw(image)
    shade = 60 + (7 * study + 31 * series + 11 * number) % 120
    draw.ellipse((side * 0.1, side * 0.18, side * 0.9, side * 0.82), fill=shade)
    draw.ellipse((side * 0.2, side * 0.3, side * 0.45, side * 0.7), fill=20)
    draw.ellipse((side * 0.55, side * 0.3, side * 0.8, side * 0.7), fill=20)
    draw.ellipse((side * 0.46, side * 0.62, side * 0.54, side * 0.72), fill=235)
    draw.text((side * 0.45, side * 0.09), uid.rsplit(".", 1)[-1], fill=200)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=80)
    return out.getvalue()


def refusal(status: int, what: str, where: str = "", holder: str = "", kind: str = "") -> web.Response:
    """An answer as the region's DICOMweb root gives it where it has no picture."""
    body = {"type": "about:blank", "title": what, "status": status, "where": where, "kind": kind}
    headers = {"Crosslight-Holder": holder} if holder else {}
    return web.json_response(body, status=status, headers=headers, content_type="application/problem+json")


@dataclass
class Pictures:
    """As much of the region's DICOMweb root as the page uses; ``refuse`` is answered instead where it is
    set, and what ``held`` names waits for ``released``."""

    images: int = 40
    side: int = 512
    refuse: Callable[[str], web.Response | None] = lambda path: None
    held: Callable[[str], bool] = lambda path: False
    released: asyncio.Event = field(default_factory=asyncio.Event)
    asked: list[str] = field(default_factory=list)
    sent: list[str] = field(default_factory=list)  # pictures, in full

    async def instances(self, request: web.Request) -> web.Response:
        """The rows of a series, the last first: the first of some series has three frames."""
        self.asked.append(request.path)
        if (no := self.refuse(request.path)) is not None:
            return no
        series = request.match_info["series"]
        rows = [
            {
                "00080018": {"vr": "UI", "Value": [f"{series}.{i}"]},
                "00200013": {"vr": "IS", "Value": [i]},
                "00280008": {"vr": "IS", "Value": [3 if i == 1 and series.endswith(".2") else 1]},
                "00280010": {"vr": "US", "Value": [self.side]},
                "00280011": {"vr": "US", "Value": [self.side]},
            }
            for i in range(self.images, int(request.query.get("offset", "0")), -1)
        ]
        return (
            web.json_response(rows, content_type="application/dicom+json")
            if rows
            else web.Response(status=204)
        )

    async def rendered(self, request: web.Request) -> web.Response:
        """A picture, or a thumbnail."""
        self.asked.append(request.path_qs)
        if (no := self.refuse(request.path)) is not None:
            return no
        if self.held(request.path):
            await self.released.wait()
        at = request.match_info
        uid = at.get("instance") or at.get("series") or at["study"]
        side = int(request.query.get("viewport", f"{self.side},").split(",")[0])
        body = picture(uid, side, request.query.get("window", ""))
        etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
        headers = {"Cache-Control": "private, no-cache", "ETag": etag}
        if request.headers.get("If-None-Match") == etag:
            return web.Response(status=304, headers=headers)
        self.sent.append(request.path_qs)
        return web.Response(body=body, content_type="image/jpeg", headers=headers)

    def routes(self) -> list[web.RouteDef]:
        """For both roots."""
        return [
            web.get(root + "/studies/{study}" + path, handler)
            for root in ("/dicomweb", "/dicomweb/members/{code}")
            for path, handler in (
                ("/thumbnail", self.rendered),
                ("/series/{series}/thumbnail", self.rendered),
                ("/series/{series}/instances", self.instances),
                ("/series/{series}/instances/{instance}/frames/{frame}/rendered", self.rendered),
            )
        ]
