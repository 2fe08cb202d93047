"""Studies, members and a directory for tests of the registry: seedable, believable in size and text, no
images.
"""

from __future__ import annotations

import hashlib
import random

from said_by import SaidBy

from crosslight.runtime.peers import PeerCertificate
from crosslight.standards.access import Grants
from crosslight.standards.ids import DerivedId, Identifier, Kind, MemberId, Oid, Version, study_tag
from crosslight.standards.records import changed
from crosslight.standards.region import Region
from crosslight.standards.study import (
    Coded,
    ManifestFacts,
    Patient,
    PersonName,
    SeriesRecord,
    StudyRecord,
    StudyTime,
)
from crosslight.standards.xds.model.publication import Publication
from registry.members.model import Member, MemberStatus, Presence

NHS = "2.16.840.1.113883.2.1.4.1"
CODES = ("RA2", "RPC", "RTK", "RXC", "RYR")
REGION = Region(
    name="Test region",
    home_community_id=Oid("1.2.826.0.1.3680043.10.9999.1"),
    authority=Oid("1.2.826.0.1.3680043.10.9999.2"),
    national_authority=Oid(NHS),
    national_system="https://fhir.nhs.uk/Id/nhs-number",
    national_label="NHS No.",
    allow_test_numbers=True,
)

#: modality -> (share, SOP class suffix, descriptions, body site, (fewest, most) series, (fewest, most)
#: instances)
_MIX: dict[str, tuple[int, str, tuple[str, ...], str, tuple[int, int], tuple[int, int]]] = {
    "DX": (46, "1.1", ("XR Chest PA", "XR Knee both", "XR Pelvis", "XR Hand left"), "CHEST", (1, 3), (1, 2)),
    "CT": (
        18,
        "2",
        ("CT Head", "CT Thorax abdomen pelvis with contrast", "CT Pulmonary angiogram"),
        "CHEST",
        (3, 10),
        (20, 600),
    ),
    "US": (16, "6.1", ("US Abdomen", "US Doppler leg veins left"), "ABDOMEN", (1, 2), (4, 60)),
    "MR": (9, "4", ("MRI Brain", "MRI Lumbar spine"), "BRAIN", (6, 14), (15, 120)),
    "MG": (4, "1.2", ("MG Mammogram bilateral",), "BREAST", (2, 4), (1, 1)),
    "XA": (3, "12.1", ("XA Coronary angiogram",), "HEART", (4, 12), (1, 3)),
    "NM": (2, "20", ("NM Bone scan",), "", (1, 3), (1, 4)),
}


def member(code: str, number: int, status: MemberStatus = "active", epoch: int = 1) -> Member:
    """A member of the test region."""
    return Member(
        id=MemberId(number),
        code=code,
        name=f"{code} Hospitals NHS Foundation Trust",
        repository_unique_id=Oid(f"1.2.826.0.1.3680043.10.9999.3.{number}.1"),
        retrieve_location_uid=Oid(f"1.2.826.0.1.3680043.10.9999.3.{number}.2"),
        authority=Oid(f"1.2.826.0.1.3680043.10.9999.3.{number}.3"),
        status=status,
        secret=hashlib.sha256(code.encode()).digest(),
        epoch=epoch,
    )


class MemoryDirectory:
    """A Directory whose members and presence a test sets."""

    def __init__(self, codes: tuple[str, ...] = CODES) -> None:
        self.members = {MemberId(i): member(code, i) for i, code in enumerate(codes, 1)}
        self.presences: dict[MemberId, Presence] = {}
        self.systems: dict[str, Grants] = {}

    def set(self, changed: Member) -> Member:
        """Add or replace a member."""
        self.members[changed.id] = changed
        return changed

    @property
    def revision(self) -> tuple[Member, ...]:
        return tuple(self.members.values())

    def all(self) -> tuple[Member, ...]:
        found = [m for m in self.members.values() if m.status in ("active", "suspended")]
        return tuple(sorted(found, key=lambda m: m.code))

    def foreign(self) -> tuple[Member, ...]:
        return tuple(m for m in self.members.values() if m.status == "foreign")

    def by_id(self, member: MemberId) -> Member | None:
        return self.members.get(member)

    def by_code(self, code: str) -> Member | None:
        return next((m for m in self.members.values() if m.code == code), None)

    def by_repository(self, oid: str) -> Member | None:
        return next((m for m in self.members.values() if m.repository_unique_id == oid), None)

    def by_retrieve_location(self, oid: str) -> Member | None:
        return next((m for m in self.members.values() if m.retrieve_location_uid == oid), None)

    def by_authority(self, oid: str) -> Member | None:
        return next((m for m in self.members.values() if m.owns(oid)), None)

    def presence(self, member: MemberId) -> Presence:
        return self.presences.get(member, Presence(member=member, reachable=False))

    def check_peer(self, peer: PeerCertificate) -> None:
        SaidBy(self, REGION.home_community_id).check(peer)

    def system_grants(self, name: str) -> Grants:
        return self.systems.get(name, Grants())


