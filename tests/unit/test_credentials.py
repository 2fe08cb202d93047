"""One name for each caller, whatever certificate or device it comes by."""

from __future__ import annotations

import pytest

from crosslight.runtime.credentials import device, outside_system, plain_subject, principal_of, uri_of
from crosslight.runtime.tls import Identity

MEMBER, SYSTEM, GATEWAY = (
    Identity("member", "RTK", "1.2.3"),
    Identity("system", "PAS", "1.2.3"),
    Identity("gateway", "", "1.2.3"),
)


@pytest.mark.parametrize(
    ("identity", "subject", "role", "organisation"),
    [
        (MEMBER, "member:RTK", "member", "RTK"),
        (SYSTEM, "system:PAS", "integrator", ""),
        (GATEWAY, "gateway", "gateway", ""),
    ],
)
def test_a_certificate_has_one_name_and_one_role(
    identity: Identity, subject: str, role: str, organisation: str
) -> None:
    principal = principal_of(identity)
    assert (principal.subject, principal.roles, principal.organisation) == (
        subject,
        frozenset({role}),
        organisation,
    )
    assert principal.evidence == "certificate"
    assert principal_of(identity, name="The trust").name == "The trust"


@pytest.mark.parametrize("identity", [MEMBER, SYSTEM, GATEWAY])
def test_what_older_releases_wrote_is_the_same_caller(identity: Identity) -> None:
    named = principal_of(identity).subject
    assert plain_subject(identity.uri) == plain_subject(named) == named
    before, after = uri_of(named)
    assert identity.uri.startswith(before)
    assert identity.uri.endswith(after)


@pytest.mark.parametrize(
    "subject", ["person:ann", "aet:CT1", "system:CN=pacs,O=X", "member:", "spiffe://x", "", "open"]
)
def test_others_never_had_another_name(subject: str) -> None:
    assert plain_subject(subject) == subject
    assert uri_of(subject) == ("", "")


def test_devices_and_systems_of_elsewhere_are_named_by_what_they_showed() -> None:
    assert device("CT1", "RTK").subject == "aet:CT1"
    assert outside_system("CN=pacs,O=X", "pacs").subject == "system:CN=pacs,O=X"
