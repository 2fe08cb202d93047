"""How many bytes a study costs (D5), measured in the database; for benchmarks and the operator."""

from __future__ import annotations

from crosslight.runtime.db import Tx

_CURRENT = ("holding", "locator")
_APART = {
    "patients": (
        "patient_text",
        "patient_record",
        "national_claim",
        "national_number",
        "former_id",
        "subsumed_id",
        "identity_decision",
        "merge_request",
        "person_link",
    ),
    "superseded": ("past_version", "tombstone", "gone"),
    "objects": ("xds_object", "xds_locator", "imaging_document"),
    "changes": ("index_change",),
}


def sizes(tx: Tx) -> dict[str, float]:
    """Bytes per study of what the index keeps, and the number of studies.

    ``current`` is the mean of a current row with its indexes and locators; patients, extras, superseded
    versions, other objects and what changed lately are apart. ``studies`` is their number.

    PostgreSQL says what its files hold, free space included (VACUUM first for a fair figure); SQLite what its
    pages hold.
    """
    row = tx.row(
        "SELECT count(*), coalesce(sum(length(extra)), 0), coalesce(sum(length(body)), 0) FROM holding"
    )
    assert row is not None  # noqa: S101 - count always gives a row
    studies = max(int(row[0]), 1)
    rows, indexes = zip(*(tx.table_bytes(table) for table in _CURRENT), strict=True)
    # over the names that stand in the row
    named = tx.index_bytes(("holding_tag", "holding_fhir", "holding_accession"))
    bytes_per_study = {
        "studies": float(row[0]),
        "body": int(row[2]) / studies,
        "extras": int(row[1]) / studies,
        "row": rows[0] / studies - int(row[1]) / studies,
        "row_indexes": (indexes[0] - named) / studies,
        "locators": (rows[1] + indexes[1] + named) / studies,
    }
    bytes_per_study["current"] = (
        bytes_per_study["row"] + bytes_per_study["row_indexes"] + bytes_per_study["locators"]
    )
    for name, tables in _APART.items():
        bytes_per_study[name] = sum(sum(tx.table_bytes(table)) for table in tables) / studies
    return bytes_per_study
