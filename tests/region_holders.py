"""What two holders of a region have of one patient, and how tests ask its DICOMweb root for rows."""

from __future__ import annotations

from typing import Any

from gateway_region import GatewayRegion
from node_serving import ct
from registry_samples import nhs

NUMBER = nhs(1)
DICOM_PARTS = 'multipart/related; type="application/dicom"'


async def rows(region: GatewayRegion, path: str, status: int = 200) -> Any:
    async with region.http.get(f"{region.base}/dicomweb{path}") as response:
        assert response.status == status, await response.read()
        assert response.headers["Crosslight-Coverage"] if status == 200 else True
        return await response.json(content_type=None)


def value(row: dict[str, Any], tag: str) -> Any:
    return row[tag].get("Value", [None])[0]


async def two_holders(region: GatewayRegion) -> None:
    """Study 1.2.1 at both, the same; 1.2.2 at RTK only."""
    for code in ("RA2", "RTK"):
        await region.add(code, ct(), national=NUMBER, local=f"L-{code}")
    await region.add(
        "RTK",
        ct("1.2.2", "1.2.2.1", "1.2.2.1.1", PatientID="L-RTK", Modality="MR"),
        ct("1.2.2", "1.2.2.1", "1.2.2.1.2", PatientID="L-RTK", Modality="MR", number=2),
        national=NUMBER,
    )
