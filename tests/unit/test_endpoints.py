"""Where a member's faces are: one definition, the same at node, registry, in the directory and on the
wire."""

from __future__ import annotations

from dataclasses import fields

import pytest

from crosslight.pb import membership_pb2 as pb
from crosslight.standards.directory import DirectoryDocument, DirectoryMember
from crosslight.standards.membership import Endpoints
from crosslight.standards.problem import Malformed
from crosslight.standards.region import Region

ALL = Endpoints(
    base="https://n.example:8443",
    systems="https://n.example:8444",
    dicomweb="https://n.example:8444/dicomweb",
    rad69="https://n.example:8444/xds/ids",
    xds_repository="https://n.example:8444/xds/repository",
    aet="RTK",
    dimse="n.example:11112",
)
REGION = Region(
    name="North", home_community_id="1.2", authority="1.3", national_authority="1.4", zone="Europe/London"
)  # type: ignore[arg-type]


def test_the_message_of_the_link_has_the_same_fields_in_the_same_order() -> None:
    assert [f.name for f in fields(Endpoints)] == list(pb.Endpoints.DESCRIPTOR.fields_by_name)


def test_what_a_node_says_over_the_link_is_what_the_registry_hears() -> None:
    wire = pb.Endpoints(**ALL.plain()).SerializeToString()
    heard = pb.Endpoints.FromString(wire)
    assert Endpoints.claimed({f.name: getattr(heard, f.name) for f in fields(Endpoints)}) == ALL


def test_what_release_0_2_0_stored_and_signed_is_read() -> None:
    row = {
        "aet": "RTK",
        "base": "https://n.example",
        "dicomweb": "",
        "dimse": "",
        "rad69": "",
        "systems": "",
        "xds_repository": "",
    }
    assert Endpoints.from_plain(row) == Endpoints(base="https://n.example", aet="RTK")
    member = {
        "code": "RTK",
        "name": "A",
        "repository_unique_id": "1.1",
        "retrieve_location_uid": "1.2",
        "authority": "1.3",
        "status": "active",
        "endpoints": {"base": "https://n.example"},
        "authorities": (),
        "asked": (),
    }
    written = DirectoryMember(
        code="RTK",
        name="A",
        repository_unique_id="1.1",
        retrieve_location_uid="1.2",
        authority="1.3",
        status="active",
        endpoints=Endpoints(base="https://n.example"),
    )
    assert written.plain() == member
    document = DirectoryDocument(
        version=1, community="1.2", issued=1, expires=2, members=(written,), jwks={}, region=REGION
    )
    assert DirectoryDocument.from_claims(document.claims()) == document


def test_what_a_later_release_knows_besides_is_left_out() -> None:
    assert Endpoints.from_plain({"aet": "RTK", "tunnel": "yes"}) == Endpoints(aet="RTK")


def test_what_is_no_object_is_refused() -> None:
    with pytest.raises(Malformed):
        Endpoints.from_plain(["https://n.example"])


@pytest.mark.parametrize(
    ("name", "text", "kept"),
    [
        ("base", "https://n.example/", "https://n.example"),
        ("base", "ftp://n.example", ""),
        ("systems", "https://n.example/\n", ""),
        ("dicomweb", "https://" + "n" * 600, ""),
        ("rad69", "https://ñ.example", ""),
        ("aet", "RTK", "RTK"),
        ("aet", "R" * 65, ""),
        ("dimse", "n.example:11112\0", ""),
    ],
)
def test_a_nodes_own_word_is_bounded(name: str, text: str, kept: str) -> None:
    assert getattr(Endpoints.claimed({name: text}), name) == kept
