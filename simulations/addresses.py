"""Where everything of the demo answers: the content of the endpoints file."""

from __future__ import annotations

from typing import Any

from node.membership.state import RegionState
from registry.config import read_config
from simulations.layout import HOST
from simulations.region import DemoRegion

ROLES = ("integrator", "clinician")  # whose tokens are told; the region's are no good at a node


def endpoints_of(region: DemoRegion) -> dict[str, Any]:
    """The endpoints file's content."""
    affinity = region.topology.region()
    registry_oid = read_config(region.registry_folder).region.own_repository
    tls = {"ca": region.ca, "client_cert": region.client_cert, "client_key": region.client_key}
    return {
        "registry": {
            "base": region.base,
            "pid": region.supervisor.child("registry").pid,
            "data": str(region.registry_folder),
            "fhir": f"{region.base}/fhir",
            "xds_registry": region.xds_registry_url(),
            "xds_repository": f"{region.systems}/xds/repository",
            "rad69": f"{region.systems}/rad69",
            "xds_gateway": None,
            "dicomweb": f"{region.base}/dicomweb",
            "portal": f"{region.base}/",
            "grpc": f"{HOST}:{region.port_base + 1}",
            "mllp": f"{HOST}:{region.port_base + 2}",
            "metrics": f"{region.base}/metrics",
            "repository_unique_id": registry_oid,
        },
        "nodes": [_node_entry(region, code) for code in region.topology.codes],
        "affinity_domain": {
            "patient_authority": affinity.national_authority or affinity.authority,
            "home_community_id": f"urn:oid:{affinity.home_community_id}",
        },
        "tls": {k: str(v) if v else None for k, v in tls.items()},
        "tokens": {role: region.tokens.get(role) for role in ROLES},
        "accounts": [a.public() for a in region.accounts],
        "patients": region.ledger.listed(),
        "open": region.open_mode,
    }


def _node_entry(region: DemoRegion, code: str) -> dict[str, Any]:
    state = RegionState(region.node_folder(code) / "region", region.files)
    base, systems = region.node_base(code), f"{region.scheme}://{HOST}:{region.ports(code).systems}"
    return {
        "code": code,
        "name": region.plan_of(code).name,
        "pid": region.supervisor.child(code).pid,
        "data": str(region.node_folder(code)),
        "base": base,
        "dicomweb": f"{base}/dicomweb",
        "region_dicomweb": None,
        "wado": None,
        "rad69": f"{systems}/rad69",
        "xds_repository": f"{systems}/xds/repository",
        "fhir": None,
        "aet": code,
        "region_aet": None,
        "dimse": f"{HOST}:{region.ports(code).dimse}",
        "metrics": f"{base}/metrics",
        "repository_unique_id": state.member.repository_unique_id,
        "retrieve_location_uid": state.member.retrieve_location_uid,
        "archives": region.upstreams.behind(code) if region.upstreams is not None else [],
        "tokens": {role: region.node_tokens.get(code, {}).get(role) for role in ROLES},
    }
