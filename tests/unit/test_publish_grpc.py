"""What an act looks like on the feed, and what each answer to it means."""

from __future__ import annotations

from dataclasses import replace

import pytest
from publish_records import make_patient, make_record
from registry_samples import member

from crosslight.pb import feed_pb2 as pb
from crosslight.standards.ids import Identifier, Version
from crosslight.standards.problem import ConfigError
from crosslight.standards.records import changed
from crosslight.standards.study import ManifestFacts
from node.membership.config import ForeignRegistryConfig
from node.membership.model import in_authority
from node.publish.build import host_port
from node.publish.grpc_road import act_to_pb, result_of
from node.publish.model import Acked, Delivery, DeliveryRefused, Disagreement, Done, Job, Later, Revision
from registry.intake.submission import Publish
from registry.link.feed import act_from_pb

V1, V2 = Version(1, 1), Version(1, 2)
FACTS = ManifestFacts(document_uid="2.25.1", sha1="a" * 40, size_bytes=10, creation_time="20250701120000")
REVISION = Revision(
    version=V2, study_uid="1.2.1", manifest=FACTS, submission_time="20250701120000", digest="d" * 64,
    patient=make_patient().local, record=make_record("1.2.1"),
)  # fmt: skip
ACKED = Acked(version=V1, digest="x", sha1="y", status="Approved", patient=make_patient().local, chain=(V1,))


def job(act: Delivery, revision: Revision | None = None) -> Job:
    return Job(study_uid="1.2.1", act=act, acked=ACKED, unsettled=False, attempts=0, revision=revision)


REPLACE = job(Delivery(kind="replace", version=V2, replaces=V1), REVISION)


def test_acts_on_the_wire() -> None:
    assert act_to_pb(REPLACE).publish.manifest.sha1 == "a" * 40
    assert act_to_pb(job(Delivery(kind="approve", version=V2))).availability.approved
    deprecate = act_to_pb(job(Delivery(kind="deprecate", version=V2)))
    assert deprecate.WhichOneof("what") == "availability"
    assert not deprecate.availability.approved
    assert act_to_pb(job(Delivery(kind="withdraw", version=V2))).WhichOneof("what") == "withdraw"


@pytest.mark.parametrize("outcome", [pb.ActResult.ACCEPTED, pb.ActResult.ALREADY])
def test_accepted_is_done(outcome: pb.ActResult.Outcome) -> None:
    result = result_of(REPLACE, pb.ActResult(outcome=outcome))
    assert isinstance(result, Done)
    assert result.acked is not None
    assert (result.acked.version, result.acked.chain) == (V2, (V1, V2))


def test_other_answers() -> None:
    refused = result_of(
        REPLACE,
        pb.ActResult(outcome=pb.ActResult.REFUSED, error_code="XDSRegistryMetadataError", message="m"),
    )
    assert refused == DeliveryRefused("XDSRegistryMetadataError", "m")
    unknown = pb.ActResult(outcome=pb.ActResult.REFUSED, error_code="UnresolvedReferenceException")
    assert isinstance(result_of(REPLACE, unknown), Disagreement)
    assert isinstance(result_of(REPLACE, pb.ActResult(outcome=pb.ActResult.STALE)), Disagreement)
    assert isinstance(result_of(REPLACE, pb.ActResult(outcome=pb.ActResult.EPOCH)), Disagreement)
    later = result_of(REPLACE, pb.ActResult(outcome=pb.ActResult.RETRY))
    assert isinstance(later, Later)
    assert later.patience


def test_a_foreign_registry_knows_one_authority() -> None:
    find = in_authority("2.16.840.1.113883.2.1.4.1")
    assert find(make_patient()) == Identifier("9434765919", "2.16.840.1.113883.2.1.4.1")
    assert find(make_patient(national="")) is None


@pytest.mark.parametrize(
    "missing", ["registry_url", "mllp", "patient_authority", "repository_unique_id", "organisation_code"]
)
def test_a_foreign_registry_needs_its_keys(missing: str) -> None:
    values = {
        "registry_url": "https://x",
        "mllp": "x:2575",
        "patient_authority": "1.2",
        "repository_unique_id": "1.3",
        "retrieve_location_uid": "1.4",
        "member_authority": "1.5",
        "organisation_code": "RTK",
    }
    ForeignRegistryConfig(**values).check()
    with pytest.raises(ConfigError, match=missing):
        ForeignRegistryConfig(**{**values, missing: ""}).check()


def test_addresses() -> None:
    assert host_port("registry.example:2575", "mllp") == ("registry.example", 2575)
    assert host_port("[::1]:2575", "mllp") == ("::1", 2575)
    for wrong in ("", "host", "host:", ":1", "host:port"):
        with pytest.raises(ConfigError):
            host_port(wrong, "mllp")


def test_why_a_study_was_asked_for_stays_at_the_trust() -> None:
    """D7: no clinical indication in the index, also when a node sends one."""
    record = make_record("1.2.1")
    act = act_to_pb(
        job(
            Delivery(kind="fresh", version=V2),
            replace(REVISION, record=changed(record, reason="query malignancy")),
        )
    )
    taken = act_from_pb(act, member("RTK", 1))
    assert isinstance(taken, Publish)
    assert taken.publication.record == changed(record, reason="")
