"""The identity officer's page of a merge that a source asked for: both sides, both decisions, its undoing."""

from __future__ import annotations

import re
from dataclasses import replace

from aiohttp.test_utils import TestClient, TestServer
from page_region import page_of
from registry_room import clinician, make_room
from registry_samples import NHS, nhs, patient, study

from crosslight.runtime.db import Db
from crosslight.standards.ids import Identifier, MemberId

OFFICER = replace(clinician("RTK", "identity"), name="Jo Officer", evidence="session")


async def test_a_merge_that_a_source_asked_for_is_decided_on_the_page(database: Db) -> None:
    room = await make_room(database)
    rtk, rxc = room.member("RTK"), room.member("RXC")
    for n, (home, who) in enumerate(
        (
            (rtk, patient(rtk, "A1", number=nhs(1), family="Alpha", given="Anna", born="19800101")),
            (rxc, patient(rxc, "B1", number=nhs(2), family="Alpha", given="Anne", born="19800101")),
        ),
        1,
    ):
        assert await room.publish(home.code, study(who, n), n) == "accepted"
    numbers = [Identifier(nhs(n), NHS) for n in (1, 2)]
    waits = await room.identity.ask_merge(
        *numbers, room.clock.now(), member=MemberId(rtk.id), source=f"member:{rtk.id}", who="<b>member:RTK"
    )
    assert not waits
    async with TestClient(TestServer(page_of(room, principal=OFFICER))) as client:
        async with client.get("/identity") as answer:
            queue = await answer.text()
        assert "Said to be one person with another" in queue
        found = re.search(r'href="(/identity/[0-9A-Z-]+)"', queue)
        assert found
        async with client.get(found[1]) as answer:
            page = await answer.text()
        for said in (
            nhs(1),
            nhs(2),
            "a source says that they are one person",
            "Two people",
            "&lt;b&gt;member:RTK",
        ):
            assert said in page, said
        assert "<b>member" not in page
        version = re.search(r'name="version" value="([0-9a-f]+)"', page)
        same = re.search(r'value="(same [0-9A-Z-]+)"', page)
        assert version
        assert same
        form = {"verdict": same[1], "reason": "one person by the files", "version": version[1]}
        async with client.post(f"{found[1]}/decide", data=form) as answer:
            assert answer.status == 200
            page = await answer.text()
        assert "Nothing waits here." in page
        assert "A merge is undone on the command line." in page
        async with client.get("/identity") as answer:
            assert "Nothing waits." in await answer.text()
