"""What archives that are met by DIMSE share."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from pydicom.dataset import FileDataset

from crosslight.client.dimse import DimseClient
from simulations.layout import CALLING_AET
from simulations.upstreams.pace import asked
from simulations.upstreams.upstream import HOST, ArchivePlace


def dimse_source(place: ArchivePlace, ae_title: str, port: int) -> dict[str, Any]:
    """The values of ``[[sources.dimse]]``."""
    return {
        "name": place.title,
        "ae_title": ae_title,
        "host": HOST,
        "port": port,
        "recount_every_s": 2.0,
        **asked(),
    }


async def c_store(port: int, ae_title: str, datasets: Sequence[FileDataset]) -> None:
    """A modality sends."""
    client = DimseClient(HOST, port, called=ae_title, calling=CALLING_AET)
    await asyncio.to_thread(client.store, list(datasets))
