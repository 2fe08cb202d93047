"""How many bytes an act takes: a search that finds twenty studies of a person with four numbers."""

from __future__ import annotations

import asyncio

from callers import caller

from crosslight.runtime.audit import About, AuditLog
from crosslight.runtime.clock import SystemClock, SystemIds
from crosslight.runtime.db import Db, Tx
from crosslight.standards.access import Principal
from crosslight.standards.ids import Identifier

NHS = "2.16.840.1.113883.2.1.4.1"
REGION = "2.25.262836881501386318401882857651762740850.10.1"
PATIENTS, TIMES, STUDIES = 150, 4, 20
OF_ACTS, OF_PATIENTS, NAMES = (
    ("audit_act", "audit_outcome"),
    ("audit_whom", "audit_patient_whom"),
    ("audit_said", "audit_study", "audit_authority"),
)
MOST = {"sqlite": 400, "postgres": 600}  # bytes an act with outcome and indexes; pages begun count


def about(patient: int) -> About:
    number = f"999{patient:07}"
    asked = {"identifiers": [{"value": number, "authority": NHS}]}
    return About(
        patients=[
            Identifier(number, NHS),
            *(Identifier(f"K{patient:06}{m}", f"{REGION}.{m}") for m in range(3)),
        ],
        studies=[f"1.2.840.113619.2.55.3.604688119.{patient:05}.1599049472.{n:03}" for n in range(STUDIES)],
        query={
            "ByPatient": {"patient": asked, "filter": {}, "limit": 50},
            "found": {"patients": 1, "studies": STUDIES},
        },
    )


def _sizes(tx: Tx) -> list[int]:
    """Bytes with indexes."""
    return [sum(sum(tx.table_bytes(t)) for t in tables) for tables in (OF_ACTS, OF_PATIENTS, NAMES)]


async def test_an_act_is_small_and_a_study_is_named_once(database: Db) -> None:
    audit, ids = AuditLog(database, SystemClock()), SystemIds()
    await audit.open()
    people = [
        Principal(subject=f"person:{n}", name=f"Dr {n}", roles=frozenset({"clinician"}), organisation="RA2",
                  evidence="session", credential=f"session {n:016x}")
        for n in range(10)
    ]  # fmt: skip

    async def search(n: int) -> None:
        who = caller(people[n % 10], ids.uuid4().hex, "10.20.30.40")
        async with audit.act(who, "fhir", "search", about(n % PATIENTS), lazy=True) as act:
            act.done(given=STUDIES)

    empty = await database.read("sizes", _sizes)
    for start in range(0, PATIENTS * TIMES, 50):
        await asyncio.gather(*(search(n) for n in range(start, start + 50)))
    await audit.settle()

    sizes = await database.read("sizes", _sizes)
    acts, patients, names = (now - before for before, now in zip(empty, sizes, strict=True))
    assert acts / (PATIENTS * TIMES) < MOST[database.dialect.name]
    assert patients / PATIENTS < 1400, "bytes a person with four numbers, once a year"
    assert names / (PATIENTS * STUDIES) < 200, "bytes a study, once a year"
    [seen, *others] = await audit.search(patient=Identifier("9990000007"))
    assert len(others) == TIMES - 1
    assert (seen.text, list(seen.studies)) == ("ok 20 given", sorted(about(7).studies))
    assert seen.query == about(7).query
