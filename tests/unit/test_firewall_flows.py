"""What ``crosslight-node firewall`` prints: each connection that the configuration makes, and no other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from click.testing import CliRunner
from joserfc.jwk import ECKey
from node_parts import joined
from node_serving import MEMBER, SERVED_REGION

from node.__main__ import main
from node.config import NodeConfig
from node.continuity.config import ContinuityConfig
from node.dimse.config import DimseConfig, KnownCaller, KnownDestination
from node.firewall_command import Flow, flows_of
from node.membership.config import RegionConfig
from node.publish.config import PublishConfig
from node.sources.config import DicomwebSource, SourcesConfig

CONFIG = NodeConfig(
    dimse=DimseConfig(
        port=104,
        callers=(KnownCaller(ae_title="CT1", addresses=("10.1.2.3", "10.1.4.0/24")),),
        destinations=(KnownDestination(ae_title="WS1", host="10.1.7.20", port=4006),),
    ),
    sources=SourcesConfig(
        dicomweb=(DicomwebSource(name="PACS", url="https://pacs.trust.example/dicom-web"),)
    ),
)


def test_each_connection_is_there_and_no_other() -> None:
    flows = list(flows_of(CONFIG, None))
    assert [(flow.caller, flow.called, flow.port) for flow in flows] == [
        ("this node", "the registry of the invitation", 0),
        ("this node", "10.1.7.20", 4006),
        ("this node", "pacs.trust.example", 443),
        ("the registry", "this node", 8444),
        ("viewers inside the trust", "this node", 8443),
        ("10.1.2.3, 10.1.4.0/24", "this node", 104),
    ]


def test_a_member_calls_its_registry_by_the_road_that_it_publishes_by(tmp_path: Path) -> None:
    key = ECKey.generate_key("P-256", parameters={"kid": "k"})
    member = joined(tmp_path, MEMBER, SERVED_REGION, key, CONFIG)
    by_grpc = [flow.purpose for flow in flows_of(CONFIG, member) if flow.caller == "this node"]
    soap = replace(CONFIG, publish=PublishConfig(road="soap"))
    by_soap = [flow.purpose for flow in flows_of(soap, member) if flow.caller == "this node"]
    assert by_soap[2:4] == ["publication by SOAP", "publication by SOAP: patients"]
    assert [purpose for purpose in by_soap if "SOAP" not in purpose] == by_grpc
    assert Flow(
        "the region's gateway", "this node", 8444, "images and manifests are fetched (mutual TLS)"
    ) in (list(flows_of(CONFIG, member)))


def test_a_member_with_a_tunnel_needs_one_connection_out(tmp_path: Path) -> None:
    key = ECKey.generate_key("P-256", parameters={"kid": "k"})
    config = NodeConfig(region=RegionConfig(reach="tunnel"), dimse=DimseConfig(enabled=False))
    member = joined(tmp_path, MEMBER, SERVED_REGION, key, config)
    flows = list(flows_of(config, member))
    assert [(flow.caller, flow.purpose) for flow in flows if flow.needed] == [
        ("this node", "the link, the index feed, renewal of the certificate, images (tunnel)")
    ]


def test_a_node_that_takes_orders_is_reached_by_their_senders_and_asks_the_registry(tmp_path: Path) -> None:
    key = ECKey.generate_key("P-256", parameters={"kid": "k"})
    taking = replace(CONFIG, continuity=ContinuityConfig(enabled=True, senders=("10.1.9.1",)))
    flows = list(flows_of(taking, joined(tmp_path, MEMBER, SERVED_REGION, key, taking)))
    assert Flow("10.1.9.1", "this node", 2575, "orders (HL7 v2 by MLLP)") in flows
    assert "the region's lists of patients with an order" in [flow.purpose for flow in flows]


def test_the_command_prints_them(tmp_path: Path) -> None:
    assert CliRunner().invoke(main, ["init", str(tmp_path / "node")]).exit_code == 0
    done = CliRunner().invoke(main, ["--dir", str(tmp_path / "node"), "firewall"], env={"COLUMNS": "200"})
    assert done.exit_code == 0
    assert "8444" in done.output
