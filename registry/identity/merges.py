"""A40 merges and people's decisions on the tables of identity, and how to take them back (D2)."""

from __future__ import annotations

from crosslight.runtime.db import Tx
from crosslight.standards.ids import Identifier
from crosslight.standards.problem import Invalid, NotFound
from registry.identity import rows
from registry.identity.numbers import canonical
from registry.identity.queries import CxTarget
from registry.identity.relink import relink
from registry.identity.tables import IdentityTables

BY_FEED = "feed"  # the reason of what a feed decided; no person can give it


def _known(tx: Tx, store: IdentityTables, cx: Identifier, where: str) -> CxTarget:
    if canonical(tx, cx) != cx:
        raise Invalid(
            "An id that was merged away cannot be merged again.", why="ITI TF-2 3.8.4.2", where=where
        )
    target = store.find_cx_tx(tx, cx)
    if target is None:
        raise NotFound(
            "An id of the merge is not known, or nobody holds it.", why="ITI TF-2 3.8.4.2", where=where
        )
    return target


def merge(
    tx: Tx,
    store: IdentityTables,
    into: Identifier,
    gone: Identifier,
    at: int,
    who: str,
    decision: str,
    *,
    why: str = "A40",
) -> None:
    """Make ``gone`` an id of ``into``'s person, and mark it subsumed. See :meth:`IdentityStore.merge_tx`."""
    if into == gone:
        raise Invalid("A merge of an id with itself.", why="ITI TF-2 3.8.4.2", where="MRG-1")
    kept, lost = _known(tx, store, into, "PID-3"), _known(tx, store, gone, "MRG-1")
    tx.execute(
        "INSERT INTO subsumed_id (authority, value, into_authority, into_value, decision_id) VALUES"
        " (?,?,?,?,?)",
        (gone.authority, gone.value, into.authority, into.value, decision),
    )
    records = lost.record is not None and kept.record is not None
    first = kept.record.key if kept.record else kept.person.key
    second = lost.record.key if lost.record else lost.person.key
    # 'merge': the record follows its survivor. Ids of persons (national, minted) are merged by joining the
    # persons.
    insert_decision(tx, decision, "merge" if records else "same", first, second, at, who, why)
    if records:
        tx.execute("UPDATE patient_record SET subsumed_by = ? WHERE record_key = ?", (first, second))
    seeds = {r.key for person in (kept.person, lost.person) for r in person.records}
    numbers = {n for person in (kept.person, lost.person) for r in person.records for n in r.national}
    close_requests(tx, into, gone, decision)
    tx.execute("DELETE FROM national_number WHERE authority = ? AND value = ?", (gone.authority, gone.value))
    relink(tx, store, seeds, numbers, at=at, who=who, why="merge")


def close_requests(tx: Tx, survivor: Identifier, gone: Identifier, decision: str) -> None:
    """What sources said of this pair of numbers, either way round, was decided."""
    for stays, goes in ((survivor, gone), (gone, survivor)):
        tx.execute(
            "UPDATE merge_request SET decision_id = ? WHERE gone_authority = ? AND gone_value = ? AND"
            " survivor_authority = ? AND survivor_value = ?",
            (decision, goes.authority, goes.value, stays.authority, stays.value),
        )


def unmerge(tx: Tx, store: IdentityTables, gone: Identifier, at: int, who: str, why: str) -> None:
    """See :meth:`IdentityStore.unmerge_tx`."""
    row = tx.row(
        "SELECT s.into_authority, s.into_value, d.decision_id, d.record_key, d.other_key FROM subsumed_id s "
        "JOIN identity_decision d ON d.decision_id = s.decision_id WHERE s.authority = ? AND s.value = ?",
        (gone.authority, gone.value),
    )
    if row is None:
        raise NotFound("That id is not subsumed.")
    into_authority, into_value, decision, kept, lost = row
    tx.execute("DELETE FROM subsumed_id WHERE authority = ? AND value = ?", (gone.authority, gone.value))
    tx.execute(
        "UPDATE patient_record SET subsumed_by = NULL WHERE record_key = ? AND subsumed_by = ?",
        (lost, kept),
    )
    _end(tx, decision, at, who, why)
    numbers = {gone, Identifier(into_value, into_authority)}
    relink(tx, store, {kept, lost}, numbers, at=at, who=who, why=why)


