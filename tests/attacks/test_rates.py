"""Whoever asks too often is told so in the form of what they asked, and others are served meanwhile."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import aiohttp
import orjson
from access_region import CONFIG, access, browser
from members_region import FAST, IDS
from members_region import registry as members_registry
from registry_room import make_room, room_config
from room_faces import room_faces
from xds_registry import documents_of

from crosslight.runtime.db import SqliteDb
from crosslight.runtime.http import client_session
from crosslight.runtime.soap.client import SoapClient
from crosslight.runtime.tls import client_context
from crosslight.standards.access import Grants, Principal
from crosslight.standards.problem import CrosslightError
from crosslight.standards.xds.wire import adhoc
from registry.access.exchange import EXCHANGE_AT, GRANT_TYPE, TYPE_URN
from registry.access.provider_logout import LOGOUT_AT
from registry.ask.config import AskConfig

NUMBER = "9990000018"
FHIR = f"/fhir/ImagingStudy?patient.identifier=https://fhir.nhs.uk/Id/nhs-number|{NUMBER}"
#: What is searched -> what a refusal in its own form has.
SEARCHES = {
    FHIR: ("application/fhir+json", '"throttled"'),
    f"/dicomweb/studies?PatientID={NUMBER}": ("application/problem+json", '"status":429'),
}


async def test_searches_of_one_caller(tmp_path: Path) -> None:
    noisy, quiet = (
        Principal(subject=f"person:{name}", name=name, roles=frozenset({"clinician"}), evidence="bearer")
        for name in ("noisy", "quiet")
    )
    by_certificate = replace(
        noisy,
        subject="system:noisy",
        evidence="certificate",
        roles=frozenset({"integrator"}),
        grants=Grants(capabilities=frozenset({"find"})),
    )
    config = room_config(ask=AskConfig(searches_per_minute=4, searches_per_minute_of_system=6))
    room = await make_room(SqliteDb(tmp_path / "r.sqlite"), config=config)
    asking = [noisy]
    async with (
        room_faces(room, lambda request: asking[0]) as people,
        room_faces(room, lambda request: asking[0], kind="systems") as systems,
        aiohttp.ClientSession() as session,
    ):

        async def status(path: str) -> tuple[int, aiohttp.ClientResponse, str]:
            async with session.get(people.base + path) as response:
                return response.status, response, await response.text()

        assert [(await status(FHIR))[0] for _ in range(4)] == [200] * 4
        for path, (media_type, words) in SEARCHES.items():
            code, response, text = await status(path)
            assert (code, response.content_type) == (429, media_type), text
            assert 0 < int(response.headers["Retry-After"]) <= 15
            assert words in text.replace(" ", "")
            assert "a minute" in text
        asking[0] = quiet
        assert (await status(FHIR))[0] == 200, "another is served meanwhile"
        asking[0] = by_certificate
        client = SoapClient(session, IDS)
        body = adhoc.render_adhoc_request(documents_of(f"{NUMBER}^^^&2.16.840.1.113883.2.1.4.1&ISO"))
        refused = ""
        for _ in range(7):
            with suppress(CrosslightError):
                reply = await client.call(f"{systems.base}/xds/registry", adhoc.ACTION_REQUEST, body)
                refused = " ".join(error.code for error in adhoc.parse_adhoc_response(reply.body).errors)
        assert refused == "XDSRegistryBusy"
        permits = room.waists.ask.permits
        assert (permits.search_rates.refused, permits.system_rates.refused) == (2, 1)


async def test_requests_to_join_of_one_address(tmp_path: Path) -> None:
    async with members_registry(tmp_path, replace(FAST, joins_per_minute=2)) as r:
        async with client_session(client_context(r.members.ca.bundle)) as session:
            statuses = []
            for _ in range(3):
                async with session.post(f"{r.url}/join", data=b"{}") as response:
                    statuses.append(response.status)
                    waits, text = response.headers.get("Retry-After", ""), await response.text()
        assert statuses == [400, 400, 429]
        assert 0 < int(waits) <= 30
        assert "Too many requests to join" in text
        assert r.members.join_rates.refused == 1


async def test_sign_ins_of_one_address(tmp_path: Path) -> None:
    async with access(tmp_path, replace(CONFIG, signins_per_minute=2)) as a, browser(a) as session:
        statuses = []
        for _ in range(3):
            async with session.get(f"{a.people}/signin", allow_redirects=False) as response:
                statuses.append(response.status)
                waits, text = response.headers.get("Retry-After", ""), await response.text()
        assert statuses == [303, 303, 429]
        assert 0 < int(waits) <= 30
        assert "Too many sign-ins" in text
        assert a.access.signin_rates.refused == 1


async def test_logout_tokens_that_are_none_of_one_address(tmp_path: Path) -> None:
    """The identity provider's own are as many as it likes: it may end everybody's sessions at once."""
    async with access(tmp_path, replace(CONFIG, signins_per_minute=2)) as a, browser(a) as session:
        provider = a.access.demo_provider
        assert provider is not None

        async def told(token: str) -> tuple[int, str, dict[str, str]]:
            async with session.post(a.people + LOGOUT_AT, data={"logout_token": token}) as response:
                text = await response.text()
                return response.status, response.headers.get("Retry-After", ""), orjson.loads(text or "{}")

        assert [(await told(provider.logout_token("dr.amos")))[0] for _ in range(4)] == [200] * 4
        answers = [await told("x.y.z") for _ in range(3)]
        assert [status for status, *_ in answers] == [400, 400, 429]
        assert 0 < int(answers[2][1]) <= 30
        assert answers[2][2]["error"] == "temporarily_unavailable"
        assert "Too many logout tokens" in answers[2][2]["error_description"]
        assert a.access.logout_rates.refused == 1
        async with session.get(f"{a.people}/signin", allow_redirects=False) as response:
            assert response.status == 303, "sign-ins have a bound of their own"


async def test_token_exchanges_of_one_app(tmp_path: Path) -> None:
    async with access(tmp_path, replace(CONFIG, exchanges_per_minute=2)) as a, browser(a) as session:
        tokens = [
            a.access.tokens.issue_access_token(Principal(subject=who, roles=frozenset({"integrator"})))
            for who in ("noisy", "quiet")
        ]

        async def exchange(token: str) -> tuple[int, dict[str, str], str]:
            form = {
                "grant_type": GRANT_TYPE,
                "subject_token": token,
                "subject_token_type": TYPE_URN,
                "audience": "RTK",
            }
            async with session.post(a.people + EXCHANGE_AT, data=form) as response:
                return response.status, await response.json(), response.headers.get("Retry-After", "")

        answers = [await exchange(tokens[0]) for _ in range(3)]
        assert [status for status, *_ in answers] == [400, 400, 429], "there is no RTK here"
        assert answers[2][1]["error"] == "temporarily_unavailable"
        assert 0 < int(answers[2][2]) <= 30
        assert (await exchange(tokens[1]))[0] == 400
        assert a.access.exchange_rates.refused == 1
