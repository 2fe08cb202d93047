"""To whom a node belongs: joined or independent, asked alike."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from crosslight.runtime.clock import SystemClock, SystemIds
from crosslight.runtime.files import SystemFiles
from crosslight.runtime.seams import system_seams
from crosslight.standards.ids import Oid
from crosslight.standards.membership import Endpoints, JoinReply, MembershipFacts, RegistryAddresses
from crosslight.standards.problem import ConfigError
from crosslight.standards.region import Region
from node.archive.config import ArchiveConfig
from node.membership.config import ForeignRegistryConfig, RegionConfig
from node.membership.membership import Membership, is_member, membership_of
from node.membership.state import REGION, write_membership
from node.printing import membership_rows
from registry.keys import TokenKeys

OWN, ALLOTTED, ASKED, NATIONAL = (
    Oid("1.2.3.1"),
    Oid("1.2.3.2"),
    Oid("1.2.3.3"),
    Oid("2.16.840.1.113883.2.1.4.1"),
)
FOREIGN = ForeignRegistryConfig(
    registry_url="http://registry.example/xds",
    mllp="registry.example:2575",
    patient_authority="1.2.9.1",
    repository_unique_id="1.2.9.2",
    retrieve_location_uid="1.2.9.3",
    member_authority="1.2.9.4",
    organisation_code="RXX",
    organisation_name="Elsewhere",
)
MEMBER = MembershipFacts(
    id=1,
    code="RTK",
    name="A trust",
    repository_unique_id=Oid("1.1"),
    retrieve_location_uid=Oid("1.2"),
    authority=ALLOTTED,
    secret=b"s",
    epoch=1,
    authorities=(OWN, NATIONAL),
    asked=(ASKED,),
)
HOME = Region(
    name="North",
    home_community_id=Oid("1.2.3"),
    authority=Oid("1.2.3.9"),
    national_authority=NATIONAL,
    zone="Europe/London",
)


def _joined(
    folder: Path, member: MembershipFacts = MEMBER, archive: ArchiveConfig | None = None
) -> Membership:
    keys = TokenKeys(folder / "keys.json", SystemFiles(), SystemIds())
    keys.open()
    registry = RegistryAddresses(people="http://r:1", systems="http://r:2", grpc="r:3", mllp="r:4")
    reply = JoinReply(
        chain_pem="", bundle_pem="", member=member, region=HOME, jwks=keys.jwks(), registry=registry
    )
    write_membership(folder / REGION, reply, b"", SystemFiles())
    return membership_of(
        folder, SystemFiles(), None, archive or ArchiveConfig(), RegionConfig(), open_mode=True
    )


def _independent(folder: Path, archive: ArchiveConfig | None = None) -> Membership:
    return membership_of(
        folder, SystemFiles(), FOREIGN, archive or ArchiveConfig(), RegionConfig(), open_mode=True
    )


def test_a_node_that_has_not_joined_belongs_to_nobody(tmp_path: Path) -> None:
    assert not is_member(tmp_path, None)
    assert is_member(tmp_path, FOREIGN), "it need not"
    with pytest.raises(ConfigError, match="has not joined"):
        membership_of(tmp_path, SystemFiles(), None, ArchiveConfig(), RegionConfig(), open_mode=True)
    assert (
        dict(membership_rows(None, serving=True))["Member"]
        == "has not joined a region: crosslight-node join INVITATION"
    )


def test_a_joined_node_says_where_it_belongs(tmp_path: Path) -> None:
    joined = _joined(tmp_path)
    assert is_member(tmp_path, None)
    assert (joined.code, joined.member, joined.region, joined.suspended) == ("RTK", MEMBER, HOME, False)
    rows = dict(membership_rows(joined, serving=True))
    assert (rows["Member"], rows["Region"], rows["Link"]) == (
        "RTK A trust",
        "North, r:3",
        "never linked, trying",
    )
    assert rows["Patient authorities"] == f"{OWN}, {NATIONAL}, {ALLOTTED}; {ASKED} (not agreed yet)"
    assert joined.registry_target().xds_registry == "http://r:2/xds/registry"


def test_an_independent_node_says_to_whom_it_publishes(tmp_path: Path) -> None:
    independent = _independent(
        tmp_path, ArchiveConfig(national_authorities=(NATIONAL,), site_zone="Europe/Dublin")
    )
    assert (independent.code, independent.suspended, independent.member.secret) == ("RXX", False, b"")
    assert (independent.region.nationals, independent.region.zone) == ((NATIONAL,), "Europe/Dublin")
    rows = dict(membership_rows(independent, serving=True))
    assert (rows["Member"], rows["Registry"]) == (
        "RXX Elsewhere",
        f"{FOREIGN.registry_url} (XDS; nothing is joined)",
    )
    assert independent.registry_target().xds_registry == FOREIGN.registry_url


@pytest.mark.parametrize(
    ("authority", "said"),
    [
        (OWN, ""),
        (ALLOTTED, ""),
        (ASKED, f"waits for the region's operator: crosslight-registry authority RTK {ASKED} --agree"),
        (
            "1.9",
            (
                "is not agreed with the region. Its operator does so with: crosslight-registry authority RTK"
                " 1.9 --agree"
            ),
        ),
    ],
)
def test_what_is_not_agreed_is_not_published_under(tmp_path: Path, authority: str, said: str) -> None:
    why = _joined(tmp_path).not_agreed(authority)
    assert why.endswith(said)
    assert bool(why) == bool(said)
    assert _independent(tmp_path).not_agreed(authority) == "", "there is nobody to agree with"


def test_records_are_made_by_the_configuration_and_what_is_left_empty_by_the_region(tmp_path: Path) -> None:
    joined = _joined(tmp_path)
    rules = ArchiveConfig().rules(joined.member, joined.region)
    assert (rules.authority, rules.authorities, rules.namespace) == (
        OWN,
        (ALLOTTED,),
        "RTK",
    ), "a national one is nobody's own"
    assert (rules.nationals, rules.site_zone, rules.allow_test_numbers) == (
        (NATIONAL,),
        "Europe/London",
        False,
    )
    mine = ArchiveConfig(patient_authority=ASKED, patient_namespace="PAS", site_zone="Europe/Dublin")
    rules = mine.rules(joined.member, joined.region)
    assert (rules.authority, rules.authorities, rules.namespace) == (ASKED, (OWN, ALLOTTED), "PAS")
    assert rules.site_zone == "Europe/Dublin"
    alone = replace(MEMBER, authorities=(), asked=())
    assert ArchiveConfig().rules(alone, HOME).authority == ALLOTTED
    assert ArchiveConfig().rules().authority == ""


async def test_the_roads_of_a_joined_node_are_three_and_of_an_independent_one_two(tmp_path: Path) -> None:
    seams = system_seams()
    joined = _joined(tmp_path / "a").connection(Endpoints(), seams, "test").roads
    assert (joined.url(), joined.mllp, joined.tls()) == ("http://r:2/xds/registry", "r:4", None)
    assert joined.feed is not None
    assert joined.feed.metadata == (("crosslight-member", "RTK"),), "on a plain link a node names itself"
    other = _independent(tmp_path / "b").connection(Endpoints(), seams, "test")
    assert (other.roads.url(), other.roads.mllp, other.roads.feed) == (
        FOREIGN.registry_url,
        FOREIGN.mllp,
        None,
    )
    assert (other.linked, other.status.connected, list(other.gauges())) == (None, False, [])
    await seams.workers.close()


def test_each_has_its_gate_and_says_where_credentials_come_from(tmp_path: Path) -> None:
    joined, independent = (
        _joined(tmp_path / "a").gate(SystemClock()),
        _independent(tmp_path / "b").gate(SystemClock()),
    )
    assert "exchanged there for one for this node" in joined.advice("people")
    assert "client certificates" in joined.advice("systems")
    assert "Nobody issues access tokens" in independent.advice("people") == independent.advice("systems")
