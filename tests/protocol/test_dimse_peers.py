"""DICOM over TLS: a certificate of the region is asked about as at every other gate."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from dimse_node import ECHO, associate, node
from node_serving import CLOCK, FILES, HOME, IDS

from crosslight.runtime.peers import check_certificate
from crosslight.runtime.tls import Identity, client_context, pem_blocks
from crosslight.standards.ids import Oid
from crosslight.standards.problem import Unauthenticated
from registry.members.ca import CertificateAuthority


@dataclass
class Word:
    """What the region says."""

    community: str = HOME
    systems: set[str] = field(default_factory=lambda: {"PACS"})

    def member_status(self, code: str) -> tuple[str, str]:
        return "active", ""

    def is_system(self, name: str) -> bool:
        return name in self.systems

    def is_withdrawn(self, serial: str) -> bool:
        return False


async def test_a_certificate_of_the_region_is_asked_about_and_its_association_cut(tmp_path: Path) -> None:
    ca = CertificateAuthority(tmp_path / "ca", Oid(HOME), "Test", CLOCK, IDS, FILES)
    ca.open()
    word, refused = Word(), []

    def pair(name: str, identity: Identity | None, hosts: tuple[str, ...] = ()) -> Path:
        path = tmp_path / f"{name}.pem"
        ca.write_pair(path, identity, hosts, timedelta(days=1))
        return path

    own = pair("own", None, ("127.0.0.1",))
    (tmp_path / "dimse.key").write_bytes(pem_blocks(own.read_bytes())[0])

    async def associated(context: ssl.SSLContext) -> Any:
        return await asyncio.to_thread(
            lambda: associate(made.service.port, ECHO, tls_args=(context, "127.0.0.1"))
        )

    async with node(
        tmp_path,
        tls_certificate="own.pem",
        tls_key="dimse.key",
        tls_client_ca="ca/ca.pem",
        certified=lambda certificate: check_certificate(certificate, word, CLOCK.now()),
        noted=lambda face, why, peer: refused.append((face, str(why))),
    ) as made:
        system = client_context(ca.bundle, pair("system", Identity("system", "PACS", HOME)))
        assoc = await associated(system)
        assert assoc.is_established
        assert made.service.look() == 0
        word.systems.clear()
        assert made.service.look() == 1
        async with asyncio.timeout(30):
            while assoc.is_established:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert not (await associated(system)).is_established
        assert {face for face, _ in refused} == {"dimse"}
        assert all("No system of this region has this name" in why for _, why in refused)


def test_a_trusts_own_certificate_is_asked_for_its_end_alone() -> None:
    word, own = Word(), {"subject": ((("commonName", "CT1"),),), "subjectAltName": (("DNS", "ct1.local"),)}
    check_certificate({**own, "notAfter": "Jan  1 00:00:00 2099 GMT"}, word, CLOCK.now())
    with pytest.raises(Unauthenticated, match="expired"):
        check_certificate({**own, "notAfter": "Jan  1 00:00:00 2020 GMT"}, word, CLOCK.now())
