"""Sign-in's values: session limits, return paths, claim mapping, PKCE; and that every key of the sections is
documented.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest

from crosslight.runtime.config import from_dict, keys
from crosslight.runtime.credentials import OPERATOR
from crosslight.standards.access import (
    ANY,
    CAPABILITIES,
    DECIDING,
    INTEGRATOR,
    MEMBERSHIP,
    NEEDS,
    OPEN,
    TABLE,
    Action,
    Capability,
    Face,
    Grants,
    Principal,
    decide,
)
from crosslight.standards.problem import ConfigError, Unauthenticated
from node.membership.config import RegionConfig
from registry.access.config import AccessConfig, OidcConfig
from registry.access.oidc import challenge, claim, person
from registry.access.sessions import session_end
from registry.access.signin import local_path
from registry.access.store import StoredSession
from registry.members.config import MembersConfig

NOW = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)


def test_who_runs_the_region_sees_no_patient() -> None:
    for role in ("operator", "ig", "porter"):
        assert TABLE[role].keys() <= {"admin"}, role


ACTIONS, FACES = frozenset(get_args(Action)), frozenset(get_args(Face))
#: Allowed by other rules than the table: a provider's word, an invitation, being at the node's machine, its
#: configuration.
ELSEWHERE = {
    "sign-in",
    "sign-out",
    "join",
    "ask-authority",
    "withdraw",
    "exchange-token",
    "authenticate",
    "undelete",
    "import",
    "retry",
    "reread",
    "backup",
    "restore",
    "expire",
    "announce",
    "verify",
    "commit",
    "hold",
    "lift-hold",
}


def test_the_table_speaks_of_every_face_and_action_and_of_no_other() -> None:
    assert {
        action for row in TABLE.values() for actions in row.values() for action in actions
    } == ACTIONS - ELSEWHERE
    assert {face for row in TABLE.values() for face in row} == FACES - {
        "join",
        "token",
    }, "invitations, and tokens for tokens"


def test_only_those_who_were_granted_it_ask_for_whoever_there_is() -> None:
    """A clinician does not; nor does an app, unless it was granted that; and no grant opens a face."""
    able = {(role, face) for role in TABLE for face, actions in TABLE[role].items() if "export" in actions}
    assert able == {("exporter", "fhir"), ("exporter", "dicomweb")}
    granted = Grants(capabilities=frozenset({"export"}))
    app = Principal(subject="app", roles=frozenset({"integrator"}))
    assert not decide(app, "fhir", "export").permit
    assert decide(replace(app, grants=granted), "fhir", "export").permit
    assert not decide(replace(app, grants=granted), "portal", "export").permit
    assert not decide(
        Principal(subject="p", roles=frozenset({"porter"}), grants=granted), "fhir", "export"
    ).permit


@pytest.mark.parametrize(
    ("face", "action", "needed"), [(f, a, c) for f, row in NEEDS.items() for a, c in row.items()]
)
def test_an_outside_system_may_do_what_it_was_granted_and_nothing_else(
    face: Face, action: Action, needed: Capability
) -> None:
    """Whatever else it was granted; and the refusal names the grant and the command."""
    scope = {"authorities": frozenset({ANY}), "repositories": frozenset({ANY}), "store_at": ANY}
    implied = {needed} | ({"export"} if needed == "find" else set())
    system = Principal(subject="system:pacs", roles=frozenset({INTEGRATOR}))
    for granted in CAPABILITIES:
        grants = Grants(capabilities=frozenset({granted}), **scope)  # type: ignore[arg-type]  # as its fields are
        assert decide(replace(system, grants=grants), face, action).permit == (granted in implied), granted
    denied = decide(system, face, action)
    assert not denied.permit
    assert f"{needed!r} was not granted: crosslight-registry system pacs --" in denied.rule
    assert not decide(Principal(subject="p", roles=frozenset({"porter"}), grants=grants), face, action).permit


def test_a_members_own_node_retrieves_nothing() -> None:
    node = Principal(subject="member:RTK", roles=frozenset({"member"}), organisation="RTK", member=1)
    may = {(face, action) for face in FACES for action in ACTIONS if decide(node, face, action).permit}  # type: ignore[arg-type]  # of the literals themselves
    assert {action for _, action in may} == {"search", "publish", "delete", "feed", "list-for-order"}
    assert [face for face, action in may if action == "list-for-order"] == ["fhir"]
    assert {face for face, action in may if action == "search"} == {"xds"}


def test_whose_data_is_a_part_of_a_grant() -> None:
    granted = Grants(
        capabilities=frozenset({"feed", "publish", "store"}),
        authorities=frozenset({"1.2"}),
        repositories=frozenset({"1.3"}),
        store_at="RTK",
    )
    assert granted.feeds("1.2")
    assert granted.publishes("1.3")
    assert granted.stores_at("RTK")
    assert not (granted.feeds("1.3"))
    assert not (granted.publishes("1.2"))
    assert not (granted.stores_at("RXC"))
    scope_alone = replace(granted, capabilities=frozenset())
    assert not (scope_alone.feeds("1.2"))
    assert not (scope_alone.publishes("1.3"))
    assert not (scope_alone.stores_at("RTK"))
    assert Grants().plus(granted).plus(Grants(store_at="RXC")) == replace(granted, store_at="RXC")
    assert Grants.from_plain(granted.plain()) == granted


@pytest.mark.parametrize("action", sorted(DECIDING | MEMBERSHIP))
def test_nobody_without_a_name_decides_of_records_or_members(action: Action) -> None:
    assert not decide(OPEN, "admin", action).permit
    assert not decide(OPEN, "portal", action).permit
    assert not decide(
        Principal(subject="x", roles=frozenset({"clinician", "integrator", "member"})), "portal", action
    ).permit
    assert decide(OPERATOR, "admin", action).permit


@pytest.mark.parametrize(
    ("age_m", "unused_m", "expected"),
    [
        (1, 0, True),
        (600, 29.9, True),
        (600, 30, False),
        (29, 30, False),
        (719.9, 0, True),
        (720, 0, False),
        (9999, 9999, False),
    ],
)
def test_session_limits(age_m: float, unused_m: float, expected: bool) -> None:
    created = NOW - timedelta(minutes=age_m)
    stored = StoredSession(
        principal={},
        csrf="",
        created=created,
        seen=NOW - timedelta(minutes=unused_m),
        ends=created + timedelta(hours=12),
        checked=NOW,
    )
    idle, hour = timedelta(minutes=30), timedelta(hours=1)
    assert (session_end(stored, idle, hour) > NOW) is expected
    for checked_h, holds in ((1.9, expected), (2, False)):
        stored = replace(stored, checked=NOW - timedelta(hours=checked_h))
        assert (session_end(stored, idle, hour) > NOW) is holds, "nobody vouched for its roles for so long"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/", "/"),
        ("/patient", "/patient"),
        ("", "/"),
        ("//evil.example", "/"),
        ("https://evil.example", "/"),
        ("/\\evil", "/"),
        ("/x?nhs=9990000018", "/"),
        ("/x#y", "/"),
        ("/" + "a" * 600, "/"),
        ("/a\r\nSet-Cookie: x", "/"),
        ("/é", "/"),
        ("javascript:x", "/"),
        ("/a//evil.example", "/"),
        ("/.//evil.example", "/"),
        ("/a/../b", "/"),
        ("/%2f%2fevil", "/"),
        ("/patients/aB-_9/studies/1.2.3?series=1.2.3.4", "/patients/aB-_9/studies/1.2.3?series=1.2.3.4"),
        ("/patients/a/studies/1.2?copy=RTK&series=1.2", "/patients/a/studies/1.2?copy=RTK&series=1.2"),
        ("/patients/a?series=1.2&name=SMITH", "/"),
        ("/patients/a?series=//evil.example", "/"),
        ("/a?series=", "/"),
    ],
)
def test_return_paths_stay_here_and_carry_nothing(text: str, expected: str) -> None:
    assert local_path(text) == expected


def test_claims_by_path() -> None:
    claims = {
        "roles": ["a", "b"],
        "n": {"r": [{"role": "x", "orgs": ["1", "2"]}, {"role": "y"}]},
        "one": "z",
        "number": 5,
        "o": {},
    }
    assert claim(claims, "roles") == ["a", "b"]
    assert claim(claims, "n.r.role") == ["x", "y"]
    assert claim(claims, "n.r.orgs") == ["1", "2"]
    assert claim(claims, "one") == ["z"]
    assert claim(claims, "number") == ["5"]
    for missing in ("no", "one.two", "n.r.no", "o"):
        assert claim(claims, missing) == []


def test_people_get_only_roles_for_people() -> None:
    config = OidcConfig()
    assert person({"sub": "1", "roles": ["clinician", "ig", "boss"]}, config).roles == {"clinician", "ig"}
    for forged in ("member", "gateway", "open"):
        assert person({"sub": "1", "roles": [forged]}, config).roles == {"porter"}
    assert TABLE["porter"] == {}
    mapped = OidcConfig(role_map={"R1": "clinician", "R2": "gateway"})
    assert person({"sub": "1", "roles": ["R1", "R2", "ig"]}, mapped).roles == {"clinician"}
    with pytest.raises(Unauthenticated):
        person({"roles": ["clinician"]}, config)


def test_pkce_vector() -> None:
    """RFC 7636 appendix B."""
    assert (
        challenge("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")
        == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
    )


@pytest.mark.parametrize("section", [MembersConfig, AccessConfig, RegionConfig])
def test_every_key_has_help(section: type) -> None:
    assert all(len(key.help) > 15 for key in keys(section))


def test_sections_read_and_refuse() -> None:
    data = {
        "session_idle_minutes": 15,
        "oidc": {"issuer": "https://idp.example", "role_map": {"x": "clinician"}},
        "demo": {"enabled": True, "accounts": [{"user": "a", "password": "b", "roles": ["ig"]}]},
    }
    config = from_dict(AccessConfig, data, "t")
    assert config.demo.accounts[0].roles == ("ig",)
    assert config.oidc.role_map == {"x": "clinician"}
    with pytest.raises(ConfigError, match=r"oidc\.isuer"):
        from_dict(AccessConfig, {"oidc": {"isuer": ""}}, "t")
    assert MembersConfig().silence_s == 6.0
