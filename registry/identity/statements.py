"""The statements by which persons are found, and those that a question by number will make.

A reading makes them one by one in ``queries.py`` and ``rows.py``; :func:`foretell` says them before
(ADR 0048).
"""

from __future__ import annotations

from collections.abc import Iterable

from crosslight.runtime.db.foretold import Foretelling, Keys
from crosslight.standards.ids import Identifier

_MOST_RECORDS = 100_000

COLUMNS = (
    "record_key, person_key, member, fhir_id, minted, traced, disputed, subsumed_by, newest_study, created,"
    " updated, digest, patient, part, part_of, in_doubt, headers, parts, fed, former"
)
_KINDS = "iiittiiiiiittiiiiiit"


def records_where(where: str, limit: int = _MOST_RECORDS) -> str:
    """Records by a condition of ours."""
    return f"SELECT {COLUMNS} FROM patient_record WHERE {where} ORDER BY record_key LIMIT {int(limit)}"


#: Whether a number has a row, whose it is, and whether it was merged into another; always one row, which a
#: LEFT JOIN gives.
NATIONAL = """
    SELECT n.value IS NOT NULL, n.person_key, s.value IS NOT NULL
    FROM (SELECT CAST(? AS TEXT) AS authority, CAST(? AS TEXT) AS value) asked
    LEFT JOIN national_number n ON n.authority = asked.authority AND n.value = asked.value
    LEFT JOIN subsumed_id s ON s.authority = asked.authority AND s.value = asked.value"""
#: Records that claim a number, or one merged into it, and are not of the person who holds it (keys are
#: positive).
OUTSIDE = """
    WITH RECURSIVE one (authority, value) AS (
        SELECT CAST(? AS TEXT), CAST(? AS TEXT)
        UNION SELECT s.authority, s.value FROM subsumed_id s
        JOIN one ON s.into_authority = one.authority AND s.into_value = one.value)
    SELECT c.record_key FROM one
    JOIN national_claim c ON c.authority = one.authority AND c.value = one.value
    JOIN patient_record p ON p.record_key = c.record_key
    WHERE p.in_doubt = 1
    OR p.person_key <> coalesce(
        (SELECT n.person_key FROM national_number n WHERE n.authority = ? AND n.value = ?), -1)"""
#: The record of a local number.
OWN = (
    "SELECT person_key, record_key, subsumed_by FROM patient_record WHERE authority = ? AND local_id = ?"
    " AND part = 0"
)
HOLDER = "SELECT person_key FROM national_number WHERE authority = ? AND value = ?"
BY_FHIR_ID = "SELECT person_key FROM patient_record WHERE fhir_id = ?"
#: Parts of the record of a local number that are other persons'.
OTHERS = (
    "SELECT person_key FROM patient_record WHERE local_id = ? AND part > 0 AND in_doubt = 0"
    " AND subsumed_by IS NULL ORDER BY record_key LIMIT ?"
)
OTHERS_OF = OTHERS.replace("local_id = ?", "authority = ? AND local_id = ?")
OF_PERSONS = records_where("person_key IN ({})")
CLAIMS = "SELECT record_key, authority, value, 0 FROM national_claim WHERE record_key IN ({})"
HELD = "SELECT person_key, authority, value, 1 FROM national_number WHERE person_key IN ({})"
#: Numbers that were merged away by A40 are claimed for linking, and shown no more.
SHOWN_AND_HELD = (
    "SELECT c.record_key, c.authority, c.value, 0 FROM national_claim c LEFT JOIN subsumed_id s"
    " ON s.authority = c.authority AND s.value = c.value WHERE s.value IS NULL AND c.record_key IN ({})"
    f" UNION ALL {HELD}"
)
#: What numbers were merged into.
MERGED = (
    "SELECT authority, value, into_authority, into_value FROM subsumed_id WHERE authority = ? AND value IN"
)

RECORDS = "records"  # the step that others hang on


def foretell(
    said: Foretelling, asked: Iterable[tuple[Identifier, Iterable[Identifier]]], limit: int, *, apart: bool
) -> None:
    """What ``select_tx`` and ``disputed_for_tx`` of identity ask, where a number has one holder.

    Args:
        said: Where it is said.
        asked: Identifiers, and the valid national numbers that each may be.
        limit, apart: As of ``select_tx``.
    """
    leads, numbers = [], list[Identifier]()
    for n, (identifier, national) in enumerate(asked):
        for m, number in enumerate(national):
            numbers.append(number)
            pair, name = (said.given(number.authority), said.given(number.value)), f"holder_{n}_{m}"
            if identifier.authority:
                said.step(name, NATIONAL, pair, "oio")
                leads.append((name, 1))
            else:
                said.step(name, HOLDER, pair, "i")
                leads.append((name, 0))
        if apart:
            issuer = [said.given(identifier.authority)] if identifier.authority else []
            rest = (said.given(identifier.value.strip()), said.given(limit))
            said.step(f"others_{n}", OTHERS_OF if issuer else OTHERS, (*issuer, *rest), "i")
            leads.append((f"others_{n}", 0))
    said.step(RECORDS, OF_PERSONS, (Keys(tuple(leads)),), _KINDS)
    persons = Keys(((RECORDS, 1),))
    said.step("claims", SHOWN_AND_HELD, (Keys(((RECORDS, 0),)), persons), "itti")
    for n, number in enumerate(dict.fromkeys(numbers)):
        pair = (said.given(number.authority), said.given(number.value))
        said.step(f"merged_{n}", f"{MERGED} (?)", pair, "tttt")
        said.step(f"outside_{n}", OUTSIDE, (*pair, *pair), "i")
