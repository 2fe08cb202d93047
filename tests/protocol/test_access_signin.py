"""Sign-in by OpenID Connect as a browser does it, sessions, CSRF, limits; bearer tokens and certificates at
both listeners.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import aiohttp
import pytest
from access_region import CONFIG, TestAccess, access, browser, sign_in
from aiohttp import web
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey
from members_region import CLOCK, FAST, IDS, REGION, until
from yarl import URL

from crosslight.runtime.files import SystemFiles
from crosslight.runtime.tls import client_context
from crosslight.runtime.tokens import TokenSigner
from crosslight.standards.access import Principal
from crosslight.standards.membership import Invitation
from crosslight.standards.problem import Invalid
from node.membership.join import new_request
from registry.access.config import AccessConfig, OidcConfig
from registry.access.sessions import COOKIE

CLINICIAN = Principal(subject="person:x", name="X", roles=frozenset({"clinician"}), organisation="RA2")


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


# --- tokens -------------------------------------------------------------------------------------------------


def _attacks(a: TestAccess) -> dict[str, str]:
    tokens, keys = a.access.tokens, a.members.keys
    good = tokens.issue_access_token(CLINICIAN)
    head, body, signature = good.split(".")
    stranger = ECKey.generate_key("P-256")
    stranger.ensure_kid()
    issuer = REGION.home_community_id
    claims = jwt.decode(good, keys.signing, algorithms=["ES256"]).claims
    public = keys.jwks()["keys"][0]
    return {
        "another key": TokenSigner(stranger, issuer, CLOCK, IDS).access(CLINICIAN, audience=issuer, ttl_s=60),
        "no signature": f"{head}.{body}.",
        "changed body": f"{head}.{body[:-2]}AA.{signature}",
        "alg none": "eyJhbGciOiJub25lIn0." + body + ".",
        "public key as secret": jwt.encode({"alg": "HS256"}, claims, OctKey.import_key(public["x"])),
        "another issuer": (
            TokenSigner(keys.signing, "1.2.3", CLOCK, IDS).access(CLINICIAN, audience=issuer, ttl_s=60)
        ),
        "another audience": tokens.signer.access(CLINICIAN, audience="RTK", ttl_s=60),
        "expired": tokens.signer.access(CLINICIAN, audience=issuer, ttl_s=-120),
        "release token": tokens.signer.release(
            CLINICIAN, holder=issuer, patient="", studies=(), correlation="c"
        ),
        "the directory": a.members.signed_directory()[1],
        "rubbish": "x.y.z",
        "empty parts": "..",
        "long": "a" * 20000,
    }


async def test_bearer_tokens_and_attacks(tmp_path: Path) -> None:
    async with access(tmp_path) as a, browser(a) as session:

        async def status(header: str) -> int:
            async with session.get(f"{a.people}/fhir/x", headers={"Authorization": header}) as response:
                return response.status

        good = a.access.tokens.issue_access_token(CLINICIAN)
        assert await status(f"Bearer {good}") == 200
        assert await status(f"bearer {good}") == 200
        for name, token in _attacks(a).items():
            if name != "long":  # over the header limit: refused before it is read
                assert await status(f"Bearer {token}") == 401, name
        assert await status(f"Basic {good}") == 401
        assert await status("Bearer ") == 401
        async with session.get(f"{a.people}/fhir/x") as response:
            assert response.headers["WWW-Authenticate"].startswith("Bearer")
        with pytest.raises(Invalid):
            a.access.tokens.issue_access_token(replace(CLINICIAN, roles=frozenset({"gateway"})))
        async with session.get(f"{a.people}/.well-known/jwks.json") as response:
            published = await response.json()
        assert published == a.members.keys.jwks()
        assert "d" not in published["keys"][0]


# --- systems ------------------------------------------------------------------------------------------------


async def _member_client(a: TestAccess, code: str, folder: Path) -> aiohttp.ClientSession:
    """A client with a member's certificate."""
    secret = Invitation.parse(await a.members.invite(code, a.people)).secret
    row = await a.members.store.use_invitation(secret, 0)
    await a.members.refresh()
    key, csr = new_request(code, IDS)
    issued = a.members.ca.member(csr, code, row.hosts, timedelta(days=a.members.config.certificate_days))
    folder.mkdir()
    SystemFiles().write_atomic(folder / "id.pem", key + issued.chain_pem)
    context = client_context(a.members.ca.bundle, folder / "id.pem")
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context))


async def test_systems_need_a_certificate(tmp_path: Path) -> None:
    async with access(tmp_path) as a, browser(a) as session:
        with pytest.raises(aiohttp.ClientError):
            await session.get(f"{a.systems}/fhir/x")
        files = await a.members.systems.issue("workstation-1", tmp_path / "system")
        assert files.key.stat().st_mode & 0o777 == 0o600
        context = client_context(files.ca, files.cert, files.key)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as system:
            async with system.get(f"{a.systems}/fhir/x") as response:
                me = await response.json()
            assert (me["subject"], me["roles"], me["evidence"]) == (
                "system:workstation-1",
                ["integrator"],
                "certificate",
            )
            bearer = {"Authorization": f"Bearer {a.access.tokens.issue_access_token(CLINICIAN)}"}
            async with system.get(f"{a.systems}/fhir/x", headers=bearer) as response:
                me = await response.json()
                assert (me["roles"], me["via"]) == (["clinician"], "system:workstation-1")


