"""One trust that sends another birth date for a number, and calls it traced, captures nothing (H4)."""

from __future__ import annotations

import pytest
from adt_door import NHS, RTK, RXC, certified, opened_door

from crosslight.runtime.clock import SystemClock
from crosslight.runtime.db import Db
from crosslight.standards.ids import NHS_NUMBER_OID, Identifier, MemberId
from crosslight.standards.study import Patient, PersonName

NUMBER = Identifier(NHS, NHS_NUMBER_OID)
TRACED = "|" * 24 + "01"  # PID-32


@pytest.mark.parametrize("settled", [True, False], ids=["filled", "while-it-is-filled"])
@pytest.mark.parametrize("later", [True, False], ids=["it-comes-last", "it-was-there-first"])
async def test_one_traced_a08_takes_a_number_from_nobody(database: Db, settled: bool, later: bool) -> None:
    door = await opened_door(database)  # RTK is named in identity.traced_from; RXC is not

    async def captured() -> None:
        stranger = f"||STRANGER^Anna||19990909|F{TRACED}"
        pid3 = f"evil^^^&{RXC}&ISO~{NHS}^^^NHS"
        ack = await door.send(pid3, certified("member/RXC"), event="A08", more=stranger)
        assert ack.code == "AA", ack.text

    if not later:
        await captured()
    for n, authority in ((1, RTK), (3, "1.2.826.0.1.2.3")):
        who = Patient(
            local=Identifier(f"v{n}", authority),
            others=(NUMBER,),
            name=PersonName("DOE^Ann"),
            birth_date="19500101",
        )
        await door.store.feed(who, MemberId(n), SystemClock().now())
    if settled:
        await door.store.settle_holders()
    await captured()  # of whom was there first: once more
    found = await door.person(NHS, NHS_NUMBER_OID)
    assert found is not None
    assert {record.patient.local.value for record in found.records} == {"v1", "v3"}
    [waits] = await door.store.waiting()
    assert waits.patient.local.value == "evil"
    assert waits.disputed
    if settled and later:
        assert door.store.alarms["number claimed by two"] == 1
