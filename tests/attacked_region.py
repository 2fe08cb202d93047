"""A region of two members over real TLS, and what an attacker has of it: for tests of attacks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from joserfc import jwt
from node_serving import ct
from whole_region import Whole, whole_region

from crosslight.runtime.http import client_session
from crosslight.runtime.tls import client_context
from crosslight.standards.access import Grants, Principal
from registry.access.exchange import EXCHANGE_AT, GRANT_TYPE, TYPE_URN

STUDY, OTHERS = "1.2.826.0.1.3680043.10.777.1", "1.2.826.0.1.3680043.10.777.2"
APP = Principal(
    subject="app",
    name="App",
    roles=frozenset({"integrator"}),
    organisation="RTK",
    grants=Grants(capabilities=frozenset({"find", "open"})),
)
DOCTOR = Principal(subject="dr", name="Dr", roles=frozenset({"clinician"}), organisation="RTK")


@dataclass
class AttackedRegion:
    """The region, and what an attacker has of it."""

    region: Whole
    system: tuple[Path, Path]  # certificate and key of an outside system

    def certificate(self, who: str) -> tuple[Path, Path | None]:
        """Of whom a request comes: the gateway, a member by its code, or the outside system."""
        if who == "system":
            return self.system
        if who == "gateway":
            return self.region.registry.folder / "tls" / "gateway.pem", None
        return self.region.homes[who].app.folder / "region" / "identity.pem", None

    async def ask(
        self, method: str, url: str, token: str = "", *, by: str = "", **more: Any
    ) -> tuple[int, Any]:
        """One request, with a token, a certificate, both or neither: the status and what was said."""
        cert, key = self.certificate(by) if by else (None, None)
        tls = client_context(self.region.registry.members.ca.bundle, cert, key)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with (
            client_session(tls) as session,
            session.request(method, url, headers=headers, **more) as response,
        ):
            body = await response.read()
            json = "json" in response.content_type
            return response.status, await response.json(content_type=None) if json else body

    async def opens(self, token: str, code: str, *, by: str = "", study: str = STUDY) -> int:
        """The status of a retrieve of a study at a member, at the listener that ``by`` may reach."""
        at = self.region.homes[code].app.endpoints
        status, _ = await self.ask(
            "GET", f"{at.systems if by else at.base}/dicomweb/studies/{study}/metadata", token, by=by
        )
        return status

    def issue(self, principal: Principal = APP, **how: Any) -> str:
        """A token as ``crosslight-registry token`` gives it."""
        return self.region.registry.parts.access.tokens.issue_access_token(principal, **how)

    async def exchange(self, token: str, *, by: str = "", **form: str) -> tuple[int, Any]:
        """Ask for a token for a member."""
        registry = self.region.registry
        base = registry.addresses.systems if by else registry.people_url
        asked = {
            "grant_type": GRANT_TYPE,
            "subject_token": token,
            "subject_token_type": TYPE_URN,
            "audience": "RTK",
        }
        given = {name: value for name, value in (asked | form).items() if value}
        return await self.ask("POST", base + EXCHANGE_AT, by=by, data=given)

    async def exchanged(self, token: str, *, by: str = "", **form: str) -> str:
        """As :meth:`exchange`, the token given."""
        status, said = await self.exchange(token, by=by, **form)
        assert status == 200, said
        return str(said["access_token"])

    def release(self, *studies: str, principal: Principal = DOCTOR, holder: str = "RTK") -> str:
        """A release token, as the registry mints it for a retrieve."""
        signer = self.region.registry.parts.access.tokens.signer
        return signer.release(principal, holder=holder, patient="p", studies=studies, correlation="c")

    def claims(self, token: str) -> Mapping[str, Any]:
        """What a token says."""
        key = self.region.registry.members.keys.signing
        return jwt.decode(token, key, algorithms=["ES256"]).claims


@asynccontextmanager
async def attacked(folder: Path) -> AsyncIterator[AttackedRegion]:
    """A region with a study at each of two members."""
    async with whole_region(folder, {"RTK": "grpc", "RXC": "grpc"}, secured=True) as region:
        for code, study in (("RTK", STUDY), ("RXC", OTHERS)):
            await region.homes[code].add([ct(study, f"{study}.1", f"{study}.1.1")])
        files = await region.registry.members.systems.issue("app-server", folder / "system", APP.grants)
        yield AttackedRegion(region, (files.cert, files.key))
