"""QIDO searches over the archive's rows (PS3.18 10.6): SQL narrows by index, the standard's own matching decides.

Rows come as full DICOM JSON objects of their level and those above, newest study first; ``QidoQuery.select`` cuts them down
and the face adds what it alone knows (Retrieve URL).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
import zstandard

from crosslight.runtime.db import Row, Tx
from crosslight.standards.dicom.header import INSTANCE_TAGS
from crosslight.standards.dicom.json import Attributes
from crosslight.standards.dicom.matching import Match
from crosslight.standards.dicom.qido import QidoQuery, matches
from node.archive.store import name_key

_PAGE = 500
_ONLINE = {"vr": "CS", "Value": ["ONLINE"]}

#: keyword -> column on which equality is exact
_EQUAL = {
    "StudyInstanceUID": "s.study_uid", "PatientID": "s.patient_id", "AccessionNumber": "s.accession", "StudyID": "s.study_id",
    "SeriesInstanceUID": "e.series_uid", "Modality": "e.modality", "SOPInstanceUID": "i.sop_uid",
    "SOPClassUID": "i.sop_class_uid", "AvailableTransferSyntaxUID": "i.transfer_syntax_uid",
}  # fmt: skip
_LEVEL_OF = {"s": 0, "e": 1, "i": 2}
_LEVELS = {"study": 0, "series": 1, "instance": 2}
_FROM = {
    "study": "SELECT s.attributes, s.n_series, s.n_instances FROM study s",
    "series": "SELECT s.attributes, s.n_series, s.n_instances, e.attributes, e.n_instances FROM study s "
    "JOIN series e ON e.study_uid = s.study_uid",
    "instance": "SELECT s.attributes, s.n_series, s.n_instances, e.attributes, e.n_instances, m.zstd, i.transfer_syntax_uid "
    "FROM study s JOIN series e ON e.study_uid = s.study_uid JOIN instance i ON i.study_uid = s.study_uid "
    "AND i.series_uid = e.series_uid AND i.visible = 1 JOIN metadata m ON m.id = i.id",
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
    """The page of rows that ``query`` asks for."""
    where = _narrow(level, query)
    sql = f"{_FROM[level]}{where.sql()} ORDER BY {_ORDER[level]} LIMIT ? OFFSET ?"
    if where.exact:
        return [_row(row, query) for row in tx.rows(sql, (*where.params, query.limit, query.offset))]
    found: list[Attributes] = []
    skip = query.offset
    for row in _all(tx, sql, where.params):
        attributes = _row(row, query)
        if not matches(query, attributes):
            continue
        if skip:
            skip -= 1
            continue
        if len(found) >= query.limit:
            break
        found.append(attributes)
    return found


def _all(tx: Tx, sql: str, params: list[Any]) -> Iterator[Row]:
    offset = 0
    while page := tx.rows(sql, (*params, _PAGE, offset)):
        yield from page
        offset += len(page)
        if len(page) < _PAGE:
            return


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
        where.add("(s.study_date BETWEEN ? AND ? OR s.study_date = '')", low, high or "99999999")  # undated ones match (D22)
        return True
    if keyword == "ModalitiesInStudy" and match.kind in ("single", "list"):
        where.add(
            "(" + " OR ".join(["instr(s.modalities, ?) > 0"] * len(match.values)) + ")", *(f"\\{v}\\" for v in match.values)
        )
        return True
    if keyword == "PatientName":
        _push_name(where, match)
    return False


def _push_name(where: _Where, match: Match) -> None:
    """Narrow by the text before the first wildcard."""
    key = name_key(match.values[0])
    if match.kind == "wildcard":
        key = match.values[0].casefold()
        key = key[: min(i for i in (key.find("*"), key.find("?")) if i >= 0)]
        if key:
            where.add("s.study_uid IN (SELECT study_uid FROM study_name WHERE name >= ? AND name < ?)", key, key + "\U0010ffff")
        return
    groups = [name_key(group) for group in match.values[0].split("=")]
    where.add(f"s.study_uid IN (SELECT study_uid FROM study_name WHERE name IN ({','.join('?' * len(groups))}))", *groups)


def _row(row: Row, query: QidoQuery) -> Attributes:
    found: Attributes = orjson.loads(row[0])
    found["00201206"] = {"vr": "IS", "Value": [row[1]]}
    found["00201208"] = {"vr": "IS", "Value": [row[2]]}
    if len(row) > 3:
        found |= orjson.loads(row[3])
        found["00201209"] = {"vr": "IS", "Value": [row[4]]}
    if len(row) > 5:
        whole = orjson.loads(zstandard.ZstdDecompressor().decompress(row[5]))
        wanted = query.returned()
        keep = whole if wanted is None else {*INSTANCE_TAGS, *wanted, *(m.path[0] for m in query.matches)}
        found |= {tag: body for tag, body in whole.items() if tag in keep}
        found["00083002"] = {"vr": "UI", "Value": [row[6]]}
    found["00080056"] = _ONLINE
    return dict(sorted(found.items()))
