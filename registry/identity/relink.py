"""Applying D3 to the tables.

Load everything that a change can touch, group it, write what moved, with history (D2).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from crosslight.runtime.db import Tx
from crosslight.standards.ids import Identifier, MemberId
from crosslight.standards.problem import Conflict
from registry.identity.linking import Claimant, link
from registry.identity.model import PatientRecord, RecordChange
from registry.identity.numbers import canonicals, claimants, crowded, holders, lock_numbers
from registry.identity.rows import Stored, chunks, load_by, marks
from registry.identity.tables import IdentityTables

#: A number that more records claim than this is a source's placeholder. Its claimants are not looked at
#: together any more: of two groups that come together no more than so many records join by it. Whoever holds
#: it goes on holding it; whoever else claims it is disputed.
CROWD = 200
MAX_CLUSTER = 5000  # records in one change: more are a fault of ours


@dataclass(slots=True)
class _Cluster:
    """Records that a change can touch, by key; subsumed ones apart, for they follow their survivor."""

    records: dict[int, Stored] = field(default_factory=dict)
    numbers: set[Identifier] = field(default_factory=set)
    # of every number that a record claims
    canonical: dict[Identifier, Identifier] = field(default_factory=dict)
    # numbers of which only who holds them, and who changed, is here
    crowded: set[Identifier] = field(default_factory=set)
    same: set[tuple[int, int]] = field(default_factory=set)
    apart: set[int] = field(default_factory=set)


def relink(
    tx: Tx,
    store: IdentityTables,
    seeds: Collection[int],
    numbers: Collection[Identifier],
    *,
    at: int,
    who: str,
    why: str,
) -> None:
    """Group anew the records ``seeds`` and the claimants of ``numbers``.

    With them all records that they share numbers or decisions with.
    """
    cluster = _gather(tx, set(seeds), set(numbers))
    followers = {
        key: _root(cluster, key) for key, s in cluster.records.items() if s.record.subsumed_by is not None
    }
    claims = _claims(cluster, followers, store)
    before = holders(tx, cluster.numbers)
    linked = link(
        list(claims.values()),
        same=_rooted(cluster.same, followers),
        apart={followers.get(k, k) for k in cluster.apart},
        held_before=_held_before(cluster, before, followers, seeds) if store.settled else {},
        closed=_closed(cluster, before, claims),
    )
    person_of: dict[int, int] = {}
    for group in linked.groups:
        anchor = min(group, key=lambda key: cluster.records[key].seniority)
        person_of.update(dict.fromkeys(group, anchor))
    for key, root in followers.items():
        person_of[key] = person_of[root]
    disputed = {k for k in cluster.records if followers.get(k, k) in linked.disputed}
    for member in _alarming(tx, cluster, disputed) if store.settled else ():
        store.alarm(member)
    moved = _write_moves(tx, cluster, person_of, disputed, at, who, why)
    kind: RecordChange = "merged" if why == "merge" else "linked"
    store.moved(
        tx, (cluster.records[key].record for key in moved if cluster.records[key].created != at), at, kind
    )
    holding = dict.fromkeys(cluster.crowded) | {
        n: person_of[min(g)] if g else None for n, g in linked.holders.items()
    }
    _write_holders(tx, cluster, before, holding, at)
    contested = any((key in disputed) != cluster.records[key].record.disputed for key in moved)
    described = [r for r in _holding(cluster, before, holding, contested) if r.key not in moved]
    store.moved(
        tx, (record for record in described if cluster.records[record.key].created != at), at, "described"
    )


def _held_before(
    cluster: _Cluster,
    before: dict[Identifier, int | None],
    followers: dict[int, int],
    changed: Collection[int],
) -> dict[Identifier, list[int]]:
    """The records of the person who holds each number now.

    Where they part, those that stayed as they were go on holding it, and the ``changed`` ones, which no
    longer agree, wait for a person. Else the most senior first.
    """
    records_of_person: dict[int, list[int]] = {}
    for key, stored in sorted(
        cluster.records.items(), key=lambda item: (item[0] in changed, item[1].seniority)
    ):
        if not stored.record.in_doubt:
            records_of_person.setdefault(stored.record.person, []).append(followers.get(key, key))
    return {
        number: records_of_person.get(person, []) for number, person in before.items() if person is not None
    }


def _closed(
    cluster: _Cluster, before: dict[Identifier, int | None], claims: dict[int, Claimant]
) -> dict[Identifier, frozenset[int]]:
    """Crowded numbers that nobody joins any more, each with those who hold it."""
    closed = {}
    for number in cluster.crowded:
        holding = frozenset(
            key
            for key, claim in claims.items()
            if number in claim.numbers
            and not claim.in_doubt
            and cluster.records[key].record.person == before.get(number)
        )
        if not 0 < len(holding) < CROWD:
            closed[number] = holding
    return closed


def _holding(
    cluster: _Cluster,
    before: dict[Identifier, int | None],
    holding: dict[Identifier, int | None],
    contested: bool,
) -> list[PatientRecord]:
    """The records of those who hold or held a number of which that is new.

    ``contested``: or that another claims, or no more.
    """
    numbers = {n for n in cluster.numbers if contested or before.get(n) != holding.get(n)}
    persons = {holder_of.get(number) for number in numbers for holder_of in (before, holding)} - {None}
    return [cluster.records[key].record for key in sorted(cluster.records) if key in persons]


def _alarming(tx: Tx, cluster: _Cluster, disputed: set[int]) -> list[MemberId | None]:
    """Members whose record now claims a number that another holds; one alarm for a member and a number."""
    claimed: dict[tuple[MemberId | None, Identifier], bool] = {}
    for key in disputed:
        stored = cluster.records[key]
        for number in stored.record.national:
            place = (stored.record.member, cluster.canonical.get(number, number))
            claimed[place] = claimed.get(place, False) or stored.record.disputed
    new = [place for place, known in claimed.items() if not known]
    return [member for member, n in new if n not in cluster.crowded or not _disputes(tx, member, n)]


def _disputes(tx: Tx, member: MemberId | None, number: Identifier) -> bool:
    """Whether a record of this member was disputed for this number before."""
    sql = (
        "SELECT 1 FROM national_claim c JOIN patient_record p ON p.record_key = c.record_key "
        "WHERE c.authority = ? AND c.value = ? AND p.disputed = 1 AND coalesce(p.member, -1) = ? LIMIT 1"
    )
    return tx.row(sql, (number.authority, number.value, -1 if member is None else int(member))) is not None


def _gather(tx: Tx, keys: set[int], numbers: set[Identifier]) -> _Cluster:
    cluster = _Cluster()
    keys, numbers = set(keys), set(canonicals(tx, numbers).values())
    while keys or numbers:
        lock_numbers(tx, numbers)
        cluster.numbers |= numbers
        cluster.crowded |= crowded(tx, numbers, CROWD)
        keys |= claimants(tx, numbers - cluster.crowded) | _of_persons(
            tx, holders(tx, numbers & cluster.crowded).values()
        )
        fresh = load_by(tx, "record_key", keys - cluster.records.keys(), lock=True)
        cluster.records |= {s.record.key: s for s in fresh}
        if len(cluster.records) > MAX_CLUSTER:
            raise Conflict(
                "Too many patient records change together.", todo="Look for numbers that many records claim."
            )
        keys = _neighbours(tx, cluster, fresh)
        claimed = {n for s in fresh for n in s.record.national} - cluster.canonical.keys()
        cluster.canonical |= canonicals(tx, claimed)
        numbers = {cluster.canonical[n] for s in fresh for n in s.record.national} - cluster.numbers
    return cluster


def _neighbours(tx: Tx, cluster: _Cluster, fresh: list[Stored]) -> set[int]:
    """Records tied to ``fresh`` by decision, merge or the person they are in now; notes the decisions.

    A subsumed record is always in its survivor's person, so that the person leads to it.
    """
    keys = {s.record.key for s in fresh}
    neighbours: set[int] = {s.record.subsumed_by for s in fresh if s.record.subsumed_by is not None}
    for chunk in chunks(keys):
        for kind, record, other in tx.rows(
            "SELECT kind, record_key, other_key FROM identity_decision WHERE ended_at IS NULL AND "
            f"(record_key IN ({marks(chunk)}) OR other_key IN ({marks(chunk)}))",
            (*chunk, *chunk),
        ):
            if kind == "apart":
                cluster.apart.add(record)
            elif kind == "same":
                cluster.same.add((record, other))
                neighbours |= {record, other}
    neighbours |= _of_persons(tx, (s.record.person for s in fresh))
    return neighbours - cluster.records.keys()


def _of_persons(tx: Tx, persons: Iterable[int | None]) -> set[int]:
    """The records of these persons."""
    keys: set[int] = set()
    for chunk in chunks({person for person in persons if person is not None}):
        keys |= {
            r[0]
            for r in tx.rows(
                f"SELECT record_key FROM patient_record WHERE person_key IN ({marks(chunk)})", chunk
            )
        }
    return keys


def _root(cluster: _Cluster, key: int) -> int:
    while (above := cluster.records[key].record.subsumed_by) is not None:
        key = above
    return key


def _rooted(pairs: Iterable[tuple[int, int]], followers: dict[int, int]) -> set[tuple[int, int]]:
    return {(followers.get(a, a), followers.get(b, b)) for a, b in pairs}


def _claims(cluster: _Cluster, followers: dict[int, int], store: IdentityTables) -> dict[int, Claimant]:
    """What each surviving record claims.

    Its own numbers, and those of its subsumed ones under authorities where it has none.
    """
    merged_records: dict[int, list[Stored]] = {
        key: [s] for key, s in cluster.records.items() if key not in followers
    }
    for key in sorted(followers):
        merged_records[followers[key]].append(cluster.records[key])
    claims = {}
    for key, stored in merged_records.items():
        numbers: set[Identifier] = set()
        traced, birth_date = stored[0].traced and bool(stored[0].record.national), ""
        for s in stored:
            taken = {n.authority for n in numbers}
            more = {cluster.canonical[n] for n in s.record.national if n.authority not in taken}
            traced = traced or (not numbers and bool(more) and s.traced)
            numbers |= more
            birth_date = birth_date or store.header(s.record.patient, ()).birth_date
        record = stored[0].record
        header = store.header(record.patient, ())
        claims[key] = Claimant(
            key,
            frozenset(numbers),
            birth_date,
            traced,
            str(record.member or record.patient.local.authority),
            header.sex,
            header.given,
            record.in_doubt,
        )
    return claims


def _write_moves(
    tx: Tx, cluster: _Cluster, person_of: dict[int, int], disputed: set[int], at: int, who: str, why: str
) -> list[int]:
    """Writes which records are of another person now, or disputed or no more; their keys."""
    moved = []
    for key in sorted(cluster.records):
        before = cluster.records[key].record
        if before.person != person_of[key] or before.disputed != (key in disputed):
            moved.append((key, person_of[key], int(key in disputed), int(before.person)))
    if not moved:
        return []
    tx.update_many("patient_record", ("record_key",), ("person_key", "disputed"), [row[:3] for row in moved])
    last: dict[int, int] = {}
    for chunk in chunks([row[0] for row in moved]):
        sql = (
            f"SELECT record_key, max(n) FROM person_link WHERE record_key IN ({marks(chunk)}) GROUP BY"
            " record_key"
        )
        last |= {key: int(n) for key, n in tx.rows(sql, chunk)}
    tx.insert_many(
        "person_link",
        ("record_key", "n", "from_person", "to_person", "disputed", "at", "who", "why"),
        [
            (key, last.get(key, 0) + 1, before, to, in_doubt, at, who, why)
            for key, to, in_doubt, before in moved
        ],
    )
    return [row[0] for row in moved]


def _write_holders(
    tx: Tx,
    cluster: _Cluster,
    before: dict[Identifier, int | None],
    holding: dict[Identifier, int | None],
    at: int,
) -> None:
    """Write who holds each number.

    One that nobody claims any more stays as an alias of its last holder's anchor (D4).
    """
    unclaimed = sorted(cluster.numbers - holding.keys())
    tx.insert_many(
        "former_id",
        ("authority", "value", "record_key", "until"),
        [(n.authority, n.value, key, at) for n in unclaimed if (key := before.get(n)) is not None],
        "ON CONFLICT (authority, value, record_key) DO UPDATE SET until = excluded.until",
    )
    for number in unclaimed:
        tx.execute(
            "DELETE FROM national_number WHERE authority = ? AND value = ?", (number.authority, number.value)
        )
    changed = [n for n in sorted(cluster.numbers & holding.keys()) if before.get(n) != holding[n]]
    rows = [(n.authority, n.value, holding[n]) for n in changed]
    tx.update_many("national_number", ("authority", "value"), ("person_key",), rows)
