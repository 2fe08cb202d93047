"""Whoever has a token of somebody else's opens nothing with it but what the token itself says.

Over real TLS: a registry and two members in one process, an app, an outside system, and one of the two
members as the attacker (RFC 8693, RFC 8705; findings H2 and M1).
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest
import pytest_asyncio
from attacked_region import DOCTOR, OTHERS, STUDY, AttackedRegion, attacked

from crosslight.standards.access import Principal
from registry.access.exchange import EXCHANGE_AT, GRANT_TYPE, METADATA_PATH

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # SEC 2, 2.4.2


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def at(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AttackedRegion]:
    async with attacked(tmp_path_factory.mktemp("attacked")) as one:
        yield one


pytestmark = pytest.mark.asyncio(loop_scope="module")

# --- release tokens: H2 -------------------------------------------------------------------------------------


async def test_a_release_token_opens_for_the_gateway_and_for_nobody_else(at: AttackedRegion) -> None:
    token = at.release(STUDY)
    assert await at.opens(token, "RTK", by="gateway") == 200
    for thief in ("RXC", "RTK", "system"):
        assert await at.opens(token, "RTK", by=thief) == 401, thief
    assert await at.opens(token, "RTK") == 401, "no certificate at all"
    assert await at.opens(token, "RXC", by="gateway", study=OTHERS) == 401, "at another holder"
    assert await at.opens(token, "RTK", by="gateway", study=OTHERS) == 403, "of another study"
    assert await at.opens("", "RTK", by="gateway") == 403, "the certificate alone"


async def test_a_release_token_that_is_bound_to_another_certificate_or_to_none(at: AttackedRegion) -> None:
    """Even one that the region's own key has signed."""
    signer = at.region.registry.parts.access.tokens.signer
    real = signer.presenter
    try:
        for presenter in ("", at.region.homes["RXC"].app.membership.credentials.thumbprint):
            signer.presenter = lambda presenter=presenter: presenter  # type: ignore[misc]  # a test's
            token = at.release(STUDY)
            for by in ("gateway", "RXC"):
                assert await at.opens(token, "RTK", by=by) == 401, (presenter, by)
    finally:
        signer.presenter = real


async def test_a_renewed_gateway_opens_with_its_new_certificate(at: AttackedRegion) -> None:
    """Tokens and connections change over together; what was minted for the old one ends with it."""
    registry = at.region.registry
    own = registry.members.own
    assert own.gateway is not None
    doctor, before = at.issue(DOCTOR), at.release(STUDY)
    url = f"{registry.people_url}/dicomweb/studies/{STUDY}/metadata"
    await at.region.homes["RTK"].settled()
    assert (await at.ask("GET", url, doctor))[0] == 200
    old = own.gateway.thumbprint
    (registry.folder / "tls" / "gateway.pem").unlink()
    own.renew_due()
    assert own.gateway.thumbprint != old
    assert (await at.ask("GET", url, doctor))[0] == 200
    assert await at.opens(before, "RTK", by="gateway") == 401
    assert await at.opens(at.release(STUDY), "RTK", by="gateway") == 200


async def test_what_was_withdrawn_opens_nothing_at_a_member(at: AttackedRegion) -> None:
    """Neither a token itself, nor what was exchanged for it, nor a release in its name."""
    source, home = at.issue(), at.region.homes["RTK"]
    given = await at.exchanged(source)
    jti = str(at.claims(source)["jti"])
    released = at.release(STUDY, principal=replace(DOCTOR, claims={"jti": jti}))
    assert (await at.opens(given, "RTK"), await at.opens(released, "RTK", by="gateway")) == (200, 200)
    state = home.app.membership.state  # type: ignore[attr-defined]  # of a joined member
    before = state.directory
    for withdrawn in (jti, str(at.claims(given)["jti"])):
        state.directory = replace(before, withdrawn_tokens=frozenset({withdrawn}))
        assert await at.opens(given, "RTK") == 401
        assert await at.opens(released, "RTK", by="gateway") == (401 if withdrawn == jti else 200)
    state.directory = before


