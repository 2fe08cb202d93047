"""What the identity provider decides of a session that is under way: its end, its roles, how sure it is.

The demo's own provider is asked, over TLS, as any other is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from access_region import CONFIG, TestAccess, access, browser, sign_in
from joserfc import jwt
from joserfc.jwk import ECKey
from members_region import IDS

from crosslight.standards.access import Principal
from crosslight.standards.problem import Forbidden
from registry.access.config import AccessConfig, OidcConfig
from registry.access.demo_idp import COOKIE as PROVIDER_COOKIE
from registry.access.demo_idp import DemoProvider
from registry.access.logout_token import EVENT
from registry.access.oidc import check_assurance
from registry.access.provider_logout import LOGOUT_AT
from registry.access.sessions import COOKIE, Sessions

PAGE = {"Accept": "text/html"}
LONG = replace(CONFIG, session_idle_minutes=600, roles_minutes=60)


def provider_of(a: TestAccess) -> DemoProvider:
    assert a.access.demo_provider is not None
    return a.access.demo_provider


async def status(
    a: TestAccess, session: aiohttp.ClientSession, path: str = "/", headers: Mapping[str, str] | None = None
) -> int:
    async with session.get(a.people + path, headers=headers) as response:
        return response.status


async def me(a: TestAccess, session: aiohttp.ClientSession, **how: Any) -> dict[str, Any]:
    async with session.get(f"{a.people}/", **how) as response:
        assert response.status == 200
        said: dict[str, Any] = await response.json()
        return said


async def told(a: TestAccess, stranger: aiohttp.ClientSession, token: str) -> int:
    """What a logout token is answered with."""
    async with stranger.post(a.people + LOGOUT_AT, data={"logout_token": token}) as response:
        assert response.headers["Cache-Control"] == "no-store"
        return response.status


def session_id(session: aiohttp.ClientSession, name: str = COOKIE) -> str:
    return next(cookie.value for cookie in session.cookie_jar if cookie.key == name)


# --- its end ------------------------------------------------------------------------------------------------


async def test_signing_out_at_the_provider_ends_that_session_in_every_process(tmp_path: Path) -> None:
    async with access(tmp_path) as a, browser(a) as desk, browser(a) as ward, browser(a) as stranger:
        for one in (desk, ward):
            await sign_in(a, one, "dr.amos", "light-box")
        async with stranger.get(f"{a.people}/demo-idp/logout") as response:
            assert "Nobody is signed in" in await response.text()
        other = Sessions(a.access.store, CONFIG, a.clock, IDS)  # another process on the same database
        assert await other.find(session_id(desk)) is not None
        async with desk.get(f"{a.people}/demo-idp/logout") as response:
            assert "Dr A. Amos" in await response.text()
        async with desk.post(f"{a.people}/demo-idp/logout") as response:
            assert "signed out everywhere" in await response.text()
        assert await other.find(session_id(desk)) is None
        assert [await status(a, desk), await status(a, ward)] == [401, 200], "sid: one session"
        assert await told(a, stranger, provider_of(a).logout_token("dr.amos")) == 200
        assert [await status(a, desk), await status(a, ward)] == [401, 401], "without a sid: all of a person"
        assert await told(a, stranger, provider_of(a).logout_token("dr.amos")) == 200, (
            "nothing is left to end"
        )
        ended = [act for act in await a.audit.search() if act.action == "sign-out"]
        assert [(act.who.subject, act.query) for act in ended] == [
            ("person:dr.amos", {"at": "identity provider", "sessions": 1})
        ] * 2


#: What is wrong with a logout token (Back-Channel Logout 1.0, 2.6) -> claims in the place of good ones.
WRONG: dict[str, dict[str, Any]] = {
    "of another issuer": {"iss": "https://evil.example"},
    "for another client": {"aud": "another"},
    "issued long ago": {"iat": 1_000_000_000},
    "issued in the future": {"iat": 99_999_999_999},
    "ended": {"exp": 1_000_000_000},
    "no id": {"jti": None},
    "an id that is none": {"jti": 7},
    "an ID token": {"nonce": "n", "events": None},
    "a nonce": {"nonce": "n"},
    "no event": {"events": {}},
    "another event": {"events": {"http://schemas.openid.net/event/other": {}}},
    "an event that is no object": {"events": {EVENT: "yes"}},
    "nobody": {"sub": None},
    "a subject that is none": {"sub": ["dr.amos"]},
}


async def test_only_a_logout_token_ends_a_session_and_each_once(tmp_path: Path) -> None:
    async with access(tmp_path) as a, browser(a) as session, browser(a) as stranger:
        await sign_in(a, session, "dr.amos", "light-box")
        provider = provider_of(a)
        for wrong, claims in WRONG.items():
            assert await told(a, stranger, provider.logout_token("dr.amos", **claims)) == 400, wrong
        good = provider.logout_token("dr.amos")
        key, forged = a.access.demo_keys.signing, ECKey.generate_key("P-256")
        body = jwt.decode(good, key)
        kid = body.header["kid"]
        for token in (
            "",
            "x.y.z",
            jwt.encode({"alg": "ES256", "kid": kid}, body.claims, forged),
            jwt.encode(
                {"alg": "ES256", "kid": kid, "typ": "at+jwt"}, body.claims, a.access.demo_keys.signing
            ),
            a.access.tokens.issue_access_token(Principal(subject="app", roles=frozenset({"integrator"}))),
        ):
            assert await told(a, stranger, token) == 400
        assert await status(a, session) == 200
        assert await told(a, stranger, good) == 200
        assert await status(a, session) == 401
        await sign_in(a, session, "dr.amos", "light-box")
        assert await told(a, stranger, good) == 400, "replayed"
        assert await status(a, session) == 200
        async with stranger.get(a.people + LOGOUT_AT) as response:
            assert response.status == 405
        async with stranger.post(a.people + LOGOUT_AT, data=b"\xff\xfe") as response:
            assert response.status == 400


# --- its roles ----------------------------------------------------------------------------------------------


async def test_roles_are_asked_again_and_the_session_goes_on(tmp_path: Path) -> None:
    async with access(tmp_path, LONG) as a, browser(a) as session:
        await sign_in(a, session, "dr.amos", "light-box")
        before, cookie, provider = await me(a, session), session_id(session), provider_of(a)
        provider.accounts["dr.amos"] = replace(provider.accounts["dr.amos"], roles=("ig",))
        a.clock.later += timedelta(minutes=61)
        async with session.get(f"{a.people}/signin/session") as response:
            left_s = (await response.json())["left_s"]
        assert left_s == pytest.approx(59 * 60, abs=30), "an open page is told of the end of what is known"
        for headers in ({}, {**PAGE, "Sec-Fetch-Mode": "cors"}):
            now = await me(a, session, headers=headers, allow_redirects=False)
            assert now["roles"] == ["clinician"], "what an open page asks for goes on for a while"
        now = await me(a, session, headers=PAGE)
        assert (now["roles"], now["csrf"], session_id(session)) == (["ig"], before["csrf"], cookie)
        assert (await me(a, session, headers=PAGE, allow_redirects=False))["roles"] == ["ig"]
        a.clock.later += timedelta(hours=9)  # all in all longer than a session may last
        assert await status(a, session) == 401
        asked = [act.query for act in await a.audit.search() if act.action == "sign-in"]
        assert {"session": "goes on", "roles": ["ig"]} in asked


async def test_nobody_goes_on_for_whom_the_provider_does_not_vouch(tmp_path: Path) -> None:
    """Only asking again makes roles last: not use, and not a provider that has forgotten its person."""
    async with access(tmp_path, LONG) as a, browser(a) as session:
        await sign_in(a, session, "dr.amos", "light-box")
        for _ in range(4):
            a.clock.later += timedelta(minutes=29)
            assert await status(a, session, "/fhir/x") == 200
        a.clock.later += timedelta(minutes=5)
        assert await status(a, session, "/fhir/x") == 401
        await sign_in(a, session, "dr.amos", "light-box")
        a.clock.later += timedelta(minutes=61)
        session.cookie_jar.clear(lambda cookie: cookie.key == PROVIDER_COOKIE)
        async with session.get(f"{a.people}/", headers=PAGE) as response:
            assert (response.url.path, response.status) == ("/demo-idp/authorize", 200)
            assert 'name="password"' in await response.text()
        before = session_id(session)
        await sign_in(a, session, "porter", "trolley")  # somebody else, who had been asked for
        assert (await me(a, session))["subject"] == "person:porter"
        assert session_id(session) != before


async def test_a_provider_that_is_away_ends_no_session_at_once(tmp_path: Path) -> None:
    away = AccessConfig(
        oidc=OidcConfig(issuer="http://127.0.0.1:9"), session_idle_minutes=600, roles_minutes=60
    )
    async with access(tmp_path, away) as a, browser(a) as session:
        begun = await a.access.sessions.begin(Principal(subject="person:1", roles=frozenset({"clinician"})))
        session.cookie_jar.update_cookies({COOKIE: begun.id})
        a.clock.later += timedelta(minutes=61)
        assert await status(a, session, headers=PAGE) == 200
        assert await status(a, session, headers=PAGE) == 200
        a.clock.later += timedelta(minutes=60)
        assert await status(a, session, headers=PAGE) == 503


# --- how sure it is -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "claims", "said"),
    [
        ({}, {}, ""),
        ({"acr_required": ("AAL2", "AAL3")}, {"acr": "AAL3"}, ""),
        ({"acr_required": ("AAL2", "AAL3")}, {"acr": "AAL1"}, "Wanted: AAL2 or AAL3. Your sign-in: AAL1."),
        ({"acr_required": ("AAL2",)}, {}, "Wanted: AAL2. Your sign-in: it was not said."),
        ({"acr_required": ("3",), "acr_claim": "nhs.level"}, {"nhs": {"level": 3}}, ""),
        ({"amr_required": ("mfa", "hwk")}, {"amr": ["hwk", "mfa", "pin"]}, ""),
        ({"amr_required": ("mfa", "hwk")}, {"amr": ["mfa"]}, "Wanted too: hwk."),
        ({"amr_required": ("mfa",)}, {"amr": "pwd"}, "Wanted too: mfa."),
    ],
)
def test_assurance(wanted: dict[str, Any], claims: dict[str, Any], said: str) -> None:
    config = OidcConfig(**wanted)
    if not said:
        return check_assurance(claims, config)
    with pytest.raises(Forbidden) as refused:
        check_assurance(claims, config)
    assert refused.value.why == said
    return None


async def test_who_did_not_sign_in_surely_enough_is_told_what_to_do(tmp_path: Path) -> None:
    config = replace(CONFIG, oidc=OidcConfig(acr_values="AAL3 AAL2", acr_required=("AAL3", "AAL2")))
    async with access(tmp_path, config) as a, browser(a) as session:
        async with session.get(f"{a.people}/signin", allow_redirects=False) as response:
            assert "acr_values=AAL3+AAL2" in response.headers["Location"]
        response = await sign_in(a, session, "dr.amos", "light-box")
        page = await response.text()
        assert response.status == 403
        for words in ("as surely as this service asks", "Wanted: AAL3 or AAL2", "smartcard", "Sign in again"):
            assert words in page
        assert await status(a, session) == 401
        provider = provider_of(a)
        provider.accounts["dr.amos"] = replace(provider.accounts["dr.amos"], acr="AAL2", amr=("mfa",))
        assert (await sign_in(a, session, "dr.amos", "light-box")).status == 200
