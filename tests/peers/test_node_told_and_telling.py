"""A whole node, as `serve` runs it: told by an archive, telling a peer, and asking for commitment.

The archive is asked by DICOMweb, and tells by DIMSE.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import dicom_objects as make
from beside_dimse import OTHER, put, uids, until
from click.testing import CliRunner
from dimse_calls import store
from independent_node import outside_at, serving
from notices import notice, notify
from notified_peer import Taken, named, notified_peer
from ports import free_base, free_ports

from benchmarks.peers import orthanc
from node.__main__ import main
from node.app import NodeApp

MORE = """
[[dimse.callers]]
ae_title = "PACS"
addresses = ["127.0.0.1"]
may = []
notifies = ["PACS"]

[[dimse.callers]]
ae_title = "ORTHANC"
may = []

[[dimse.destinations]]
ae_title = "RIS"
host = "127.0.0.1"
port = {ris}
notify = true

[[dimse.destinations]]
ae_title = "ORTHANC"
host = "127.0.0.1"
port = {archive}

[[sources.dicomweb]]
name = "PACS"
url = "http://127.0.0.1:{web}/dicom-web"
earliest = "20250101"
look_every_s = 3600.0
"""


async def behind(app: NodeApp) -> bool:
    return app.parts.sources.behind


async def waiting(app: NodeApp) -> dict[tuple[str, ...], float]:
    """Studies that peers are still to be told of, as the metrics have it."""
    gauges = {gauge.name: gauge for gauge in await app.gauges()}
    return dict(gauges["crosslight_node_announce_waiting"].values)


async def test_a_node_hears_tells_and_asks(tmp_path: Path) -> None:
    http, (ris,), taken = free_base(1), free_ports(1), Taken()
    async with outside_at(tmp_path) as outside:
        with (outside.folder / "node.toml").open("a", encoding="utf-8") as file:
            file.write(MORE.format(ris=ris, archive=http + 1, web=http))
        known = {"rtk": {"AET": "RTK", "Host": "127.0.0.1", "Port": outside.dimse}}
        async with orthanc(tmp_path / "orthanc", http, DicomModalities=known), serving(outside.folder) as app:
            await until(lambda: behind(app), False)
            await asyncio.to_thread(put, http + 1, "ORTHANC", make.image(1))
            assert await asyncio.to_thread(notify, outside.dimse, notice(make.STUDY)) == [0]
            await until(lambda: uids(app.archive), [f"{make.STUDY}.1.1"])

            own = make.image(1, study=OTHER)
            assert await asyncio.to_thread(store, outside.dimse, own) == [0]
            await until(lambda: waiting(app), {("RIS",): 2.0})
            with notified_peer(ris, taken):
                await until(lambda: waiting(app), {("RIS",): 0.0})
            _, said = taken.get(block=False)
            assert named(said) == [f"{OTHER}.1.1"]
            assert taken.empty(), "of what another archive has nobody is told"

            asked = await asyncio.to_thread(
                CliRunner().invoke,
                main,
                ["--dir", str(outside.folder), "commitment", "ask", OTHER, "--to", "ORTHANC"],
                env={"COLUMNS": "200"},
            )
            assert f"{OTHER}.1.1: not committed: it has no such instance (0112H)" in asked.output
            assert asked.exit_code == 1
