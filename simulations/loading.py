"""How studies come into a region: to a node by DICOM, or into an archive of others beside it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from pydicom.dataset import FileDataset

from crosslight.client.dimse import DimseClient
from simulations.images import StudyPlan
from simulations.upstreams.patient_administration import PatientAdministration, pas_credentials
from simulations.upstreams.upstreams import Upstreams


class Loading:
    """Stores studies where they belong.

    Args:
        dimse: Calls a member's node, as a modality of it.
        upstreams: The archives of others, if there are any.
        administration: Tells who is who where an archive does not.
        authorities: Organisation code -> OID of its patient numbers.
        systems: Folder of the certificates of outside systems; None in the open demo.
    """

    def __init__(
        self,
        *,
        dimse: Callable[[str], DimseClient],
        upstreams: Upstreams | None,
        administration: PatientAdministration,
        authorities: dict[str, str],
        systems: Path | None,
    ) -> None:
        self._dimse, self._upstreams, self._administration = dimse, upstreams, administration
        self._authorities, self._systems = authorities, systems

    async def put(self, plan: StudyPlan, datasets: Sequence[FileDataset]) -> str:
        """Store a study; where it went, for people."""
        upstream = self._upstreams.of(plan) if self._upstreams is not None else None
        if upstream is None:
            await asyncio.to_thread(self._dimse(plan.code).store, list(datasets))
            return "by C-STORE"
        if not upstream.tells_numbers:
            code = plan.code
            credentials = pas_credentials(self._systems, code) if self._systems is not None else None
            await self._administration.register(plan.patient, code, self._authorities[code], credentials)
        await upstream.put(datasets)
        return f"into {upstream.label}"