def _other_writing(token: str) -> str:
    """The same token with (r, n - s) for (r, s)."""
    head, body, signature = token.split(".")
    raw = urlsafe_b64decode(signature + "==")
    s = (P256_ORDER - int.from_bytes(raw[32:], "big")).to_bytes(32, "big")
    other = f"{head}.{body}.{urlsafe_b64encode(raw[:32] + s).decode().rstrip('=')}"
    assert other != token
    return other


async def test_another_writing_of_a_signature_is_the_same_token(at: AttackedRegion) -> None:
    """(r, s) and (r, n - s) are both good ECDSA signatures: a token is ended by its id, not by its text."""
    given, released, home = await at.exchanged(at.issue()), at.release(STUDY), at.region.homes["RTK"]
    state = home.app.membership.state  # type: ignore[attr-defined]  # of a joined member
    before = state.directory
    for token, by in ((given, ""), (released, "gateway")):
        both = (token, _other_writing(token))
        assert [await at.opens(one, "RTK", by=by) for one in both] == [200, 200], "else nothing to get round"
        jti = str(at.claims(token)["jti"])
        state.directory = replace(before, withdrawn_tokens=frozenset({jti}))
        assert [await at.opens(one, "RTK", by=by) for one in both] == [401, 401]
        state.directory = before


async def test_another_writing_of_an_access_token_is_ended_with_it_at_the_registry(
    at: AttackedRegion,
) -> None:
    """The one that was never shown before the withdrawal too: no memory of checked texts lets it in."""
    registry, shown, unshown = at.region.registry, at.issue(), at.issue()
    url = f"{registry.people_url}/dicomweb/studies?StudyInstanceUID={STUDY}"
    for token in (shown, _other_writing(shown), _other_writing(unshown)):
        assert (await at.ask("GET", url, token))[0] == 200
    for token in (shown, unshown):
        claims = at.claims(token)
        ends = datetime.fromtimestamp(claims["exp"], UTC)
        await registry.members.store.credentials.withdraw("token", str(claims["jti"]), ends)
    await registry.members.refresh()
    for token in (shown, _other_writing(shown), unshown, _other_writing(unshown)):
        assert (await at.ask("GET", url, token))[0] == 401
        assert (await at.exchange(_other_writing(token)))[0] == 400


# --- access tokens: M1 --------------------------------------------------------------------------------------


async def test_a_token_of_the_registry_is_no_good_at_a_member_and_says_what_to_do(at: AttackedRegion) -> None:
    token, node = at.issue(), at.region.homes["RTK"].app.endpoints.base
    status, said = await at.ask("GET", f"{node}/dicomweb/studies?PatientID=1", token)
    assert status == 401
    assert "/token" in str(said)
    assert await at.opens(await at.exchanged(token), "RTK") == 200


async def test_a_token_that_a_member_was_shown_opens_nothing_elsewhere(at: AttackedRegion) -> None:
    """The member RTK replays what an app showed it: at the registry, at the other member, for another one."""
    registry, stolen = at.region.registry, await at.exchanged(at.issue())
    faces = [
        f"{registry.people_url}/fhir/ImagingStudy?identifier=urn:oid:{OTHERS}",
        f"{registry.people_url}/dicomweb/studies?StudyInstanceUID={OTHERS}",
        f"{registry.people_url}/dicomweb/studies/{OTHERS}/metadata",
    ]
    for url in faces:
        assert (await at.ask("GET", url, stolen))[0] == 401, url
    assert await at.opens(stolen, "RXC", study=OTHERS) == 401
    assert await at.opens(stolen, "RXC", by="system", study=OTHERS) == 401
    for audience in ("RTK", "RXC"):
        status, said = await at.exchange(stolen, audience=audience)
        assert (status, said["error"]) == (400, "invalid_request"), said
    assert await at.opens(stolen, "RTK") == 200, "what it is for, it opens"


