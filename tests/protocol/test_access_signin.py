"""Sign-in by OpenID Connect as a browser does it, sessions, CSRF, limits."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from access_region import CONFIG, access, browser, sign_in
from aiohttp import web
from joserfc import jwt
from joserfc.jwk import ECKey
from yarl import URL

from registry.access.config import AccessConfig, OidcConfig
from registry.access.sessions import COOKIE


async def test_a_browser_signs_in_and_out(tmp_path: Path) -> None:
    async with access(tmp_path) as a, browser(a) as session:
        async with session.get(
            f"{a.people}/", headers={"Accept": "text/html"}, allow_redirects=False
        ) as response:
            assert (response.status, response.headers["Location"]) == (303, "/signin")
        async with session.get(f"{a.people}/signin") as response:
            page = await response.text()
            assert "DEMO ONLY" in page
            assert "script" not in page
            assert "default-src 'none'" in response.headers["Content-Security-Policy"]
        response = await sign_in(a, session, "dr.amos", "light-box")
        assert response.status == 200
        assert response.url.path == "/"
        assert "?" not in str(response.url)
        cookie = next(c for c in session.cookie_jar if c.key == COOKIE)
        assert cookie["secure"]
        assert cookie["httponly"]
        assert cookie["samesite"] == "Lax"
        async with session.get(f"{a.people}/") as response:
            me = await response.json()
        assert me["subject"] == "person:dr.amos"
        assert (me["roles"], me["organisation"], me["evidence"], me["purpose"]) == (
            ["clinician"],
            "RA2",
            "session",
            "TREAT",
        )
        async with session.post(f"{a.people}/signout") as response:
            assert response.status == 403  # no CSRF token
        async with session.post(f"{a.people}/signout", data={"csrf": me["csrf"]}) as response:
            assert response.url.path == "/signed-out"
        async with session.get(f"{a.people}/") as response:
            assert response.status == 401
        acts = {(e.action, e.text, e.who.subject) for e in await a.audit.search()}
        assert ("sign-in", "ok", "person:dr.amos") in acts
        assert ("sign-out", "ok", "person:dr.amos") in acts


PLACE = "/patients/aB-_9/studies/1.2.826.0.1?series=1.2.826.0.1.2"

BACK = f"/signin?{urlencode({'return': PLACE})}"

#: What a browser without a session asks for -> where it is led back to; the start page needs no word.
SENT = [
    ("/", None),
    (PLACE, PLACE),
    ("/patients/aB-_9/studies/1.2?name=SMITH", "/patients/aB-_9/studies/1.2"),
    ("/?return=//evil.example", None),
    ("//evil.example/x", None),
]


async def test_signing_in_leads_back_to_where_one_was(tmp_path: Path) -> None:
    async with access(tmp_path) as a, browser(a) as session:
        for asked, sent in SENT:
            url = URL(a.people + asked, encoded=True)
            async with session.get(url, headers={"Accept": "text/html"}, allow_redirects=False) as response:
                where = urlsplit(response.headers["Location"])
                assert (response.status, where.netloc, where.path) == (303, "", "/signin")
                assert parse_qs(where.query).get("return") == (None if sent is None else [sent]), asked
        response = await sign_in(a, session, "dr.amos", "light-box", start=BACK)
        assert response.url.path_qs == PLACE
        for evil in (
            "https://evil.example/",
            "//evil.example",
            "/\\evil.example",
            "/a//evil.example",
            "javascript:alert(1)",
        ):
            response = await sign_in(
                a, session, "dr.amos", "light-box", start=f"/signin?{urlencode({'return': evil})}"
            )
            assert str(response.url) == f"{a.people}/"


async def test_a_sign_in_that_failed_still_knows_where_to_go(tmp_path: Path) -> None:
    async with access(tmp_path) as a, browser(a) as session:
        async with session.get(URL(a.people + BACK, encoded=True), allow_redirects=False) as response:
            state = parse_qs(urlsplit(response.headers["Location"]).query)["state"][0]
        async with session.get(
            f"{a.people}/signin/callback", params={"state": state, "error": "access_denied"}
        ) as response:
            assert response.status == 401
            assert f'href="{BACK}"' in await response.text()


async def test_how_long_a_session_lasts_can_be_asked_without_making_it_last(tmp_path: Path) -> None:
    async with access(tmp_path, replace(CONFIG, session_idle_minutes=30)) as a, browser(a) as session:
        async with session.get(f"{a.people}/signin/session") as response:
            assert await response.json() == {"left_s": 0, "final": True}
            assert response.headers["Cache-Control"] == "no-store"
        await sign_in(a, session, "dr.amos", "light-box")

        async def over() -> bool:
            async with session.get(f"{a.people}/signin/session") as response:
                return (await response.json())["left_s"] == 0

        ended = [await over()]
        for _ in range(4):  # asked again and again, and it ends all the same
            a.clock.later += timedelta(minutes=9)
            ended.append(await over())
        assert ended == [False, False, False, False, True]
        async with session.get(f"{a.people}/") as response:
            assert response.status == 401


async def test_the_end_that_no_use_puts_off_is_told_apart(tmp_path: Path) -> None:
    for hours, final in ((1.0, False), (0.4, True)):  # idle: half an hour
        async with (
            access(tmp_path / str(hours), replace(CONFIG, session_hours=hours)) as a,
            browser(a) as session,
        ):
            await sign_in(a, session, "dr.amos", "light-box")
            async with session.get(f"{a.people}/signin/session") as response:
                told = await response.json()
            assert told["final"] is final
            assert told["left_s"] == pytest.approx(min(hours * 3600, 1800), abs=60)


async def test_csrf_by_header_for_services(tmp_path: Path) -> None:
    async with access(tmp_path) as a, browser(a) as session:
        await sign_in(a, session, "dr.amos", "light-box")
        async with session.get(f"{a.people}/fhir/x") as response:
            csrf = (await response.json())["csrf"]
        async with session.post(f"{a.people}/fhir/x", json={}) as response:
            assert response.status == 403
        async with session.post(f"{a.people}/fhir/x", json={}, headers={"X-CSRF-Token": csrf}) as response:
            assert response.status == 200
        async with session.post(
            f"{a.people}/fhir/x", json={}, headers={"X-CSRF-Token": csrf[:-1] + "é"}
        ) as response:
            assert response.status == 403


async def test_unknown_roles_see_nothing(tmp_path: Path) -> None:
    async with access(tmp_path) as a, browser(a) as session:
        await sign_in(a, session, "porter", "trolley")
        async with session.get(f"{a.people}/") as response:
            assert (await response.json())["roles"] == ["porter"]


async def test_failures_are_alike_limited_and_audited(tmp_path: Path) -> None:
    """A known and an unknown name get the same answers, also when they have to wait."""
    async with access(tmp_path) as a, browser(a) as session:
        answers: dict[str, list[tuple[int, str]]] = {}
        for user in ("dr.amos", "nobody"):
            answers[user] = []
            for _ in range(4):
                response = await sign_in(a, session, user, "wrong")
                said = re.search(r'role="alert">([^<]+)</p><form', await response.text())
                answers[user].append((response.status, said.group(1) if said else ""))
        assert answers["dr.amos"] == answers["nobody"]
        assert [status for status, _ in answers["nobody"]] == [401, 401, 401, 429]
        response = await sign_in(a, session, "dr.amos", "light-box")
        assert response.status == 429  # the right password has to wait too
        refused = [e for e in await a.audit.search() if e.decision == "deny"]
        assert [e.who.subject for e in refused] == [
            "person:dr.amos"
        ] * 3  # strangers write nothing of their own
        assert "nobody" not in str(refused)


async def test_limit_by_address(tmp_path: Path) -> None:
    async with access(tmp_path, replace(CONFIG, failures_per_address=4)) as a, browser(a) as session:
        statuses = [(await sign_in(a, session, f"user{n}", "wrong")).status for n in range(5)]
        assert statuses == [401, 401, 401, 401, 429]


async def test_the_callback_is_bound_to_browser_state_and_use(tmp_path: Path) -> None:
    async with access(tmp_path) as a, browser(a) as victim, browser(a) as attacker:
        async with attacker.get(f"{a.people}/signin") as response:
            ticket = re.search(r'value="([0-9a-f]{64})"', await response.text())
        assert ticket
        form = {"ticket": ticket.group(1), "user": "dr.amos", "password": "light-box"}
        async with attacker.post(f"{a.people}/demo-idp/login", data=form, allow_redirects=False) as response:
            callback = response.headers["Location"]
        # login CSRF: the attacker's code in the victim's browser
        async with victim.get(callback) as response:
            assert response.status == 401
        forged = callback.replace("state=", "state=x")
        async with attacker.get(forged) as response:
            assert response.status == 401
        other = callback.replace("demo-idp", "other-idp")
        assert other != callback
        async with attacker.get(other) as response:  # RFC 9207: another issuer
            assert response.status == 401
        async with attacker.get(callback) as response:  # its state was spent by the try before
            assert response.status == 401


async def test_a_code_is_good_once_and_only_with_its_verifier(tmp_path: Path) -> None:
    async with access(tmp_path) as a, browser(a) as session:
        async with session.get(f"{a.people}/signin", allow_redirects=False) as response:
            asked = parse_qs(urlsplit(response.headers["Location"]).query)
        assert asked["code_challenge_method"] == ["S256"]
        async with session.get(f"{a.people}/signin") as response:
            ticket = re.search(r'value="([0-9a-f]{64})"', await response.text())
        assert ticket
        form = {"ticket": ticket.group(1), "user": "dr.amos", "password": "light-box"}
        async with session.post(f"{a.people}/demo-idp/login", data=form, allow_redirects=False) as response:
            code = parse_qs(urlsplit(response.headers["Location"]).query)["code"][0]
        token = {
            "grant_type": "authorization_code",
            "code": code,
            "client_id": "crosslight",
            "redirect_uri": f"{a.people}/signin/callback",
            "code_verifier": "guess" * 10,
        }
        for _ in range(2):
            async with session.post(f"{a.people}/demo-idp/token", data=token) as response:
                assert (response.status, await response.json()) == (400, {"error": "invalid_grant"})


@pytest.mark.parametrize(
    "change",
    [
        {"redirect_uri": "https://evil.example/"}, {"client_id": "other"}, {"response_type": "token"},
        {"code_challenge_method": "plain"}, {"scope": "profile"}, {"state": ""}, {"nonce": ""},
    ],
)  # fmt: skip
async def test_the_provider_refuses_other_requests(tmp_path: Path, change: dict[str, str]) -> None:
    async with access(tmp_path) as a, browser(a) as session:
        async with session.get(f"{a.people}/signin", allow_redirects=False) as response:
            query = {k: v[0] for k, v in parse_qs(urlsplit(response.headers["Location"]).query).items()}
        async with session.get(
            f"{a.people}/demo-idp/authorize", params=query | change, allow_redirects=False
        ) as response:
            assert response.status == 400
            assert "Location" not in response.headers


async def test_session_limits(tmp_path: Path) -> None:
    config = replace(CONFIG, session_idle_minutes=30, session_hours=2.0)
    async with access(tmp_path, config) as a, browser(a) as session:

        async def after(minutes: int) -> int:
            a.clock.later += timedelta(minutes=minutes)
            async with session.get(f"{a.people}/") as response:
                return response.status

        await sign_in(a, session, "dr.amos", "light-box")
        assert [await after(25) for _ in range(4)] == [200] * 4, (
            "used all the time: longer than the idle limit"
        )
        assert await after(25) == 401, "the absolute limit"
        await sign_in(a, session, "dr.amos", "light-box")
        assert [await after(25), await after(31)] == [200, 401], "the idle limit"


async def test_another_provider_with_mapped_claims(tmp_path: Path) -> None:
    """A provider of another make: RS256-less, nested roles, other names; and a nonce that is not ours is
    refused.
    """
    key = ECKey.generate_key("P-256")
    key.ensure_kid()
    state: dict[str, Any] = {"nonce": "", "base": ""}

    async def discovery(request: web.Request) -> web.Response:
        base = state["base"]
        return web.json_response(
            {
                "issuer": base,
                "authorization_endpoint": f"{base}/a?x=1",
                "token_endpoint": f"{base}/t",
                "jwks_uri": f"{base}/k",
            }
        )

    async def keys(request: web.Request) -> web.Response:
        return web.json_response(
            {"keys": [{**key.as_dict(private=False), "kid": key.kid}, {"kty": "oct", "k": "AAAA"}]}
        )

    async def token(request: web.Request) -> web.Response:
        assert request.headers["Authorization"].startswith("Basic ")
        now = int(time.time())
        claims = {
            "iss": state["base"],
            "aud": ["crosslight", "b"],
            "azp": "crosslight",
            "exp": now + 60,
            "iat": now,
            "nonce": state["nonce"],
            "uid": "555",
            "person": "Nurse N",
            "nrbac": [{"role": "R8000", "org": "RXC"}, {"role": "R1"}],
        }
        return web.json_response({"id_token": jwt.encode({"alg": "ES256", "kid": key.kid}, claims, key)})

    app = web.Application()
    app.add_routes(
        [
            web.get("/.well-known/openid-configuration", discovery),
            web.get("/k", keys),
            web.post("/t", token),
        ]
    )
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    state["base"] = f"http://127.0.0.1:{runner.addresses[0][1]}"
    (tmp_path / "secret").write_text("s3cret")
    oidc = OidcConfig(
        issuer=state["base"],
        client_secret_file="secret",
        subject_claim="uid",
        name_claim="person",
        roles_claim="nrbac.role",
        organisation_claim="nrbac.org",
        role_map={"R8000": "clinician"},
    )
    async with access(tmp_path, AccessConfig(oidc=oidc)) as a, browser(a) as session:
        for nonce_is_right in (False, True):
            async with session.get(f"{a.people}/signin", allow_redirects=False) as response:
                asked = parse_qs(urlsplit(response.headers["Location"]).query)
            state["nonce"] = asked["nonce"][0] if nonce_is_right else "another"
            callback = {"code": "c", "state": asked["state"][0]}
            async with session.get(
                f"{a.people}/signin/callback", params=callback, allow_redirects=False
            ) as response:
                assert response.status == (303 if nonce_is_right else 401)
        async with session.get(f"{a.people}/") as response:
            me = await response.json()
        assert (me["subject"], me["name"], me["roles"], me["organisation"]) == (
            "person:555",
            "Nurse N",
            ["clinician"],
            "RXC",
        )
    await runner.cleanup()


async def test_without_a_provider_nobody_signs_in(tmp_path: Path) -> None:
    async with access(tmp_path, AccessConfig()) as a, browser(a) as session:
        async with session.get(f"{a.people}/", headers={"Accept": "text/html"}) as response:
            assert response.status == 503
            assert "No identity provider" in await response.text()
        async with session.get(f"{a.people}/demo-idp/authorize") as response:
            assert response.status == 404
