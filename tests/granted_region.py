"""A region of two members over real TLS, and outside systems in it that the operator granted something."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from foreign_region import Submitted
from node_serving import part10, related
from road_studies import NUMBER, image
from whole_region import ROOT, Whole, until, whole_region

from crosslight.client.xds import XdsClient
from crosslight.runtime.clock import SystemIds
from crosslight.runtime.http import client_session
from crosslight.runtime.mllp import MllpClient
from crosslight.runtime.soap.client import SoapClient
from crosslight.runtime.tls import Identity, client_context
from crosslight.standards.access import Grants
from crosslight.standards.hl7.ack import parse_ack
from crosslight.standards.ids import NHS_NUMBER_OID, Identifier
from crosslight.standards.xds.wire.ebrim_write import render_submit_objects
from crosslight.standards.xds.wire.response import parse_registry_response
from registry.members.systems import asked_grants

STUDY = "1.2.9.1"
OURS, ELSES = f"{ROOT}.91.1", f"{ROOT}.92.1"  # repositories of outside sources
OTHER_NUMBER = "9990000026"
CX = Identifier(NUMBER, NHS_NUMBER_OID).cx()


@dataclass
class Attacked:
    """The region, and the outside systems in it."""

    region: Whole
    folder: Path
    keys: dict[str, tuple[Path, Path]] = field(default_factory=dict)

    @property
    def systems(self) -> str:
        """The registry's systems listener."""
        return self.region.registry.addresses.systems

    def node(self, code: str) -> str:
        """A node's systems listener."""
        config = self.region.homes[code].app.config
        return f"https://127.0.0.1:{config.listen.systems_port}"

    async def system(self, name: str, grants: Grants) -> None:
        """A new one, granted by the operator."""
        files = await self.region.registry.members.systems.issue(name, self.folder / name, grants)
        self.keys[name] = files.cert, files.key
        await self.heard(name, grants)

    async def heard(self, name: str, grants: Grants | None) -> None:
        """Until every node has the directory that says so."""

        async def told() -> bool:
            states = [home.app.membership.state for home in self.region.homes.values()]  # type: ignore[attr-defined]  # both have joined
            return all(s.directory is not None and s.directory.grants_of(name) == grants for s in states)

        await until(told)

    def tls(self, name: str, **more: Any) -> Any:
        """With the certificate of a system, or with none."""
        cert, key = self.keys.get(name, (None, None))
        return client_context(self.region.registry.members.ca.bundle, cert, key, **more)

    async def http(
        self, name: str, method: str, url: str, data: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> tuple[int, str]:
        """Status and text of one request."""
        async with (
            client_session(self.tls(name)) as session,
            session.request(method, url, data=data or None, headers=headers) as response,
        ):
            return response.status, (await response.read()).decode("utf-8", "replace")

    @asynccontextmanager
    async def xds(self, name: str) -> AsyncIterator[XdsClient]:
        """As an XDS consumer."""
        async with XdsClient(tls=self.tls(name)) as client:
            yield client

    async def soap(self, name: str, action: str, body: bytes) -> tuple[bool, str]:
        """A transaction of the registry: whether it was done, and what was said."""
        async with client_session(self.tls(name)) as session:
            client = SoapClient(session, SystemIds())
            reply = parse_registry_response(
                (await client.call(f"{self.systems}/xds/registry", action, body)).body
            )
        return reply.success, " ".join(error.context for error in reply.errors)

    async def hl7(self, name: str, pid3: str, event: str = "A08", mrg: str = "") -> tuple[bool, str]:
        """A message of a patient feed."""
        members = self.region.registry.members
        gateway = Identity("gateway", "", members.region.home_community_id)
        host, port = self.region.registry.addresses.mllp.split(":")
        client = MllpClient(host, int(port), tls=self.tls(name, expect=gateway))
        lines = [
            f"MSH|^~\\&|A|F|R|G|20260301||ADT^{event}|c1|P|2.3.1||||||UNICODE UTF-8",
            f"EVN|{event}",
            f"PID|||{pid3}||STOLEN^NAME||19011231|M",
            *([f"MRG|{mrg}"] if mrg else []),
            "PV1||O",
        ]
        try:
            ack = parse_ack(await client.send(("\r".join(lines) + "\r").encode()))
        finally:
            await client.close()
        return ack.accepted, ack.text

    async def stow(self, name: str, code: str, token: str = "") -> tuple[int, str]:
        """Store an image of the victim's into a trust's archive."""
        body, content_type = related([("application/dicom", part10(image(7, who=NUMBER)))])
        headers = {"Content-Type": content_type, **({"Authorization": f"Bearer {token}"} if token else {})}
        at = self.region.homes[code].app.endpoints
        return await self.http(
            name, "POST", f"{at.base if token else at.systems}/dicomweb/studies", body, headers
        )

    async def everything(self) -> Any:
        """What a clinician finds of the victim, and every stored row of identity and index."""
        db = self.region.registry.parts.ground.db
        tables = (
            "patient_record",
            "national_number",
            "subsumed_id",
            "holding",
            "xds_object",
            "entry_owner",
            "member",
        )
        rows = await db.read(
            "all", lambda tx: {t: sorted(map(repr, tx.rows(f"SELECT * FROM {t}"))) for t in tables}
        )
        held = {code: len(await home.app.archive.objects(STUDY)) for code, home in self.region.homes.items()}
        return rows, held


@asynccontextmanager
async def granted_region(folder: Path) -> AsyncIterator[Attacked]:
    """Two members, one image of the victim's at each, and a system that may publish to its own repository."""
    async with whole_region(folder, {"RTK": "grpc", "RXC": "grpc"}, secured=True) as region:
        for code in ("RTK", "RXC"):
            await region.homes[code].add([image(1, who=NUMBER), image(1, number=2, who=NUMBER)])
            await region.homes[code].settled()
        made = Attacked(region, folder)
        await made.system("owner", asked_grants(("find",), publishes=(ELSES,)))
        yield made


def documents(one: Submitted) -> bytes:
    return render_submit_objects(one.objects)
