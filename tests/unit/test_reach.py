"""Where a member's services are; a member without an address is not called at all."""

from __future__ import annotations

from dataclasses import replace

import pytest
from joserfc.jwk import ECKey
from registry_samples import REGION, MemoryDirectory

from crosslight.runtime.clock import SystemClock, SystemIds
from crosslight.runtime.seams import SystemHttp
from crosslight.runtime.tokens import TokenSigner
from crosslight.standards.membership import Endpoints
from crosslight.standards.problem import MemberUnreachable, Unavailable
from registry.members.model import Member
from registry.reach.addresses import address
from registry.reach.config import ReachConfig
from registry.reach.members import Reach
from registry.reach.sessions import MemberSessions

NODE = Endpoints(
    systems="https://node.example:8444",
    dicomweb="https://node.example/dicomweb",
    rad69="https://node.example:8444/rad69",
    xds_repository="https://node.example:8444/xds/repository",
)


def _reach(directory: MemoryDirectory) -> Reach:
    key, ids, config = ECKey.generate_key("P-256", parameters={"kid": "k1"}), SystemIds(), ReachConfig()
    signer = TokenSigner(key, REGION.home_community_id, SystemClock(), ids)
    return Reach(directory, signer, MemberSessions(config, SystemHttp()), config, ids)


def _member(directory: MemoryDirectory, endpoints: Endpoints) -> Member:
    found = directory.by_code("RTK")
    assert found is not None
    return directory.set(replace(found, endpoints=endpoints))


def test_a_nodes_dicomweb_is_asked_on_its_listener_for_systems() -> None:
    node = _member(MemoryDirectory(), NODE)
    assert address(node, "dicomweb") == "https://node.example:8444/dicomweb"
    assert (address(node, "iti43"), address(node, "rad69")) == (NODE.xds_repository, NODE.rad69)


def test_a_foreign_source_is_asked_at_the_root_it_gave() -> None:
    source = _member(MemoryDirectory(), Endpoints(dicomweb="https://pacs.example/wado"))
    assert address(source, "dicomweb") == "https://pacs.example/wado"
    assert address(source, "iti43") == ""


@pytest.mark.parametrize(
    ("endpoints", "expected"),
    [
        (Endpoints(), False),
        (Endpoints(dicomweb="https://a"), True),
        (Endpoints(xds_repository="https://a"), True),
    ],
)
def test_a_foreign_source_may_be_asked_once_any_address_is_known(
    endpoints: Endpoints, expected: bool
) -> None:
    directory = MemoryDirectory()
    source = directory.set(replace(_member(directory, endpoints), status="foreign"))
    assert _reach(directory).reachable(source) is expected


async def test_without_an_address_nothing_is_sent() -> None:
    directory = MemoryDirectory()
    member, reach = _member(directory, Endpoints()), _reach(directory)
    with pytest.raises(Unavailable, match="no address"):
        reach.stream(member, "rad69", b"<x/>", "token", correlation="c")
    with pytest.raises(Unavailable, match="no address"):
        await reach.call(member, "iti43", b"<x/>", "token", correlation="c", timeout_s=1.0, max_bytes=1000)
    with pytest.raises(MemberUnreachable):
        async with reach.open(member, "studies", "token"):
            pass
