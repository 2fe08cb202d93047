"""Merges of national numbers that a source said and may not decide.

One message would show one person's imaging as another's. So it waits: for an identity officer, or for a
second member that has a patient under one of the two numbers and says the same; where the dates of birth
differ, for the officer in any case. What was decided once, or undone, is a person's for good. In a caller's
transaction.
"""

from __future__ import annotations

from crosslight.runtime.db import Tx
from crosslight.standards.ids import Identifier, MemberId
from crosslight.standards.problem import Conflict, Invalid, NotFound, TooLarge
from registry.identity import merges
from registry.identity.cases import MergeRequest
from registry.identity.model import Person
from registry.identity.numbers import canonical
from registry.identity.rows import from_micros
from registry.identity.tables import IdentityTables

MAX_OPEN = 500  # of one source
MAX_WAITING = 1000  # that are listed
_OPEN = (
    "NOT EXISTS (SELECT 1 FROM identity_decision d WHERE d.decision_id = r.decision_id"
    " AND d.ended_at IS NULL)"
)
_WAITS = (
    f"FROM merge_request r WHERE {_OPEN} AND NOT EXISTS (SELECT 1 FROM subsumed_id s WHERE s.authority ="
    " r.gone_authority AND s.value = r.gone_value)"
)
_PAIR = "gone_authority = ? AND gone_value = ? AND survivor_authority = ? AND survivor_value = ?"


def ask(
    tx: Tx,
    store: IdentityTables,
    pair: tuple[Identifier, Identifier],
    *,
    member: MemberId | None,
    source: str,
    at: int,
    who: str,
) -> bool:
    """A source says that ``pair`` (survivor, and who is merged into it) is one person; whether it is now.

    ``member``: the source, where it is one.

    Raises:
        Invalid: the same number twice, or one that was merged away.
        NotFound: a number that nobody holds.
        Conflict: a person decided that they are two.
        TooLarge: too much that this source said waits.
    """
    survivor, gone = (store.normal(number) for number in pair)
    if survivor == gone:
        raise Invalid("A merge of an id with itself.", why="ITI TF-2 3.8.4.2", where="MRG-1")
    kept, lost = _holder(tx, store, survivor, "PID-3"), _holder(tx, store, gone, "MRG-1")
    key = (gone.authority, gone.value, survivor.authority, survivor.value)
    said = tx.rows(f"SELECT source, decision_id FROM merge_request r WHERE {_PAIR}", key)
    if any(known == source for known, _ in said):
        if tx.row(f"SELECT 1 FROM merge_request r WHERE {_PAIR} AND source = ? AND {_OPEN}", (*key, source)):
            return False
        raise Conflict(
            "An identity officer decided that these numbers are two people's.",
            todo="Ask the region's identity officer, with what you know.",
            where="MRG-1",
        )
    row = tx.row(f"SELECT count(*) FROM merge_request r WHERE source = ? AND {_OPEN}", (source,))
    if row is not None and int(row[0]) >= MAX_OPEN:
        raise TooLarge("Too many merges of this sender wait for an identity officer.", why=f"{MAX_OPEN}.")
    tx.execute(
        "INSERT INTO merge_request (gone_authority, gone_value, survivor_authority, survivor_value, source,"
        " at, who) VALUES (?,?,?,?,?,?,?)",
        (*key, source, at, who),
    )
    others = {known for known, decision in said if decision is None}
    untouched = all(decision is None for _, decision in said)
    knows = {f"member:{r.member}" for person in (kept, lost) for r in person.records if r.member is not None}
    if not (
        untouched and member is not None and source in knows and others & knows and _born_alike(kept, lost)
    ):
        return False
    agreed = store.new_decision()
    merges.merge(tx, store, survivor, gone, at, who, agreed, why="A40 of two members")
    return True


def _holder(tx: Tx, store: IdentityTables, number: Identifier, where: str) -> Person:
    target = store.find_cx_tx(tx, number)
    if target is None:
        raise NotFound(
            "A number of the merge is not known, or nobody holds it.", why="ITI TF-2 3.8.4.2", where=where
        )
    if canonical(tx, number) != number:
        raise Invalid(
            "An id that was merged away cannot be merged again.", why="ITI TF-2 3.8.4.2", where=where
        )
    return target.person


def _born_alike(kept: Person, lost: Person) -> bool:
    """Whether all records that say a date of birth say the same one."""
    dates = {r.patient.birth_date for person in (kept, lost) for r in person.records if r.patient.birth_date}
    return len(dates) == 1


def waiting(tx: Tx) -> list[MergeRequest]:
    """What sources said and nobody decided, oldest first."""
    sql = (
        "SELECT survivor_authority, survivor_value, gone_authority, gone_value, at, who"
        f" {_WAITS} ORDER BY at, source LIMIT {MAX_WAITING}"
    )
    pairs: dict[tuple[Identifier, Identifier], list[tuple[int, str]]] = {}
    for to_authority, to_value, authority, value, at, who in tx.rows(sql):
        key = Identifier(to_value, to_authority), Identifier(value, authority)
        pairs.setdefault(key, []).append((int(at), who))
    return [
        MergeRequest(
            survivor=survivor, gone=gone, sources=tuple(who for _, who in said), since=from_micros(said[0][0])
        )
        for (survivor, gone), said in pairs.items()
    ]


def count(tx: Tx) -> int:
    """How many pairs of numbers wait."""
    pair = "survivor_authority, survivor_value, gone_authority, gone_value"
    row = tx.row(f"SELECT count(*) FROM (SELECT DISTINCT {pair} {_WAITS}) AS pairs")
    return int(row[0]) if row is not None else 0


def decide(
    tx: Tx, store: IdentityTables, request: MergeRequest, *, same: bool, at: int, who: str, why: str
) -> str:
    """A person's decision of a request; its id."""
    decision = store.new_decision()
    if same:
        merges.merge(tx, store, request.survivor, request.gone, at, who, decision, why=why)
    else:
        kept = _holder(tx, store, request.survivor, "PID-3").records[0].key
        lost = _holder(tx, store, request.gone, "MRG-1").records[0].key
        merges.insert_decision(tx, decision, "two", kept, lost, at, who, why)
        merges.close_requests(tx, request.survivor, request.gone, decision)
    return decision
