"""Exports are counted for each caller by the hour, in every process of a registry alike (ADR 0037)."""

from __future__ import annotations

from datetime import timedelta

import pytest
from callers import caller
from registry_room import clinician, make_room, room_config

from crosslight.runtime.db import Db
from crosslight.standards.access import Decision
from crosslight.standards.problem import Forbidden, OverRate
from registry.ask.config import AskConfig
from registry.ask.permit_store import PermitStore
from registry.ask.permits import Permits
from registry.ask.question import ByPopulation, StudyFilter

CONFIG = AskConfig(exports_per_hour=3, export_refusals=2, export_alarm_minutes=5)
YES, NO = Decision(True, "exporter"), Decision(False, "no role")


async def test_an_hour_has_so_many_exports_of_one_caller_and_the_next_is_another(database: Db) -> None:
    room = await make_room(database, config=room_config(ask=CONFIG))
    first, second = (Permits(PermitStore(database), CONFIG, room.clock) for _ in range(2))
    somebody, other = caller(clinician("RTK", "exporter")), caller(clinician("RXC", "exporter"))
    for permits in (first, second, first):
        assert (await permits.export(somebody, "fhir", YES))[0].permit
    decision, refusal = await second.export(somebody, "fhir", YES)
    assert (decision.permit, type(refusal), refusal.http_status) == (False, OverRate, 429)
    assert second.health()["exports"]["alarm"]
    assert (await first.export(other, "fhir", YES))[0].permit, "each has a share of their own"
    room.clock.moment += timedelta(hours=1)
    assert (await first.export(somebody, "fhir", YES))[0].permit
    assert not second.health()["exports"]["alarm"], "that was long ago"


async def test_tries_of_somebody_who_may_not_are_an_alarm(database: Db) -> None:
    room = await make_room(database, config=room_config(ask=CONFIG))
    curious = caller(clinician("RTK"))
    for alarm in (False, True):
        decision, refusal = await room.ask.permits.export(curious, "dicomweb", NO)
        assert (decision.permit, type(refusal)) == (False, Forbidden)
        assert room.ask.permits.health()["exports"] == {
            "answered": 0,
            "refused": 1 + alarm,
            "limited": 0,
            "alarm": alarm,
        }


async def test_a_question_beyond_the_share_is_refused_and_audited(database: Db) -> None:
    room = await make_room(database, config=room_config(ask=CONFIG))
    question = ByPopulation(filter=StudyFilter())
    for _ in range(3):
        await room.asked(question)
    with pytest.raises(OverRate):
        await room.asked(question)
    await room.audit.settle()
    act = (await room.audit.search())[0]
    assert (act.action, act.decision, act.rule) == ("export", "deny", "more than 3 exports in an hour")
