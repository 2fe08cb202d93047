"""The people's listener of registry and node on a certificate of an outside authority, which others renew."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest
from closed_region import closed_region
from cryptography import x509
from outside_authority import OutsideAuthority
from registry_room import TestClock

from crosslight.client.doctor import Target, examine
from crosslight.client.http import HttpClient, read, trusting
from crosslight.runtime.clock import SystemClock
from crosslight.runtime.outside_certificate import OutsideCertificate, outside_certificate
from crosslight.runtime.tls import client_context
from crosslight.standards.problem import ConfigError

CLOCK = SystemClock()


async def shown(url: str, authority: Path) -> x509.Certificate:
    """The certificate that a browser which trusts ``authority`` alone is shown."""
    _, writer = await asyncio.open_connection(
        "127.0.0.1", int(url.rpartition(":")[2]), ssl=client_context(authority)
    )
    der = writer.get_extra_info("ssl_object").getpeercert(True)
    writer.close()
    return x509.load_der_x509_certificate(der)


async def health(url: str, authority: Path) -> object:
    """What a service says of its certificate."""
    async with HttpClient(tls=trusting(authority)) as client:
        async with client.request("GET", f"{url}/health/ready") as response:
            told = await read(response)
    return orjson.loads(told)["people_certificate"]


async def test_browsers_trust_it_members_need_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes join, link and are called all the same; renewal needs no restart; bad files change nothing."""
    outside = OutsideAuthority(tmp_path)
    cert, key = tmp_path / "people.crt", tmp_path / "people.key"
    first = outside.issue(cert, key)
    listen = {"people_certificate": str(cert), "people_key": str(key)}
    async with closed_region(tmp_path, ("RTK",), listen=listen) as region:
        node = region.nodes["RTK"]
        services = [
            (region.base, region.registry.parts.ground.people_certificate),
            (node.endpoints.base, node.parts.ground.people_certificate),
        ]
        for url, held in services:
            assert held is not None
            assert await shown(url, outside.certificate) == first
            assert await health(url, outside.certificate) == "ok"
        second = outside.issue(cert, key)
        for url, held in services:
            assert held is not None
            held.look()
            assert await shown(url, outside.certificate) == second
        good_key = key.read_bytes()
        for bad in ("another key", "no certificate", "ended"):
            good = cert.read_bytes()
            if bad == "another key":
                outside.issue(tmp_path / "other.crt", key)
            elif bad == "no certificate":
                cert.write_bytes(b"nothing\n")
            else:
                outside.issue(cert, key, life=timedelta(hours=-1))
            for url, held in services:
                assert held is not None
                held.look()
                assert await shown(url, outside.certificate) == second, bad
                assert "not used" in str(await health(url, outside.certificate)), bad
                found = await examine(Target(name="it", base=url, ca=outside.certificate))
                assert any("not used" in finding.what for finding in found), bad
                assert [gauge.values[()] for gauge in held.gauges()][1] == 1.0
            cert.write_bytes(good)
            key.write_bytes(good_key)
            for url, held in services:
                assert held is not None
                held.look()
                assert await health(url, outside.certificate) == "ok", bad
        monkeypatch.setenv("SSL_CERT_FILE", str(outside.certificate))
        authority = region.folder / "registry" / "ca" / "ca.pem"
        found = await examine(Target(name="registry", base=region.base, ca=authority))
        assert [finding.result for finding in found if finding.check in ("TLS", "health")] == ["ok", "ok"]


def test_what_cannot_serve_is_said_at_the_start(tmp_path: Path) -> None:
    outside = OutsideAuthority(tmp_path)
    cert, key = tmp_path / "people.crt", tmp_path / "people.key"
    assert outside_certificate(tmp_path, "", "", CLOCK) is None
    for one, other, where in (("people.crt", "", "people_key"), ("", "people.key", "people_certificate")):
        with pytest.raises(ConfigError) as told:
            outside_certificate(tmp_path, one, other, CLOCK)
        assert told.value.where == f"listen.{where}"
    with pytest.raises(ConfigError):
        outside_certificate(tmp_path, "people.crt", "people.key", CLOCK)
    outside.issue(cert, key)
    outside.issue(tmp_path / "other.crt", tmp_path / "other.key")
    with pytest.raises(ConfigError):
        outside_certificate(tmp_path, "people.crt", "other.key", CLOCK)


def test_one_that_has_ended_is_told_of_and_serves_until_there_is_another(tmp_path: Path) -> None:
    outside = OutsideAuthority(tmp_path)
    cert, key = tmp_path / "people.crt", tmp_path / "people.key"
    outside.issue(cert, key, life=timedelta(minutes=10))
    clock = TestClock()
    clock.moment = datetime.now(UTC)
    held = OutsideCertificate(cert, key, clock)
    held.open()
    assert held.trouble == ""
    clock.moment += timedelta(hours=1)
    assert "ended on" in held.trouble
    outside.issue(cert, key, life=timedelta(days=1))
    held.look()
    assert held.trouble == ""
