"""``crosslight-node firewall``: the connections that this node makes and takes, by its configuration."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import click
from rich.table import Table
from rich.text import Text

from crosslight.runtime.seams import system_seams
from crosslight.runtime.terminal import make_console, printable
from node.config import NodeConfig, read_config
from node.dimse.config import KnownDestination
from node.membership.membership import Membership
from node.offline import membership_in

_PORTS = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True)
class Flow:
    """One kind of connection, all of TCP: who opens it, to whom, at which port, and what for."""

    caller: str
    called: str
    port: int
    purpose: str
    needed: bool = True  # otherwise only for some uses


def flows_of(config: NodeConfig, membership: Membership | None) -> Iterator[Flow]:
    """Every connection that a node with this configuration makes or takes."""
    yield from _out(config, membership)
    yield from _in(config, membership)


def _out(config: NodeConfig, membership: Membership | None) -> Iterator[Flow]:
    if membership is None:
        yield Flow("this node", "the registry of the invitation", 0, "joining: its address says the port")
    else:
        for address, purpose, needed in membership.calls(config.publish.road):
            yield Flow("this node", *_place(address), purpose, needed)
    if config.continuity.enabled and membership is not None and (lists := membership.lists_address):
        yield Flow("this node", *_place(lists), "the region's lists of patients with an order")
    for there in config.dimse.destinations:
        yield Flow("this node", there.host, there.port, _to(there))
    for source in config.sources.dicomweb:
        yield Flow("this node", *_place(source.url), f"the archive {source.name}, by DICOMweb")
    for calling in config.sources.dimse:
        yield Flow("this node", calling.host, calling.port, f"the archive {calling.name}, by DIMSE")
    for store in config.sources.object_store:
        place = _place(store.endpoint) if store.endpoint else (f"S3 of {store.region}", 443)
        yield Flow("this node", *place, f"the object store {store.name}")


def _in(config: NodeConfig, membership: Membership | None) -> Iterator[Flow]:
    listen, dimse = config.listen, config.dimse
    systems = membership.systems if membership is not None else "the registry"
    if systems:
        yield Flow(systems, "this node", listen.systems_port, "images and manifests are fetched (mutual TLS)")
    yield Flow(
        "viewers inside the trust",
        "this node",
        listen.people_port,
        "DICOMweb straight from the node, with a token",
        needed=False,
    )
    if config.continuity.enabled:
        senders = ", ".join(config.continuity.senders) or "any address"
        yield Flow(senders, "this node", config.continuity.port, "orders (HL7 v2 by MLLP)")
    if not dimse.enabled:
        return
    for known in dimse.callers:
        caller = ", ".join(known.addresses) or "any address"
        may = ", ".join((*known.may, *(f"notifications of {name}" for name in known.notifies)))
        yield Flow(caller, "this node", dimse.port, f"DICOM of {known.ae_title}: {may}")
    for source in config.sources.dimse:
        if source.retrieve == "move":
            yield Flow(source.host, "this node", dimse.port, f"C-MOVE of the archive {source.name} to us")


def _to(there: KnownDestination) -> str:
    told = ", and word of what lies here" if there.notify else ""
    return f"C-MOVE to {there.ae_title}, and its reports{told}"


def _place(address: str) -> tuple[str, int]:
    """Host and port of a URL, or of host:port."""
    parts = urlsplit(address if "//" in address else f"//{address}")
    return parts.hostname or address, parts.port or _PORTS.get(parts.scheme, 0)


@click.command()
@click.pass_obj
def firewall(folder: Path) -> None:
    """Print the connections that this node makes and takes, for whoever keeps the firewall."""
    config = read_config(folder)
    table = Table("From", "To", "TCP port", "For", "Needed")
    for flow in flows_of(config, membership_in(folder, config, system_seams())):
        port = str(flow.port) if flow.port else "?"
        shown = (flow.caller, flow.called, port, flow.purpose, "always" if flow.needed else "if used")
        table.add_row(*(Text(printable(text)) for text in shown))
    make_console().print(table)
