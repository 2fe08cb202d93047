"""QIDO searches over the archive's rows (PS3.18 10.6).

SQL narrows by index, the standard's own matching decides.

Rows come as full DICOM JSON objects of their level and those above, newest study first; ``QidoQuery.select``
cuts them down and the face adds what it alone knows (Retrieve URL).
"""

from __future__ import annotations

from typing import Any

import orjson

from crosslight.runtime.db import Row, Tx
from crosslight.standards.dicom.file.header import INSTANCE_TAGS
from crosslight.standards.dicom.web.json import Attributes
from crosslight.standards.dicom.web.matching import Match, bounds
from crosslight.standards.dicom.web.qido import QidoQuery, matches
from crosslight.standards.problem import TooLarge
from node.archive.metadata_rows import DICTIONARY, PACKED, Expander
from node.archive.study_rows import name_key

MAX_LOOKED_AT = 50_000  # rows of one search, where no index says which of them match
_ONLINE = {"vr": "CS", "Value": ["ONLINE"]}

#: keyword -> column on which equality is exact
_EQUAL = {
    "StudyInstanceUID": "s.study_uid",
    "PatientID": "s.patient_id",
    "AccessionNumber": "s.accession",
    "StudyID": "s.study_id",
    "SeriesInstanceUID": "e.series_uid",
    "Modality": "e.modality",
    "SOPInstanceUID": "i.sop_uid",
    "SOPClassUID": "i.sop_class_uid",
    "AvailableTransferSyntaxUID": "i.transfer_syntax_uid",
}
_LEVEL_OF = {"s": 0, "e": 1, "i": 2}
_LEVELS = {"study": 0, "series": 1, "instance": 2}
_FROM = {
    "study": "SELECT s.attributes, s.n_series, s.n_instances FROM study s",
    "series": (
        "SELECT s.attributes, s.n_series, s.n_instances, e.attributes, e.n_instances FROM study s "
        "JOIN series e ON e.study_uid = s.study_uid"
    ),
    "instance": (
        "SELECT s.attributes, s.n_series, s.n_instances, e.attributes, e.n_instances,"
        f" i.transfer_syntax_uid, {PACKED} FROM study s JOIN series e ON e.study_uid = s.study_uid JOIN"
        " instance i ON i.study_uid = s.study_uid AND i.series_uid = e.series_uid AND i.visible = 1 JOIN"
        f" metadata m ON m.id = i.id {DICTIONARY}"
    ),
}
_ORDER = {
    "study": "s.study_date DESC, s.study_uid",
    "series": "s.study_date DESC, s.study_uid, e.series_uid",
    "instance": "s.study_date DESC, s.study_uid, e.series_uid, i.id",
}


class _Where:
    """Conditions and their parameters; ``exact`` while the conditions say all that the query says."""

    def __init__(self) -> None:
        self.conditions: list[str] = []
        self.params: list[Any] = []
        self.exact = True

    def add(self, condition: str, *params: Any) -> None:
        self.conditions.append(condition)
        self.params.extend(params)

    def sql(self) -> str:
        return " WHERE " + " AND ".join(self.conditions) if self.conditions else ""


def search_tx(tx: Tx, level: str, query: QidoQuery) -> list[Attributes]:
    """The page of rows that ``query`` asks for.

    Raises:
        TooLarge: for a search that the indexes narrow too little (:data:`MAX_LOOKED_AT`).
    """
    where, expander = _narrow(level, query), Expander()
    sql = f"{_FROM[level]}{where.sql()} ORDER BY {_ORDER[level]} LIMIT ? OFFSET ?"
    if where.exact:
        rows = tx.rows(sql, (*where.params, query.limit, query.offset))
        return [_row(row, query, expander) for row in rows]
    page: list[Attributes] = []
    skip = query.offset
    # One statement, read as far as needed: pages of it by OFFSET would each begin anew.
    for count, row in enumerate(tx.each(sql, (*where.params, MAX_LOOKED_AT + 1, 0))):
        if len(page) >= query.limit:
            break
        if count >= MAX_LOOKED_AT:
            raise TooLarge(
                "The search is too broad.",
                why=f"More than {MAX_LOOKED_AT} would have to be read one by one.",
                todo=(
                    "Add a StudyDate, PatientID, AccessionNumber, PatientBirthDate, or how the PatientName"
                    " begins."
                ),
            )
        attributes = _row(row, query, expander)
        if not matches(query, attributes):
            continue
        if skip:
            skip -= 1
            continue
        page.append(attributes)
    return page


