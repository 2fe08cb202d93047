"""IdentityStore on both engines."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any, TypeVar

import pytest

from crosslight.runtime.clock import SystemIds
from crosslight.runtime.db import Db, Tx
from crosslight.standards.dicom.record.record import Claim, outside, unidentified
from crosslight.standards.ids import CHI_OID, NHS_NUMBER_OID, Identifier, MemberId, Oid
from crosslight.standards.problem import Invalid, NotFound
from crosslight.standards.region import Region
from crosslight.standards.study import Patient, PersonName
from registry.identity.model import PatientSelector, Person, RecordKey
from registry.identity.store import IdentityStore

T = TypeVar("T")
NOW = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
REGION = Region(
    name="Test", home_community_id=Oid("1.2.3"), authority=Oid("1.2.3.9"), national_authority=NHS_NUMBER_OID,
    allow_test_numbers=True, other_nationals=(CHI_OID,),
)  # fmt: skip
A, B, C, D = (Oid(f"1.2.3.4.{n}") for n in range(1, 5))
N1 = Identifier("9990000018", NHS_NUMBER_OID)
N2 = Identifier("9990000026", NHS_NUMBER_OID)


class Fed:
    """A store and a clock of its own."""

    def __init__(self, db: Db, region: Region = REGION) -> None:
        self.db, self.store, self.now = db, IdentityStore(db, region, SystemIds()), NOW

    async def feed(
        self,
        authority: str,
        value: str,
        *numbers: Identifier,
        birth: str = "19500101",
        pn: str = "DOE^Ann",
        **more: Any,
    ) -> RecordKey:
        self.now += timedelta(seconds=1)
        how = {k: more.pop(k) for k in ("who", "erase") if k in more}
        patient = Patient(
            local=Identifier(value, authority), others=numbers, name=PersonName(pn), birth_date=birth, **more
        )
        return await self.store.feed(patient, MemberId(int(authority[-1:] or 0)), self.now, **how)

    async def run(self, fn: Callable[[Tx], T]) -> T:
        return await self.db.write("test", fn)

    async def person(self, key: RecordKey) -> Person:
        return (await self.run(lambda tx: self.store.persons_for_tx(tx, [key])))[key]

    async def select(self, **selector: Any) -> list[Person]:
        return await self.run(lambda tx: self.store.select_tx(tx, PatientSelector(**selector), 20))

    async def disputed(self, *numbers: Identifier) -> set[RecordKey]:
        return {r.key for r in await self.run(lambda tx: self.store.disputed_for_tx(tx, numbers))}


@pytest.fixture
async def fed(database: Db) -> Fed:
    made = Fed(database)
    await made.store.open()
    await made.store.open()  # idempotent
    return made


async def test_feeding_is_idempotent_and_links(fed: Fed) -> None:
    one = await fed.feed(A, "a1", N1)
    assert await fed.feed(A, "a1", N1) == one
    two = await fed.feed(B, "b7", N1)
    person = await fed.person(one)
    assert {r.key for r in person.records} == {one, two}
    assert person == await fed.person(two)
    assert person.domain_id == N1
    assert not person.differs
    assert person.records[0].national == (N1,)
    assert [p.key for p in await fed.select(identifiers=(Identifier("999 000 0018"),))] == [person.key]
    assert [p.key for p in await fed.select(identifiers=(Identifier("b7", B),))] == [person.key]
    assert [p.key for p in await fed.select(identifiers=(Identifier("b7"),))] == [person.key]
    assert [p.key for p in await fed.select(fhir_id=person.fhir_id)] == [person.key]
    assert await fed.select(identifiers=(Identifier("nobody"),)) == []


async def test_what_was_sent_as_several_ids_finds_its_study_and_joins_nobody(fed: Fed) -> None:
    sent = "X\\1"
    one = await fed.feed(A, unidentified("1.2.3", sent))
    two = await fed.feed(A, unidentified("1.2.4", sent), pn="ROE^Bob", birth="19900202")
    await fed.feed(A, unidentified("1.2.5", "X\\2"))
    found = await fed.select(identifiers=(Identifier(sent),))
    assert {r.key for p in found for r in p.records} == {one, two}
    assert len(found) == 2
    for value in ("X", "1", "X1"):
        assert await fed.select(identifiers=(Identifier(value),)) == []


async def test_local_numbers_never_join(fed: Fed) -> None:
    one, two = await fed.feed(A, "77"), await fed.feed(B, "77")
    assert (await fed.person(one)).key != (await fed.person(two)).key
    minted = (await fed.person(one)).domain_id
    assert minted.authority == REGION.authority
    target = await fed.store.find_cx(minted)
    assert target is not None
    assert target.person.records[0].key == one


async def test_an_outside_study_is_found_by_its_original_number(fed: Fed) -> None:
    """It is a record of its own (ADR 0023): nothing joins it but a national number, and the number that came
    with it finds it.
    """
    claim = Claim("K77", "1.9.9", "")
    first = await fed.feed(A, outside(claim, "1.2.1"), Identifier("K77", "1.9.9"))
    second = await fed.feed(A, outside(claim, "1.2.2"), Identifier("K77", "1.9.9"), pn="ROE^Bob")
    await fed.feed(A, outside(Claim("K77", "1.9.8", ""), "1.2.3"), Identifier("K77", "1.9.8"))
    own = await fed.feed(A, "K77")
    assert (await fed.person(first)).key != (await fed.person(second)).key
    found = await fed.select(identifiers=(Identifier("K77", "1.9.9"),))
    assert {r.key for p in found for r in p.records} == {first, second}
    assert len(await fed.select(identifiers=(Identifier("K77"),))) == 4, "of any issuer"
    assert [p.records[0].key for p in await fed.select(identifiers=(Identifier("K77", A),))] == [own]
    assert await fed.select(identifiers=(Identifier("K78", "1.9.9"),)) == []


@pytest.mark.parametrize("order", list(permutations(range(4))))
async def test_disputes_are_the_same_in_any_order(fed: Fed, order: tuple[int, ...]) -> None:
    feeds = [(A, "19500101"), (B, "19500101"), (C, "19500101"), (D, "19660606")]
    keys: dict[int, RecordKey] = {}
    for i in order:
        authority, birth = feeds[i]
        keys[i] = await fed.feed(authority, "x", N1, birth=birth)
    assert {r.key for r in (await fed.person(keys[0])).records} == {keys[0], keys[1], keys[2]}
    alone = await fed.person(keys[3])
    assert [r.key for r in alone.records] == [keys[3]]
    assert alone.records[0].disputed
    assert alone.domain_id.authority == REGION.authority
    assert await fed.disputed(N1) == {keys[3]}
    assert await fed.disputed(Identifier("9990000018")) == {keys[3]}
    assert [r.key for r in await fed.store.waiting()] == [keys[3]]
    [found] = await fed.select(identifiers=(N1,))
    assert found.key != alone.key


async def test_random_feeds_in_random_orders_end_in_the_same_persons(fed: Fed) -> None:
    rng = random.Random(7)
    claimed = (N1, N2, Identifier("9990000018", CHI_OID))
    for round_ in range(12):
        region = [(rng.choice((A, B, C)), f"{round_}-{i}") for i in range(5)]
        feeds = [
            (
                a,
                v,
                tuple(rng.sample(claimed, rng.randrange(3))),
                rng.choice(("19500101", "19660606")),
                rng.random() < 0.3,
            )
            for a, v in region
        ]
        seen = []
        for _ in range(3):
            await fed.run(
                lambda tx: [
                    tx.execute(f"DELETE FROM {t}")
                    for t in ("patient_record", "national_claim", "national_number", "former_id")
                ]
            )
            rng.shuffle(feeds)
            keys = {
                v: await fed.feed(a, v, *numbers, birth=birth, traced=traced)
                for a, v, numbers, birth, traced in feeds
            }
            persons = await fed.run(lambda tx, keys=keys: fed.store.persons_for_tx(tx, keys.values()))  # type: ignore[misc]
            seen.append(
                {
                    v: (
                        frozenset(r.patient.local.value for r in persons[k].records),
                        persons[k].records[0].disputed,
                        persons[k].domain_id if persons[k].domain_id.authority != REGION.authority else None,
                    )
                    for v, k in keys.items()
                }
            )
        assert seen[0] == seen[1] == seen[2]


async def test_a_correction_relinks_and_history_tells(fed: Fed) -> None:
    one, two = await fed.feed(A, "a", N1), await fed.feed(B, "b", N1)
    old = await fed.person(two)
    await fed.feed(B, "b", N2)
    assert (await fed.person(two)).domain_id == N2
    assert [r.key for r in (await fed.person(one)).records] == [one]
    await fed.feed(B, "b", N1)
    assert (await fed.person(two)).fhir_id == old.fhir_id
    history = await fed.run(lambda tx: fed.store.history_tx(tx, two))
    assert [(e.from_person == e.to_person, e.why) for e in history] == [(False, "feed")] * 3
    assert history[0].to_person == history[2].to_person == old.key


async def test_a_former_national_id_is_an_alias_until_somebody_claims_it(fed: Fed) -> None:
    one = await fed.feed(A, "a", N1)
    await fed.feed(A, "a", N2)
    target = await fed.store.find_cx(N1)
    assert target is not None
    assert (target.person.records[0].key, target.person.domain_id, target.subsumed) == (one, N2, False)
    assert await fed.select(identifiers=(Identifier(N1.value),)) == [], "a search is not a stored reference"
    other = await fed.feed(B, "b", N1, birth="19770707")
    target = await fed.store.find_cx(N1)
    assert target is not None
    assert target.person.records[0].key == other


async def test_blanks_do_not_erase_and_an_empty_identifier_withdraws(fed: Fed) -> None:
    one = await fed.feed(A, "a", N1, postcode="GU2 7XX", sex="F")
    await fed.feed(A, "a", pn="", birth="")
    person = await fed.person(one)
    assert person.domain_id == N1
    assert (person.banner.name.pn, person.banner.sex, person.banner.postcode, person.banner.birth_date) == (
        "DOE^Ann",
        "F",
        "GU2 7XX",
        "19500101",
    )
    await fed.feed(A, "a", Identifier("", NHS_NUMBER_OID), erase=frozenset({"sex"}))
    person = await fed.person(one)
    assert person.domain_id.authority == REGION.authority
    assert person.banner.sex == ""


async def test_traced_is_remembered_for_the_same_number(fed: Fed) -> None:
    one = await fed.feed(A, "a", N1, traced=True)
    await fed.feed(A, "a", N1, traced=False, pn="DOE^Anna")  # a study's header knows nothing of tracing
    two = await fed.feed(B, "b", N1, birth="19660606")
    assert (await fed.person(two)).records[0].disputed
    assert not (await fed.person(one)).records[0].disputed


async def test_the_banner_follows_the_newest_study_and_says_when_records_differ(fed: Fed) -> None:
    one, two = await fed.feed(A, "a", N1, pn="DOE^Ann"), await fed.feed(B, "b", N1, pn="SMITH^Ann")
    await fed.run(lambda tx: fed.store.touch_tx(tx, one, NOW))
    await fed.run(lambda tx: fed.store.touch_tx(tx, two, NOW - timedelta(days=9)))
    person = await fed.person(one)
    assert person.differs
    assert person.banner.name.family == "DOE"
    await fed.run(lambda tx: fed.store.touch_tx(tx, two, NOW + timedelta(days=1)))
    assert (await fed.person(one)).banner.name.family == "SMITH"


async def test_search_by_name_and_birth_date(fed: Fed) -> None:
    one = await fed.feed(A, "a", N1, pn="Müller-Lüdenscheidt^Zoë")
    two = await fed.feed(B, "b", pn="MULLER LUDENSCHEIDT^Zoe")
    disputed = await fed.feed(C, "c", pn="Muller Ludenscheidt^Zoe", birth="19500101")
    await fed.feed(C, "c2", N1, pn="Muller Ludenscheidt^Zoe", birth="19500102", traced=True)
    found = await fed.select(family="müller-lüdenscheidt", birth_date="19500101")
    assert {p.records[0].key for p in found} == {
        two,
        disputed,
    }, "the holder of N1 is traced elsewhere: one is disputed now"
    assert (await fed.person(one)).records[0].disputed
    assert await fed.select(family="Muller Ludenscheidt", birth_date="19500101", given="x") == []
    assert await fed.select(family="Muller Ludenscheidt") == []
    exact = await fed.select(family="Muller Ludenscheidt", birth_date="19500101", given="ZOE")
    assert exact[0].records[0].key in {two, disputed}


async def test_test_numbers_only_by_configuration(database: Db) -> None:
    fed = Fed(database, replace(REGION, allow_test_numbers=False))
    await fed.store.open()
    one, two = await fed.feed(A, "a", N1), await fed.feed(B, "b", N1)
    assert (await fed.person(one)).key != (await fed.person(two)).key
    with pytest.raises(Invalid):
        await fed.feed(NHS_NUMBER_OID, N1.value)
    with pytest.raises(Invalid):
        await fed.feed("", "a")


async def test_merge_of_local_ids(fed: Fed) -> None:
    kept, gone, far = await fed.feed(A, "keep"), await fed.feed(A, "gone", N1), await fed.feed(B, "b", N1)
    await fed.store.merge(Identifier("keep", A), Identifier("gone", A), fed.now)
    person = await fed.person(kept)
    assert {r.key for r in person.records} == {kept, gone, far}, "the survivor inherits the number"
    target = await fed.store.find_cx(Identifier("gone", A))
    assert target is not None
    assert target.subsumed
    assert target.person.key == person.key
    assert await fed.select(identifiers=(Identifier("gone", A),)) == []
    for into, lost in (("keep", "gone"), ("gone", "keep"), ("keep", "keep")):
        with pytest.raises(Invalid):
            await fed.store.merge(Identifier(into, A), Identifier(lost, A), fed.now)
    with pytest.raises(NotFound):
        await fed.store.merge(Identifier("keep", A), Identifier("never", A), fed.now)
    third = await fed.feed(A, "third")
    await fed.store.merge(Identifier("third", A), Identifier("keep", A), fed.now)  # a chain
    assert (await fed.person(third)).key == (await fed.person(gone)).key == (await fed.person(far)).key
    await fed.run(
        lambda tx: fed.store.unmerge_tx(tx, Identifier("keep", A), fed.now, who="ann", why="wrong pair")
    )
    await fed.run(
        lambda tx: fed.store.unmerge_tx(tx, Identifier("gone", A), fed.now, who="ann", why="wrong pair")
    )
    assert [r.key for r in (await fed.person(third)).records] == [third]
    assert [r.key for r in (await fed.person(kept)).records] == [kept]
    assert {r.key for r in (await fed.person(far)).records} == {gone, far}


async def test_merge_of_domain_ids(fed: Fed) -> None:
    one, two = await fed.feed(A, "a", N1), await fed.feed(B, "b", N2, birth="19660606")
    three = await fed.feed(C, "c")
    await fed.store.merge(N1, N2, fed.now)
    person = await fed.person(one)
    assert {r.key for r in person.records} == {one, two}
    assert person.domain_id == N1
    target = await fed.store.find_cx(N2)
    assert target is not None
    assert target.subsumed
    assert (await fed.person(await fed.feed(D, "d", N2, birth="19660606"))).key == person.key, (
        "a late claim of the merged number joins its survivor"
    )
    minted = (await fed.person(three)).domain_id
    await fed.store.merge(N1, minted, fed.now)
    assert {one, two, three} < {r.key for r in (await fed.person(one)).records}
    target = await fed.store.find_cx(minted)
    assert target is not None
    assert target.subsumed
    local = await fed.store.find_cx(Identifier("c", C))
    assert local is not None
    assert not local.subsumed
    await fed.run(lambda tx: fed.store.unmerge_tx(tx, minted, fed.now, who="ann", why="x"))
    await fed.run(lambda tx: fed.store.unmerge_tx(tx, N2, fed.now, who="ann", why="x"))
    assert (await fed.person(two)).domain_id == N2
    assert (await fed.person(three)).domain_id == minted


async def test_people_link_and_take_it_back(fed: Fed) -> None:
    one, two = await fed.feed(A, "a", N1), await fed.feed(B, "b")
    decision = await fed.run(
        lambda tx: fed.store.decide_tx(tx, one, two, fed.now, who="ann", why="same address")
    )
    assert {r.key for r in (await fed.person(one)).records} == {one, two}
    await fed.run(lambda tx: fed.store.end_decision_tx(tx, decision, fed.now, who="bob", why="no"))
    assert [r.key for r in (await fed.person(two)).records] == [two]
    await fed.feed(B, "b", N1)
    await fed.run(lambda tx: fed.store.decide_tx(tx, two, None, fed.now, who="ann", why="not her"))
    assert [r.key for r in (await fed.person(two)).records] == [two]
    assert await fed.disputed(N1) == {two}
    events = await fed.run(lambda tx: fed.store.history_tx(tx, two))
    assert [e.why for e in events] == ["same address", "no", "feed", "not her"]
    with pytest.raises(NotFound):
        await fed.run(lambda tx: fed.store.end_decision_tx(tx, decision, fed.now, who="bob", why="again"))


async def test_concurrent_feeds_of_one_number_end_in_one_person(fed: Fed) -> None:
    keys = await asyncio.gather(
        *(
            fed.store.feed(
                Patient(local=Identifier(f"p{i}", (A, B, C)[i % 3]), others=(N1,), birth_date="19500101"),
                MemberId(i % 3),
                NOW,
            )
            for i in range(24)
        )
    )
    persons = await fed.run(lambda tx: fed.store.persons_for_tx(tx, keys))
    assert len({p.key for p in persons.values()}) == 1


async def test_an_ideographic_family_name_is_found_too(fed: Fed) -> None:
    one = await fed.feed(A, "a", pn="Yamada^Tarou=山田^太郎=やまだ^たろう")
    for family, given in (("yamada", ""), ("山田", "太郎"), ("Yamada", "tarou")):
        found = await fed.select(family=family, given=given, birth_date="19500101")
        assert [p.records[0].key for p in found] == [one]
