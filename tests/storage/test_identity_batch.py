"""Feeding many patients together leaves what feeding them one by one leaves (D2, D3)."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from registry_room import START
from registry_samples import NHS, REGION, member, nhs, patient

from crosslight.runtime.clock import SystemIds
from crosslight.runtime.db import Db, Tx
from crosslight.standards.ids import Identifier, MemberId
from crosslight.standards.study import Patient
from registry.identity.batch import Kind
from registry.identity.store import IdentityStore

_HOMES = [member(code, number) for number, code in enumerate(("RA2", "RPC", "RTK"), 1)]
_TABLES = ("patient_record", "national_claim", "national_number", "person_link", "former_id")


def _people(seed: int, count: int) -> list[tuple[Patient, MemberId]]:
    """Patients who share numbers, with dates of birth that agree or not; some say something else a second
    time.
    """
    r = random.Random(seed)
    found: list[tuple[Patient, MemberId]] = []
    for n in range(count):
        home = r.choice(_HOMES)
        number = nhs(r.randrange(count // 3)) if r.random() < 0.8 else ""
        born = r.choice(("19610203", "19610203", "19700101", ""))
        found.append((patient(home, f"H{n}", number=number, born=born, traced=r.random() < 0.2), home.id))
    for who, home_id in r.sample(found, count // 10):
        found.append((replace(who, birth_date="19800202"), home_id))
    found += r.sample(found, count // 10)
    return found


def _state(tx: Tx) -> dict[str, Any]:
    """Who is one person with whom, who is disputed, and who holds which number, without random keys."""
    local = {
        row[0]: (row[1], row[2])
        for row in tx.rows("SELECT record_key, authority, local_id FROM patient_record")
    }
    persons: dict[int, set[tuple[str, str]]] = {}
    for key, person in tx.rows("SELECT record_key, person_key FROM patient_record"):
        persons.setdefault(person, set()).add(local[key])
    held = tx.rows("SELECT value, person_key FROM national_number")
    described = (
        "SELECT authority, local_id, member, birth_date, family_key, traced, disputed, digest, patient FROM"
        " patient_record"
    )
    return {
        "persons": sorted(sorted(keys) for keys in persons.values()),
        "held": sorted((value, sorted(persons[key]) if key is not None else []) for value, key in held),
        "claims": sorted(
            (row[0], local[row[1]]) for row in tx.rows("SELECT value, record_key FROM national_claim")
        ),
        "records": sorted(tx.rows(described)),
    }


@pytest.mark.parametrize("seed", range(6))
async def test_together_as_one_by_one(database: Db, seed: int) -> None:
    store = IdentityStore(database, REGION, SystemIds())
    await store.open()
    people = _people(seed, 40)
    before, rest = people[:8], people[8:]
    await store.feed_all(before, START, kind="study")
    known = {who.local for who, _ in before}
    kinds: list[Kind] = []
    # whoever is new comes with a study; what changes is told by a source that is not named
    for who, _ in rest:
        kinds.append("header" if who.local in known else "study")
        known.add(who.local)

    def together(tx: Tx) -> list[int]:
        batch = store.batch(tx, START)
        batch.prefetch(who for who, _ in rest)
        keys = [batch.feed(who, home, kind=kind) for (who, home), kind in zip(rest, kinds, strict=True)]
        batch.settle()
        return [int(key) for key in keys]

    keys = await database.write("together", together)
    got = await database.read("state", _state)
    by_local = {who.local: key for (who, _), key in zip(rest, keys, strict=True)}
    for who, key in by_local.items():
        found = await store.find_cx(who)
        assert found is not None
        assert found.record is not None
        assert found.record.key == key

    def clear(tx: Tx) -> None:
        for table in _TABLES:
            tx.execute(f"DELETE FROM {table}")

    await database.write("clear", clear)
    for (who, home), kind in zip(people, ["study"] * len(before) + kinds, strict=True):
        await store.feed(who, home, START, kind=kind)
    assert got == await database.read("state", _state)


async def test_a_number_that_was_merged_away_is_followed(database: Db) -> None:
    store = IdentityStore(database, REGION, SystemIds())
    await store.open()
    kept, gone = Identifier(nhs(1), NHS), Identifier(nhs(2), NHS)
    await store.feed(patient(_HOMES[0], "A", number=kept.value), _HOMES[0].id, START)
    await store.feed(patient(_HOMES[0], "B", number=gone.value), _HOMES[0].id, START)
    await store.merge(kept, gone, START)
    newcomers = [patient(_HOMES[1], "C", number=gone.value), patient(_HOMES[1], "D", number=nhs(3))]

    def together(tx: Tx) -> None:
        batch = store.batch(tx, START)
        batch.prefetch(newcomers)
        for who in newcomers:
            batch.feed(who, _HOMES[1].id, kind="study")
        batch.settle()

    await database.write("together", together)
    survivor = await store.find_cx(kept)
    assert survivor is not None
    assert {r.patient.local.value for r in survivor.person.records} == {"A", "B", "C"}