def nhs(seed: int) -> str:
    """A valid NHS number of the test range."""
    base = 900_000_000 + seed
    while True:
        digits = f"{base}"
        check = 11 - sum(int(d) * w for d, w in zip(digits, range(10, 1, -1), strict=True)) % 11
        if check != 10:
            return digits + str(check % 11)
        base += 1_000_003


def patient(
    home: Member,
    local: str = "H1",
    *,
    number: str = "",
    family: str = "Baker",
    given: str = "Ann",
    born: str = "19610203",
    sex: str = "F",
    traced: bool = False,
) -> Patient:
    """A patient as ``home`` describes them."""
    return Patient(
        local=Identifier(local, home.authority),
        others=(Identifier(number, NHS),) if number else (),
        name=PersonName(f"{family}^{given}"),
        birth_date=born,
        sex=sex,
        postcode="GU2 7XX",
        traced=traced,
    )


def _uid(r: random.Random) -> str:
    arcs = (
        r.randrange(100, 999),
        r.randrange(10**9, 10**10),
        r.randrange(10**8, 10**9),
        r.randrange(10**14, 10**15),
    )
    return "1.2.840.113619.2." + ".".join(str(arc) for arc in arcs)


def study(who: Patient, seed: int, *, modality: str = "", instances: int | None = None) -> StudyRecord:
    """A study of the mix of scale.md 1: texts, counts, times, digests."""
    r = random.Random(seed)
    modality = modality or r.choices(list(_MIX), [row[0] for row in _MIX.values()])[0]
    _share, sop, texts, site, (few, many), (least, most) = _MIX[modality]
    study_uid = _uid(r)
    date = f"{r.randrange(2015, 2026)}{r.randrange(1, 13):02d}{r.randrange(1, 29):02d}"
    hour, minute = r.randrange(24), r.randrange(60)
    series = []
    for number in range(1, r.randint(few, many) + 1):
        n = instances if instances is not None else r.randint(least, most)
        series.append(
            SeriesRecord(
                series_uid=f"{study_uid.rsplit('.', 1)[0]}.{r.randrange(10**14, 10**15)}",
                modality=modality,
                number=str(number),
                description=r.choice(
                    ("AX T2", "COR T1", "Lung 1.0", "Soft tissue 5.0", "PA", "Lateral", "Portal venous", "")
                ),
                body_site=site,
                n_instances=n,
                sop_classes=((f"1.2.840.10008.5.1.4.1.1.{sop}", n),),
                time=StudyTime(
                    date=date,
                    time=f"{hour:02d}{minute:02d}{r.randrange(60):02d}",
                    zone="Europe/London",
                    zone_source="site",
                ),
                digest=r.randbytes(32).hex(),
            )
        )
    return StudyRecord(
        study_uid=study_uid,
        patient=who,
        accessions=(Identifier(f"RA{r.randrange(10**7, 10**8)}", who.local.authority),),
        study_id=str(r.randrange(10**5)),
        description=r.choice(texts),
        procedure_codes=(Coded(f"{modality}{r.randrange(50)}", "99LOCAL", r.choice(texts)),),
        referrer=f"{r.choice(('Smith', 'Okafor', 'Patel', 'Jones'))}^{r.choice(('J', 'A', 'Priya'))}",
        institution="Royal Surrey NHS Foundation Trust",
        time=StudyTime(date=date, time=f"{hour:02d}{minute:02d}00", zone="Europe/London", zone_source="site"),
    ).with_series(series, detail="full")


def published(
    home: Member,
    record: StudyRecord,
    n: int,
    *,
    replaces: int | None = None,
    epoch: int = 1,
    at: str = "20260101120000",
) -> Publication:
    """Version ``n`` of ``record`` as our node publishes it."""
    version = Version(epoch, n)
    document = DerivedId(Kind.DOCUMENT, version, study_tag(home.secret, record.study_uid)).uid()
    return Publication.derived(
        source=home.source,
        secret=home.secret,
        version=version,
        record=record,
        manifest=ManifestFacts(
            document_uid=document,
            sha1=hashlib.sha1(f"{record.study_uid} {version}".encode()).hexdigest(),
            size_bytes=4000 + n,
            creation_time=at,
        ),
        submission_time=at,
        replaces=Version(epoch, replaces) if replaces is not None else None,
    )


def grown(record: StudyRecord, seed: int) -> StudyRecord:
    """``record`` after more instances came in."""
    r = random.Random(seed)
    first = record.series[0]
    more = first.n_instances + 1
    fuller = changed(
        first, n_instances=more, sop_classes=((first.sop_classes[0][0], more),), digest=r.randbytes(32).hex()
    )
    return record.with_series((fuller, *record.series[1:]), detail=record.detail)
