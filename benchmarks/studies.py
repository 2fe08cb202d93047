"""Made-up studies for the registry: patients with twenty studies, who are searched for, and others with
fewer.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from crosslight.pb import feed_pb2 as pb
from crosslight.runtime.packed_study import packed_study
from crosslight.runtime.wire import manifest_to_pb, patient_to_pb, version_to_pb
from crosslight.standards.ids import DerivedId, Identifier, Kind, Oid, Version, study_tag
from crosslight.standards.study import ManifestFacts, Patient, StudyRecord
from crosslight.standards.xds.model.publication import Publication
from registry.members.model import Member
from tests import registry_samples as samples

WHOLE = 20  # studies of a patient that is searched for
BATCH = 500
NAMES = (
    "Smith",
    "Jones",
    "Taylor",
    "Brown",
    "Williams",
    "Patel",
    "Khan",
    "Okafor",
    "Nowak",
    "Begum",
    "O'Connor",
    "Müller",
)


@dataclass(frozen=True, slots=True)
class Batch:
    """One PublishRequest of the feed, serialised."""

    code: str
    data: bytes
    count: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where a study goes."""

    member: int  # place among the members
    person: int
    seed: int


def patient(home: Member, person: int) -> Patient:
    """Person number ``person`` as ``home`` knows them."""
    r = random.Random(person)
    described = samples.patient(
        home,
        f"{home.code[-1]}{person:07d}",
        number=samples.nhs(person * 7),
        family=r.choice(NAMES),
        given=r.choice(NAMES),
        born=f"{r.randrange(1930, 2015)}{r.randrange(1, 13):02d}{r.randrange(1, 29):02d}",
    )
    return replace(described, sex=r.choice("FM"))


def plan(studies: int, members: int) -> tuple[list[Place], int]:
    """Every study's place in the order of arrival, and how many persons have :data:`WHOLE` studies.

    Those come first.
    """
    r, whole = random.Random(5), max(20, studies * 2 // 5 // WHOLE)
    places = [Place(n % members, person, person * WHOLE + n) for person in range(whole) for n in range(WHOLE)]
    r.shuffle(places)
    person, rest = whole, list[Place]()
    while len(places) + len(rest) < studies:
        at = r.sample(range(members), r.choice((1, 1, 2)))
        seed, count = len(places) + len(rest), min(r.randint(1, 9), studies - len(places) - len(rest))
        rest += [Place(r.choice(at), person, seed + n) for n in range(count)]
        person += 1
    r.shuffle(rest)
    return places + rest, whole


def record(place: Place, home: Member) -> StudyRecord:
    """The study of a place."""
    return samples.study(patient(home, place.person), place.seed)


def facts(home: Member, study_uid: str, version: Version) -> ManifestFacts:
    """Of a manifest that nobody will fetch, named as our nodes name theirs (D9)."""
    r = random.Random(version.n)
    return ManifestFacts(
        document_uid=DerivedId(Kind.DOCUMENT, version, study_tag(home.secret, study_uid)).uid(),
        sha1=r.randbytes(20).hex(),
        size_bytes=r.randrange(3000, 60000),
        creation_time="20260101120000",
    )


def batches(places: Sequence[Place], members: Sequence[Member], first: int) -> Iterator[Batch]:
    """PublishRequests of up to :data:`BATCH` acts of one member each, versions from ``first``."""
    waiting: dict[int, list[pb.Act]] = {i: [] for i in range(len(members))}
    for n, place in enumerate(places, first):
        home = members[place.member]
        study, version = record(place, home), Version(home.epoch, n)
        act = pb.Act(version=version_to_pb(version), study_uid=study.study_uid)
        act.publish.study.patient.CopyFrom(patient_to_pb(study.patient))
        act.publish.packed = packed_study(study)
        manifest = facts(home, study.study_uid, version)
        act.publish.manifest.CopyFrom(manifest_to_pb(manifest))
        act.publish.submission_time, act.publish.digest = (
            "20260101120000",
            hashlib.sha256(study.study_uid.encode()).hexdigest(),
        )
        queue = waiting[place.member]
        queue.append(act)
        if len(queue) == BATCH:
            yield Batch(home.code, pb.PublishRequest(acts=queue).SerializeToString(), BATCH)
            queue.clear()
    for i, queue in waiting.items():
        if queue:
            yield Batch(members[i].code, pb.PublishRequest(acts=queue).SerializeToString(), len(queue))


def submission(home: Member, person: int, n: int) -> tuple[Publication, Identifier]:
    """A study of a person who is known already, as ITI-42 brings it, and the patient's number."""
    study = samples.study(patient(home, person), 10_000_000 + n)
    publication = samples.published(home, study, n, epoch=home.epoch)
    return publication, Identifier(samples.nhs(person * 7), Oid(samples.NHS))


__all__ = ["BATCH", "WHOLE", "Batch", "batches", "plan", "submission"]