def _narrow(level: str, query: QidoQuery) -> _Where:
    where = _Where()
    for match in query.matches:
        if match.kind != "any" and not _push(where, level, match):
            where.exact = False
    return where


def _push(where: _Where, level: str, match: Match) -> bool:
    """Add ``match`` as a condition; whether that says all it says."""
    keyword = match.keyword
    column = _EQUAL.get(keyword)
    if column is not None and _LEVEL_OF[column[0]] <= _LEVELS[level] and match.kind in ("single", "list"):
        where.add(f"{column} IN ({','.join('?' * len(match.values))})", *match.values)
        return True
    if keyword == "StudyDate":
        low, high = (match.low, match.high) if match.kind == "range" else (match.values[0], match.values[0])
        # undated ones match (D22)
        where.add("(s.study_date BETWEEN ? AND ? OR s.study_date = '')", low, high or "99999999")
        return True
    if keyword == "ModalitiesInStudy" and match.kind in ("single", "list"):
        where.add(
            "(" + " OR ".join(["instr(s.modalities, ?) > 0"] * len(match.values)) + ")",
            *(f"\\{v}\\" for v in match.values),
        )
        return True
    if keyword == "PatientName":
        _push_name(where, match)
    elif keyword == "PatientBirthDate":
        low, high = (match.low, match.high) if match.kind == "range" else (match.values[0], match.values[0])
        where.add("s.birth_date BETWEEN ? AND ?", bounds(low, "DA")[0], bounds(high, "DA")[1] or "99999999")
    elif match.kind == "wildcard" and keyword in ("PatientID", "AccessionNumber"):
        _push_prefix(where, match, _EQUAL[keyword])
    return False


def _push_prefix(where: _Where, match: Match, column: str) -> None:
    """Narrow by the text before the first wildcard."""
    key = _prefix(match.values[0])
    if key:
        # As a list of studies: SQLite then never walks the days with the order of the answer in mind.
        also = (
            ""
            if column != "s.patient_id"
            else " UNION ALL SELECT study_uid FROM study WHERE instr(patient_id, '\\') > 0"
        )
        name = column.removeprefix("s.")
        sql = f"s.study_uid IN (SELECT study_uid FROM study WHERE {name} >= ? AND {name} < ?{also})"
        where.add(sql, key, key + "\U0010ffff")


def _prefix(pattern: str) -> str:
    return pattern[: min(i for i in (pattern.find("*"), pattern.find("?")) if i >= 0)]


def _push_name(where: _Where, match: Match) -> None:
    """Narrow by the text before the first wildcard."""
    key = name_key(match.values[0])
    if match.kind == "wildcard":
        key = _prefix(match.values[0].casefold())
        if key:
            where.add(
                "s.study_uid IN (SELECT study_uid FROM study_name WHERE name >= ? AND name < ?)",
                key,
                key + "\U0010ffff",
            )
        return
    groups = [name_key(group) for group in match.values[0].split("=")]
    where.add(
        f"s.study_uid IN (SELECT study_uid FROM study_name WHERE name IN ({','.join('?' * len(groups))}))",
        *groups,
    )


def _row(row: Row, query: QidoQuery, expander: Expander) -> Attributes:
    attributes: Attributes = orjson.loads(row[0])
    attributes["00201206"] = {"vr": "IS", "Value": [row[1]]}
    attributes["00201208"] = {"vr": "IS", "Value": [row[2]]}
    if len(row) > 3:
        attributes |= orjson.loads(row[3])
        attributes["00201209"] = {"vr": "IS", "Value": [row[4]]}
    if len(row) > 5:
        whole = orjson.loads(expander.expand(*row[6:9]))
        wanted = query.returned()
        keep = whole if wanted is None else {*INSTANCE_TAGS, *wanted, *(m.path[0] for m in query.matches)}
        attributes |= {tag: body for tag, body in whole.items() if tag in keep}
        attributes["00083002"] = {"vr": "UI", "Value": [row[5]]}
    attributes["00080056"] = _ONLINE
    return dict(sorted(attributes.items()))
