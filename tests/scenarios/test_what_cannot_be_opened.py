"""A node whose clock is off, and a member that never linked, are shown so wherever completeness is said (D19,
D22).
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from html import unescape
from pathlib import Path

import dicom_objects as make
import pytest
from scenario_hand import slices
from whole_region import FILES, HOST, NHS_SYSTEM, Whole, until, whole_region

from crosslight.runtime.clock import SystemClock
from crosslight.runtime.seams import system_seams
from node.setup import init_node, join_region
from registry.doctor import members_found
from registry.members.printing import members_table
from simulations.people import test_number as nhs_number

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(120)]
NUMBER = nhs_number(9301)
STUDY = "1.2.826.0.1.3680043.10.93.1"


class WrongClock(SystemClock):
    """A clock that is off by ``ahead``."""

    ahead = timedelta()

    def now(self) -> datetime:
        return super().now() + self.ahead


async def page(region: Whole) -> str:
    """The patient's page as it reads."""
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", " ", await region.page(NUMBER))))


async def coverage(region: Whole) -> str:
    """The header of the patient's answer, by FHIR and by QIDO-RS; both where they differ."""
    found = set()
    for path, params in (
        ("fhir/ImagingStudy", {"patient.identifier": f"{NHS_SYSTEM}|{NUMBER}"}),
        ("dicomweb/studies", {"PatientID": NUMBER}),
    ):
        async with region.http.get(f"{region.base}/{path}", params=params) as answer:
            found.add(re.sub(r"as-of=[^;,]*", "as-of=", answer.headers["Crosslight-Coverage"]))
    return " / ".join(sorted(found))


async def test_a_node_whose_directory_is_past_its_end_says_so(tmp_path: Path) -> None:
    clock = WrongClock()
    async with whole_region(tmp_path, {"RTK": "grpc"}, clocks={"RTK": clock}) as region:

        async def directory() -> str:
            async with region.http.get(f"{region.homes['RTK'].app.endpoints.base}/health/ready") as answer:
                return str((await answer.json())["directory"])

        await until(lambda: _is(region.homes["RTK"].app.parts.ground.membership.member.code == "RTK"))
        assert await directory() == "ok"
        clock.ahead = timedelta(hours=25)
        assert (await directory()).startswith("past its end")


async def test_a_node_whose_clock_is_off_opens_nothing_and_says_so(tmp_path: Path) -> None:
    clock = WrongClock()
    async with whole_region(tmp_path, {"RTK": "grpc", "RXC": "grpc"}, clocks={"RTK": clock}) as region:
        home = region.homes["RTK"]
        await home.add(make.part10(ds) for ds in slices(STUDY, 1, local="K1", national=NUMBER))
        await home.settled()
        frame = f"{region.base}/dicomweb/studies/{STUDY}"
        ready = f"{home.app.endpoints.base}/health/ready"

        async def health() -> tuple[int, str]:
            async with region.http.get(ready) as answer:
                return answer.status, (await answer.json())["clock"]

        async def live() -> bool:
            return await coverage(region) == "RTK;state=live;as-of=, RXC;state=live;as-of="

        assert await health() == (200, "ok")
        await until(live)
        clock.ahead = timedelta(seconds=90)
        rtk = region.registry.members.active("RTK").id
        await until(lambda: _is(region.registry.members.presence(rtk).clock_wrong))
        assert await coverage(region) == "RTK;state=clock;as-of=, RXC;state=live;as-of="
        text = await page(region)
        assert "Clock wrong by 9" in text
        assert "Cannot be opened: the clock there is wrong" in text
        assert "Open now" not in text
        assert "Complete at" in text, "it concerns opening, not the list"
        slot = await region.all_of(f"{NUMBER}^^^&2.16.840.1.113883.2.1.4.1&ISO")
        assert "state=clock" in str(slot.slots)
        async with region.http.get(frame) as answer:
            assert answer.status == 504
            assert "its clock is off by +9" in await answer.text()
        (row,) = await region.rows_of(PatientID=NUMBER)
        assert row["00080056"]["Value"] == ["UNAVAILABLE"]
        status, said = await health()
        assert status == 503
        assert said.startswith("wrong by +9")
        (found,) = members_found(region.registry.members)
        assert found.result == "fail"
        assert "gives out no images" in found.what
        clock.ahead = timedelta()
        await until(lambda: _is(not region.registry.members.presence(rtk).clock_wrong))
        await until(live)
        assert "Open now" in await page(region)

        async def well() -> bool:
            return await health() == (200, "ok")

        await until(well)
        async with region.http.get(frame) as answer:
            assert answer.status == 200


async def test_a_member_that_never_linked_was_not_lost_when_it_joined(tmp_path: Path) -> None:
    async with whole_region(tmp_path, {"RTK": "grpc"}) as region:
        registry = region.registry
        init_node(tmp_path / "n", FILES, {"listen": {"open": True, "host": HOST}})
        invitation = await registry.members.invite("RXC", registry.people_url, name="East Sussex Healthcare")
        await join_region(tmp_path / "n", invitation, system_seams())
        await until(lambda: _is(registry.members.by_code("RXC") in registry.members.all()))
        header = await coverage(region)
        assert "RXC;state=unreachable+unknown" in header
        assert "since" not in header
        async with region.http.post(f"{region.base}/search", data={"number": NUMBER}) as answer:
            text = unescape(await answer.text())
        assert "Never linked" in text
        assert "East Sussex Healthcare has never linked" in text
        bundle = await region.get(
            "fhir/ImagingStudy", params={"patient.identifier": f"{NHS_SYSTEM}|{NUMBER}"}
        )
        assert "it has never linked" in str(bundle)
        shown = [str(cell) for column in members_table(registry.members).columns for cell in column.cells]
        assert any("never linked" in cell for cell in shown)
        assert not [cell for cell in shown if "lost " in cell]
        assert "has never linked" in members_found(registry.members)[-1].what


async def _is(value: bool) -> bool:
    return value
