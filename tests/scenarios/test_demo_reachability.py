"""A node stops answering: every face says so within 8 s and since when, also across a restart of the
registry.
"""

from __future__ import annotations

import signal
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from scenario_demo import STORY_S, Demo, Told
from scenario_processes import signal_to, until

from crosslight.client.dicomweb import value

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(2 * STORY_S)]
STUDY_UID, AVAILABILITY, HOLDER = "0020000D", "00080056", "RTK"
SHOWN_S = 8.0


async def issue_of(told: Told, number: str, code: str) -> dict[str, Any] | None:
    """The FHIR warning about a member's reachability."""
    answer = await told.by_number(number)
    found = [
        i
        for i in answer.issues
        if f"member={code} " in i.get("diagnostics", "") and i["severity"] == "warning"
    ]
    return found[0] if found and "unreachable" in found[0]["diagnostics"] else None


def since_of(issue: dict[str, Any]) -> datetime:
    """Since when, as the issue's machine part says."""
    text: str = issue["diagnostics"].partition("since=")[2]
    return datetime.fromisoformat(text.split()[0])


async def test_a_stopped_node_shows_everywhere_and_so_does_its_return(secured: Demo) -> None:
    told = secured.up()
    patient = told.traveller()
    number, mine = patient["nhs_number"], {s["study_uid"] for s in patient["studies"]}
    theirs = next(s["study_uid"] for s in patient["studies"] if s["node"] == HOLDER)
    name, pid = told.node(HOLDER)["name"], told.node(HOLDER)["pid"]
    assert await issue_of(told, number, HOLDER) is None
    assert "Not reachable" not in (await told.page(number)).coverage

    stopped, began = datetime.now(UTC), time.monotonic()
    signal_to(pid, signal.SIGSTOP)
    try:
        issue, took = await until("FHIR warns", lambda: issue_of(told, number, HOLDER), SHOWN_S)
        assert issue is not None
        print(f"shown after {took:.1f} s: {issue['details']['text']}")
        assert name in issue["details"]["text"]
        assert f"({HOLDER})" in issue["details"]["text"]
        since = since_of(issue)
        assert timedelta(seconds=-3) < since - stopped < timedelta(seconds=1), (
            "since the last that was heard of it"
        )
        await everywhere(told, number, mine, theirs)
        assert time.monotonic() - began < SHOWN_S + 5

        # the registry forgets nothing: since when is the same after it was killed and came back
        before = told.registry["pid"]
        signal_to(before, signal.SIGKILL)

        async def again() -> bool:
            return (
                secured.told().registry["pid"] != before and await issue_of(told, number, HOLDER) is not None
            )

        await until("the registry is back", again, 40)
        after = await issue_of(told, number, HOLDER)
        assert after is not None
        assert since_of(after) == since
        assert name in after["details"]["text"]
    finally:
        signal_to(pid, signal.SIGCONT)
    assert pid == secured.told().node(HOLDER)["pid"]

    async def live() -> bool:
        answer = await told.by_number(number)
        return not [w for w in answer.warnings if "unreachable" in w] and set(answer.study_uids) == mine

    await until("all are live again", live, 20)
    async with told.dicomweb() as region:
        rows, _ = await region.search("studies", PatientID=number)
    assert {value(r, AVAILABILITY) for r in rows} == {"ONLINE"}
    assert "Not reachable" not in (await told.page(number)).coverage
    async with told.dicomweb() as region:
        assert [data async for data in region.instances(f"studies/{theirs}")], (
            "its images can be opened again"
        )


async def everywhere(told: Told, number: str, mine: set[str], theirs: str) -> None:
    """What the other faces say while the holder does not answer."""
    assert set((await told.by_number(number)).study_uids) == mine, "its studies stay listed"
    async with told.dicomweb() as region:
        rows, headers = await region.search("studies", PatientID=number)
    assert {value(r, STUDY_UID): value(r, AVAILABILITY) == "ONLINE" for r in rows} == {
        uid: uid != theirs for uid in mine
    }
    assert headers["Warning"].startswith("299 ")
    assert f"{HOLDER};state=unreachable" in headers["Crosslight-Coverage"]

    answer = await told.find_documents(number)
    assert {e.study_uid for e in answer.entries} == mine
    assert "state=unreachable" in answer.slots[f"urn:crosslight:coverage:{HOLDER}"]
    assert "state=live" in answer.slots["urn:crosslight:coverage:RXC"]
    assert [e.severity.rsplit(":", 1)[-1] for e in answer.errors] == ["Warning"], "one warning, no error"
    assert HOLDER in answer.errors[0].context
    assert answer.status.endswith(":Success")

    page = await told.page(number)
    assert page.study_uids == mine
    assert "Not reachable since" in page.coverage

    opened = await told.http(
        "GET",
        f"{told.registry['dicomweb']}/studies/{theirs}",
        token=told.token("clinician"),
        headers={"Accept": 'multipart/related; type="application/dicom"'},
    )
    assert opened.status == 504, opened.body
    assert HOLDER.encode() in opened.body, "it says who is missing"
