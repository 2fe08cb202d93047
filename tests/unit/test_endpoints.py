"""Where a member's faces are: one definition, the same at node, registry, in the directory and on the
wire."""

from __future__ import annotations

from dataclasses import fields

import pytest

from crosslight.pb import membership_pb2 as pb
from crosslight.standards.directory import DirectoryDocument, DirectoryMember
from crosslight.standards.hosts import plain_host
from crosslight.standards.membership import Endpoints
from crosslight.standards.problem import Invalid, Malformed
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
    said = {f.name: getattr(heard, f.name) for f in fields(Endpoints)}
    assert Endpoints.plain_claimed(said).endpoints == ALL


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
def test_an_open_nodes_own_word_is_bounded(name: str, text: str, kept: str) -> None:
    assert getattr(Endpoints.plain_claimed({name: text}).endpoints, name) == kept


HOSTS = (
    "n.example",
    "10.1.2.3",
    "2001:db8::5",
    "localhost",
    "127.0.0.1",
    "169.254.169.254",
    "xn--bcher-kva.example",
)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("https://n.example:8444", "https://n.example:8444"),
        ("https://N.Example.:8444/", "https://n.example:8444"),
        ("https://n.example", "https://n.example"),
        ("https://10.1.2.3:1", "https://10.1.2.3:1"),
        ("https://[2001:DB8:0::5]:8444", "https://[2001:db8::5]:8444"),
        ("https://bücher.example", "https://xn--bcher-kva.example"),
        ("http://n.example:8444", ""),
        ("HTTPS://n.example", ""),
        ("https://other.example:8444", ""),
        ("https://n.example:8444/any/path", ""),
        ("https://n.example:8444/?x=", ""),
        ("https://n.example:8444?", ""),
        ("https://n.example:8444#", ""),
        ("https://user@n.example:8444", ""),
        ("https://user:pw@n.example", ""),
        ("https://n.example\\@10.1.2.3", ""),
        ("https://n.example:0", ""),
        ("https://n.example:65536", ""),
        ("https://n.example:", ""),
        ("https://n.example\n", ""),
        ("https://n.example:８", ""),
        ("https://localhost:8444", ""),
        ("https://LOCALHOST.", ""),
        ("https://127.0.0.1:8444", ""),
        ("https://127.1:8444", ""),
        ("https://0x7f000001", ""),
        ("https://[::1]", ""),
        ("https://[::ffff:127.0.0.1]", ""),
        ("https://169.254.169.254", ""),
        ("https://" + "n" * 600, ""),
    ],
)
def test_a_members_address_is_an_origin_of_its_certificate(text: str, kept: str) -> None:
    """No plain http, no path or query of its choice, no host but its own, never the registry's machine."""
    claimed = Endpoints.claimed(
        {"base": text, "systems": text, "rad69": "https://elsewhere"}, HOSTS, loopback=False
    )
    said = claimed.endpoints
    assert (said.base, said.systems) == (kept, kept)
    assert said.rad69 == (f"{kept}/rad69" if kept else ""), "the paths are ours"
    assert said.dicomweb == said.xds_repository == "", "what it does not have"
    assert len(claimed.refused) == (0 if kept else 2)
    assert all(text not in reason for reason in claimed.refused), "nothing of its words is logged"


def test_this_machine_only_where_it_is_configured() -> None:
    for text in ("https://localhost:8444", "https://127.0.0.1:8444"):
        assert Endpoints.claimed({"systems": text}, HOSTS, loopback=True).endpoints.systems == text
    nowhere = Endpoints.claimed({"systems": "https://169.254.169.254"}, HOSTS, loopback=True)
    assert nowhere.endpoints.systems == "", "link-local addresses are never a member's"


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("n.example:11112", "n.example:11112"),
        ("[2001:db8::5]:104", "[2001:db8::5]:104"),
        ("other.example:11112", ""),
        ("n.example", ""),
        ("n.example:11112/x", ""),
        ("n.example:11112\0", ""),
        ("localhost:11112", ""),
        ("u@n.example:1", ""),
    ],
)
def test_a_members_dicom_address_is_of_its_certificate(text: str, kept: str) -> None:
    assert Endpoints.claimed({"dimse": text}, HOSTS, loopback=False).endpoints.dimse == kept


@pytest.mark.parametrize(
    "text", ["", ".", "*.example", "a b.example", "n..example", "-n.example", "n.example/x", "1.2.3"]
)
def test_what_is_no_host(text: str) -> None:
    with pytest.raises(Invalid):
        plain_host(text)