async def test_suspension_closes_http_connections_and_refuses_new_ones(tmp_path: Path) -> None:
    async with access(tmp_path / "a") as a, await _member_client(a, "RTK", tmp_path / "m") as member:
        async with member.get(f"{a.systems}/fhir/x") as response:
            me = await response.json()
        assert (me["roles"], me["organisation"]) == (["member"], "RTK")
        assert me["member"] == a.members.active("RTK").id
        response = await member.get(f"{a.systems}/slow")  # a stream under way
        await response.content.read(100)
        await a.members.suspend("RTK", "test")
        async with asyncio.timeout(60):  # the stream has no end of its own
            with contextlib.suppress(aiohttp.ClientError):
                while await response.content.read(100000):
                    pass
        async with member.get(f"{a.systems}/fhir/x") as response:
            assert response.status == 403
        await a.members.readmit("RTK")
        async with member.get(f"{a.systems}/fhir/x") as response:
            assert response.status == 200


async def test_a_certificate_ends_on_a_live_connection(tmp_path: Path) -> None:
    short = replace(FAST, certificate_days=2 / 86400)
    async with access(tmp_path / "a", members=short) as a:
        a.members.own.renew_due()
        async with await _member_client(a, "RTK", tmp_path / "m") as member:

            async def ask() -> int:
                try:
                    async with member.get(f"{a.systems}/fhir/x") as response:
                        return response.status
                except aiohttp.ClientError:
                    return 0  # the connection was cut, and no other can be made

            statuses = [await ask()]
            async with asyncio.timeout(60):
                while statuses[-1] == 200:
                    await asyncio.sleep(0.1)
                    statuses.append(await ask())
            assert statuses[0] == 200
            assert statuses[-1] in (0, 401)
        late = aiohttp.TCPConnector(ssl=client_context(a.members.ca.bundle, tmp_path / "m" / "id.pem"))
        async with aiohttp.ClientSession(connector=late) as member:
            with pytest.raises(aiohttp.ClientError):
                await member.get(f"{a.systems}/fhir/x")


async def test_own_certificates_renew_in_the_live_listener(tmp_path: Path) -> None:
    short = replace(FAST, certificate_days=3 / 86400)
    async with access(tmp_path, members=short) as a:
        people = a.members.own.people
        assert people is not None
        first = people.leaf()
        await until(lambda: people.leaf().serial_number != first.serial_number)
        await until(lambda: CLOCK.now() > first.not_valid_after_utc)
        async with browser(a) as session, session.get(f"{a.people}/.well-known/jwks.json") as response:
            assert response.status == 200


async def test_open_mode(tmp_path: Path) -> None:
    async with access(tmp_path, open_mode=True) as a, aiohttp.ClientSession() as session:
        for base in (a.people, a.systems):
            async with session.get(f"{base}/fhir/x") as response:
                me = await response.json()
            assert (me["subject"], me["roles"]) == ("open", ["open"])
        await a.members.invite("RTK", a.people)
        async with session.get(f"{a.systems}/fhir/x", headers={"Crosslight-Member": "RTK"}) as response:
            assert response.status == 401  # invited is not joined
        bearer = {"Authorization": f"Bearer {a.access.tokens.issue_access_token(CLINICIAN)}"}
        async with session.get(f"{a.people}/fhir/x", headers=bearer) as response:
            assert (await response.json())["roles"] == ["clinician"]


async def test_without_a_provider_nobody_signs_in(tmp_path: Path) -> None:
    async with access(tmp_path, AccessConfig()) as a, browser(a) as session:
        async with session.get(f"{a.people}/", headers={"Accept": "text/html"}) as response:
            assert response.status == 503
            assert "No identity provider" in await response.text()
        async with session.get(f"{a.people}/demo-idp/authorize") as response:
            assert response.status == 404


async def test_what_is_public(tmp_path: Path) -> None:
    async with access(tmp_path) as a, browser(a) as session:
        for path, expected in (
            ("/health/live", 404),
            ("/metrics", 404),
            ("/join", 404),
            ("/fhir/x", 401),
            ("/healthy", 401),
            ("/", 401),
            ("/fhir/metadata", 404),
            ("/fhir/metadata/x", 401),
            ("/signinx", 401),
        ):
            async with session.get(f"{a.people}{path}") as response:
                assert response.status == expected, path
        preflight = {"Origin": "https://x", "Access-Control-Request-Method": "GET"}
        async with session.options(f"{a.people}/fhir/x", headers=preflight) as response:
            assert response.status == 405  # let through to whoever answers CORS
