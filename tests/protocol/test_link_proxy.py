"""The link through an HTTP proxy; one that opens TLS is recognised and named, and nothing is sent to it."""

from __future__ import annotations

import ssl
from base64 import b64encode
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from connect_proxy import ConnectProxy
from members_region import TestNode, TestRegistry, linked, registry, until
from outside_authority import OutsideAuthority

from crosslight.runtime.proxies import proxy_for
from crosslight.standards.problem import ConfigError
from node.membership.link import Link

CODE = "RTK"


@pytest.fixture
async def region(tmp_path: Path) -> AsyncIterator[TestRegistry]:
    async with registry(tmp_path / "registry") as found:
        yield found


async def _node(region: TestRegistry, folder: Path, proxy: str) -> TestNode:
    """A node whose registry has a name that only the proxy knows."""
    state = await region.joined(CODE, folder)
    state.registry = replace(state.registry, grpc=f"registry.invalid:{region.grpc_port}")
    node = TestNode(state)
    config = replace(node.link.config, proxy=proxy)
    seams = region.ground.seams
    node.link = Link(state, config, seams, endpoints=node.link.endpoints)
    node.link.speaker = node
    return node


async def test_the_link_goes_through_a_proxy_that_asks_who_it_is(
    region: TestRegistry, tmp_path: Path
) -> None:
    secret = "Basic " + b64encode(b"node:p@ss").decode()
    async with ConnectProxy(sign_in=secret, to=f"127.0.0.1:{region.grpc_port}") as proxy:
        node = await _node(region, tmp_path / "node", f"http://node:p%40ss@{proxy.address}")
        async with linked(node):
            assert len(proxy.asked) >= 2  # the proof, and the channel
            assert set(proxy.asked) == {f"registry.invalid:{region.grpc_port}"}


async def _refused(node: TestNode) -> str:
    node.link.start()
    try:
        await until(lambda: bool(node.link.status.refused))
        assert not node.link.status.connected
        return node.link.status.refused
    finally:
        await node.renewal.stop()
        await node.link.stop()


async def test_a_proxy_that_does_not_let_us_through_is_named(region: TestRegistry, tmp_path: Path) -> None:
    async with ConnectProxy(sign_in="Basic none") as proxy:
        node = await _node(region, tmp_path / "node", f"http://node:secret@{proxy.address}")
        said = await _refused(node)
        assert f"The proxy {proxy.address} does not let this node through" in said
        assert "secret" not in said


async def test_a_proxy_that_opens_tls_is_recognised(region: TestRegistry, tmp_path: Path) -> None:
    opens = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    OutsideAuthority(tmp_path).issue(tmp_path / "opens.pem", tmp_path / "opens.key")
    opens.load_cert_chain(tmp_path / "opens.pem", tmp_path / "opens.key")
    async with ConnectProxy(opens=opens) as proxy:
        node = await _node(region, tmp_path / "node", f"http://{proxy.address}")
        said = await _refused(node)
        assert f"the proxy {proxy.address}" in said
        assert "“Outside authority”" in said
        assert "passed on unopened" in said


def test_which_proxy_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert proxy_for("registry.example:8601", "environment") == ""
    monkeypatch.setenv("https_proxy", "http://proxy.trust.example:3128/")
    monkeypatch.setenv("no_proxy", "inside.example")
    assert proxy_for("registry.example:8601", "environment") == "http://proxy.trust.example:3128"
    assert proxy_for("registry.inside.example:8601", "environment") == ""
    assert proxy_for("127.0.0.1:8601", "environment") == ""
    assert proxy_for("[::1]:8601", "http://proxy:1") == ""
    assert proxy_for("registry.example:8601", "") == ""
    assert proxy_for("registry.example:8601", "http://other:8080") == "http://other:8080"
    with pytest.raises(ConfigError):
        proxy_for("registry.example:8601", "socks5://proxy")
