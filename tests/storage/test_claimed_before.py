"""A member's study that comes after an outside source's claim on its UID is told of, on both engines."""

from __future__ import annotations

from dataclasses import replace

import pytest
from foreign_region import CX, foreign_region, manifest
from registry_samples import patient, study

from crosslight.runtime.db import Db
from crosslight.standards.records import changed

BEFORE, AFTER = "a member's study comes after a source's claim", "a source claims a study that another holds"


@pytest.mark.parametrize("road", ["feed", "ITI-42"])
async def test_a_members_study_after_a_claim_is_an_alarm_once(database: Db, road: str) -> None:
    async with foreign_region(database) as region:
        room = region.xds.room
        alarms = room.acceptor.alarms
        await region.register(manifest("claimed", study_uid="1.2.840.1.5"))
        assert not alarms

        async def publishes(code: str, uid: str, n: int) -> None:
            record = changed(study(patient(room.member(code)), n), study_uid=uid)
            act = room.published(code, record, n)
            named = replace(act, patient=None, patient_cx=CX)
            said = room.grpc(code, act) if road == "feed" else room.soap(code, named)
            await room.acceptor.accept(said)

        await publishes("RTK", "1.2.840.1.6", 1)  # of which nobody else says anything
        assert not alarms
        await publishes("RTK", "1.2.840.1.5", 2)
        assert dict(alarms) == {BEFORE: 1}
        await publishes("RXC", "1.2.840.1.5", 1)
        assert dict(alarms) == {BEFORE: 1}, "once for a study"
        await region.register(manifest("claimed again", study_uid="1.2.840.1.6"))
        assert dict(alarms) == {BEFORE: 1, AFTER: 1}