def decide(
    tx: Tx, store: IdentityTables, decision: str, record: int, other: int | None, at: int, who: str, why: str
) -> None:
    """See :meth:`IdentityStore.decide_tx`."""
    keys = {record} if other is None else {record, other}
    records = {int(s.record.key): s.record for s in rows.load_by(tx, "record_key", keys)}
    records = {key: record for key, record in records.items() if record.active or record.part_of is None}
    if len(records) != len(keys):
        raise NotFound("One of the records is not known.")
    if record == other:
        raise Invalid("A decision on one record and itself.")
    parent = records[record].part_of
    if other is None and parent is not None and records[record].in_doubt:
        decide_other(tx, decision, record, parent, at, who, why)
    elif other is None:
        insert_decision(tx, decision, "apart", record, None, at, who, why)
    else:
        if parent is None and records[other].part_of is not None:
            record, other = other, record  # a part comes first: it is what was decided on
        insert_decision(tx, decision, "same", record, other, at, who, why)
        tx.execute("UPDATE patient_record SET in_doubt = 0 WHERE record_key = ?", (record,))
    store.moved(tx, (records[key] for key in keys if records[key].in_doubt), at)
    relink(tx, store, keys, (), at=at, who=who, why=why)


def decide_other(tx: Tx, decision: str, part: int, parent: int, at: int, who: str, why: str) -> None:
    """``part`` of the record ``of`` is another person: it is in doubt no more. Linking is the caller's."""
    insert_decision(tx, decision, "other", part, parent, at, who, why)
    tx.execute("UPDATE patient_record SET in_doubt = 0 WHERE record_key = ?", (part,))


def insert_decision(
    tx: Tx, decision: str, kind: str, record: int, other: int | None, at: int, who: str, why: str
) -> None:
    """Keep a decision; what follows from it is the caller's."""
    tx.execute(
        "INSERT INTO identity_decision (decision_id, kind, record_key, other_key, at, who, why) VALUES"
        " (?,?,?,?,?,?,?)",
        (decision, kind, record, other, at, who, why),
    )


def end_decision(tx: Tx, store: IdentityTables, decision: str, at: int, who: str, why: str) -> int:
    """See :meth:`IdentityStore.end_decision_tx`; the record that was decided on."""
    row = tx.row(
        "SELECT record_key, other_key, EXISTS (SELECT 1 FROM subsumed_id s WHERE s.decision_id ="
        " d.decision_id) FROM identity_decision d WHERE decision_id = ? AND ended_at IS NULL",
        (decision,),
    )
    if row is None:
        raise NotFound("There is no such decision in force.")
    record, other, is_merge = row
    if is_merge:
        raise Invalid(
            "That is a merge, and no decision of a person.",
            todo="Undo the merge, by the id that was merged away.",
        )
    _end(tx, decision, at, who, why)
    tx.execute(
        "UPDATE patient_record SET in_doubt = 1 WHERE record_key = ? AND part_of IS NOT NULL AND in_doubt = 0"
        " AND subsumed_by IS NULL AND NOT EXISTS (SELECT 1 FROM identity_decision d WHERE d.record_key ="
        " patient_record.record_key AND d.ended_at IS NULL AND d.kind IN ('same', 'other'))",
        (record,),
    )
    store.moved(tx, (s.record for s in rows.load_by(tx, "record_key", [record]) if s.record.in_doubt), at)
    relink(tx, store, {key for key in (record, other) if key is not None}, (), at=at, who=who, why=why)
    return int(record)


def end_feeds_decision(tx: Tx, decision: str, at: int, who: str) -> None:
    """A feed takes back what a feed decided; linking is the caller's."""
    _end(tx, decision, at, who, BY_FEED)


def _end(tx: Tx, decision: str, at: int, who: str, why: str) -> None:
    tx.execute(
        "UPDATE identity_decision SET ended_at = ?, ended_who = ?, ended_why = ? WHERE decision_id = ?",
        (at, who, why, decision),
    )