async def test_a_token_bound_to_a_system_is_good_beside_its_certificate_only(at: AttackedRegion) -> None:
    bound = await at.exchanged(at.issue(), by="system")
    assert at.claims(bound)["cnf"]["x5t#S256"]
    assert await at.opens(bound, "RTK", by="system") == 200
    assert await at.opens(bound, "RTK") == 401
    for thief in ("RXC", "gateway"):
        assert await at.opens(bound, "RTK", by=thief) == 401, thief


async def test_members_and_the_gateway_exchange_nothing(at: AttackedRegion) -> None:
    for by, expected in (("RXC", (403, "unauthorized_client")), ("gateway", (401, "invalid_client"))):
        status, said = await at.exchange(at.issue(), by=by)
        assert (status, said["error"]) == expected, by


async def test_what_is_given_is_never_more_than_what_was_shown(at: AttackedRegion) -> None:
    token = at.issue(hours=0.01)
    shown, given = at.claims(token), at.claims(await at.exchanged(token))
    assert {n: given[n] for n in ("sub", "roles", "org", "pou", "grants")} == {
        n: shown[n] for n in ("sub", "roles", "org", "pou", "grants")
    }
    assert given["exp"] <= shown["exp"]
    assert (given["aud"], given["src"]) == ("RTK", shown["jti"])
    long = at.claims(await at.exchanged(at.issue(hours=48)))
    assert long["exp"] - long["iat"] <= 15 * 60


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ({"audience": "NOBODY"}, (400, "invalid_target")),
        ({"audience": "1.2.826.0.1.3680043.10.777.1"}, (400, "invalid_target")),
        ({"audience": ""}, (400, "invalid_target")),
        ({"audience": "", "resource": "https://evil.example/dicomweb"}, (400, "invalid_target")),
        ({"scope": "operator"}, (400, "invalid_request")),
        ({"actor_token": "x"}, (400, "invalid_request")),
        (
            {"requested_token_type": "urn:ietf:params:oauth:token-type:refresh_token"},
            (400, "invalid_request"),
        ),
        ({"subject_token": "x.y.z"}, (400, "invalid_request")),
        ({"subject_token": ""}, (400, "invalid_request")),
        ({"subject_token_type": "urn:ietf:params:oauth:token-type:saml2"}, (400, "invalid_request")),
        ({"grant_type": "client_credentials"}, (400, "unsupported_grant_type")),
    ],
)
async def test_exchanges_that_are_refused(
    at: AttackedRegion, form: dict[str, str], expected: tuple[int, str]
) -> None:
    status, said = await at.exchange(at.issue(), **form)
    assert (status, said["error"]) == expected, said
    assert said["error_description"]


async def test_a_release_token_is_exchanged_for_nothing(at: AttackedRegion) -> None:
    assert (await at.exchange(at.release(STUDY)))[0] == 400


async def test_for_whom_a_token_is_may_be_said_by_address(at: AttackedRegion) -> None:
    """As /fhir/Endpoint says it; one that names another member beside it is refused."""
    where = at.region.homes["RXC"].app.endpoints.base + "/dicomweb"
    given = await at.exchanged(at.issue(), audience="", resource=where)
    assert await at.opens(given, "RXC", study=OTHERS) == 200
    assert (await at.exchange(at.issue(), audience="RTK", resource=where))[0] == 400


async def test_an_exchange_is_audited(at: AttackedRegion) -> None:
    token = at.issue(Principal(subject="audited-app", roles=frozenset({"integrator"})))
    await at.exchanged(token, by="system", audience="RXC")
    acts = await at.region.registry.parts.ground.audit.search()
    (act,) = [a for a in acts if a.action == "exchange-token" and a.who.subject == "audited-app"]
    assert (act.outcome.kind, act.query["member"]) == ("ok", "RXC")
    assert act.query["token"] == at.claims(token)["jti"]
    assert "system:app-server" in act.peer


async def test_metadata_says_where_tokens_are_exchanged(at: AttackedRegion) -> None:
    base = at.region.registry.people_url
    status, said = await at.ask("GET", base + METADATA_PATH)
    assert (status, said["token_endpoint"], said["grant_types_supported"]) == (
        200,
        base + EXCHANGE_AT,
        [GRANT_TYPE],
    )
