"""The statements by which the studies of patients are found, and those that a question by patient will make.

A reading makes them one by one in ``read.py`` and beside it; :func:`foretell` says them before (ADR 0048).
"""

from __future__ import annotations

from crosslight.runtime.db.foretold import Foretelling, Keys
from registry.index.rows import DEPRECATED, HOLDING_COLUMNS

_COLUMNS = ", ".join(f"h.{c}" for c in HOLDING_COLUMNS) + ", p.body"
_FROM = "holding h JOIN patient_text p ON p.record_key = h.record_key AND p.n = h.patient_n"
_KINDS = "i" * 10 + "bb" + "b"


def holdings_where(where: str, tail: str = "") -> str:
    """Rows of holdings, each with its patient's text, by a condition of ours."""
    return f"SELECT {_COLUMNS} FROM {_FROM} WHERE {where} {tail}"


EVERY_UNDER = "h.record_key IN ({})"
UNDER = f"{EVERY_UNDER} AND h.flags & {DEPRECATED} = 0"
#: The study of each approved holding under records.
HELD = f"SELECT study_hash FROM holding WHERE record_key IN ({{}}) AND flags & {DEPRECATED} = 0"
#: Studies with several holdings; mostly there is none, and an index says so alone.
TWICE = "SELECT study_hash FROM holding WHERE study_hash IN ({}) GROUP BY study_hash HAVING count(*) > 1"
OF_DOCUMENTS = "SELECT studies FROM imaging_document WHERE record_key IN ({})"
PAST = (
    "SELECT record_key, study_hash, member_id, body FROM past_version WHERE record_key IN ({})"
    " ORDER BY seq DESC"
)
OBJECT_COLUMNS = "record_key, kind, entry_uuid, unique_id, logical_id, status, member_id, body"


def objects_where(where: str, order: str = "record_key, entry_uuid") -> str:
    """Stored objects by a condition of ours."""
    return f"SELECT {OBJECT_COLUMNS} FROM xds_object WHERE {where} ORDER BY {order}"


OBJECTS = objects_where("record_key IN ({})")


def foretell(said: Foretelling, records: str, *, versions: bool, counted: bool) -> None:
    """What is asked of the index for all studies of whole persons.

    Args:
        said: Where it is said.
        records: The step that finds their records' keys, in its first column.
        versions: With superseded versions, deprecated holdings and stored objects.
        counted: How many there are is asked first.
    """
    under = (Keys(((records, 0),)),)
    if counted:
        said.step("held", HELD, under, "i")
    said.step("rows", holdings_where(EVERY_UNDER if versions else UNDER), under, _KINDS)
    said.step("twice", TWICE, (Keys((("rows", 1),)),), "i")
    said.step("documents", OF_DOCUMENTS, under, "t")
    if versions:
        said.step("past", PAST, (Keys((("rows", 0),)),), "iiib")
        said.step("objects", OBJECTS, under, "itttttib")
