"""The rows of studies and series: what searches see, made from the attribute sets of the visible instances.

An instance that comes costs the same whether its study has ten instances or ten thousand, and however their
attributes are
mixed: how often each set is used is counted, and a row is made anew only where the set that came may change
    it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

import orjson

from crosslight.runtime.db import Tx
from crosslight.standards.dicom.file.header import PATIENT_ID, Attributes, Header, first_text, values
from crosslight.standards.dicom.record.record import fill
from crosslight.standards.dicom.web.qido import day_of

_SOP_CLASS, _MODALITIES, _SOP_CLASSES = "00080016", "00080061", "00080062"
_USED = "INSERT INTO variant_use (study_uid, series_uid, variant, n, least_uid)"


@dataclass(frozen=True, slots=True)
class Counted:
    """Visible instances of one series that are alike, as these rows see them."""

    study_uid: str
    series_uid: str
    sop_class_uid: str
    study_variant: int
    series_variant: int
    n: int
    size_bytes: int  # of all
    least_uid: str  # SOP Instance UID

    @classmethod
    def of(cls, header: Header, study_variant: int, series_variant: int, size_bytes: int) -> Counted:
        """A single one."""
        series, sop_class = header.series_uid, header.sop_class_uid
        sop_uid = header.sop_uid
        return cls(header.study_uid, series, sop_class, study_variant, series_variant, 1, size_bytes, sop_uid)

    def and_more(self, other: Counted) -> Counted:
        """With others that are alike."""
        size_bytes = self.size_bytes + other.size_bytes
        least_uid = min(self.least_uid, other.least_uid)
        return replace(self, n=self.n + other.n, size_bytes=size_bytes, least_uid=least_uid)


class StudyRows:
    """Rows of ``study``, ``series``, ``study_name`` and ``variant_use``."""

    def add_tx(self, tx: Tx, more: Counted) -> None:
        """Count more visible instances."""
        study_uid, series_uid = more.study_uid, more.series_uid
        known = tx.row(
            "SELECT variant FROM series WHERE study_uid = ? AND series_uid = ?", (study_uid, series_uid)
        )
        study = tx.row("SELECT variant FROM study WHERE study_uid = ?", (study_uid,))
        modality = ""
        same_series = self._used_tx(tx, more, series_uid, more.series_variant, known[0] if known else None)
        same_study = self._used_tx(tx, more, "", more.study_variant, study[0] if study else None)
        if same_series:
            sql = "UPDATE series SET n_instances = n_instances + ? WHERE study_uid = ? AND series_uid = ?"
            tx.execute(sql, (more.n, study_uid, series_uid))
        else:
            modality = self._series_tx(tx, study_uid, series_uid)
        tx.execute(
            "UPDATE study SET n_series = n_series + ?, n_instances = n_instances + ?, size_bytes = size_bytes"
            " + ? WHERE study_uid = ?",
            (int(known is None), more.n, more.size_bytes, study_uid),
        )
        if same_series and same_study:
            return
        row = tx.row(
            "SELECT attributes, n_series, n_instances, size_bytes FROM study WHERE study_uid = ?",
            (study_uid,),
        )
        row_attributes = orjson.loads(row[0]) if row is not None else {}
        known_modalities = _texts(row_attributes, _MODALITIES)
        known_classes = _texts(row_attributes, _SOP_CLASSES)
        classes = {*known_classes, more.sop_class_uid}
        if same_series:
            modalities = known_modalities
        elif known is None:
            modalities = sorted({*known_modalities, modality} - {""})
        else:  # one may have gone
            modalities = self._modalities_tx(tx, study_uid)
        if not same_study:
            counts = row[1:] if row is not None else (1, more.n, more.size_bytes)
            self._study_tx(tx, study_uid, modalities, classes, counts)
        elif modalities != known_modalities or classes != set(known_classes):
            sql = "UPDATE study SET attributes = ?, modalities = ? WHERE study_uid = ?"
            tx.execute(
                sql, (_with_contents(row_attributes, modalities, classes), _listed(modalities), study_uid)
            )

    def refresh_tx(self, tx: Tx, study_uid: str) -> None:
        """Make all rows of a study anew from its visible instances."""
        for table in ("variant_use", "series"):
            tx.execute(f"DELETE FROM {table} WHERE study_uid = ?", (study_uid,))
        for place, variant in (("''", "study_variant"), ("series_uid", "series_variant")):
            tx.execute(
                f"{_USED} SELECT study_uid, {place}, {variant}, COUNT(*), MIN(sop_uid) FROM instance "
                f"WHERE study_uid = ? AND visible = 1 GROUP BY study_uid, {place}, {variant}",
                (study_uid,),
            )
        rows = tx.rows(
            "SELECT series_uid, sop_class_uid, COUNT(*), SUM(size_bytes) FROM instance WHERE study_uid = ?"
            " AND visible = 1 GROUP BY series_uid, sop_class_uid",
            (study_uid,),
        )
        if not rows:
            tx.execute("DELETE FROM study_name WHERE study_uid = ?", (study_uid,))
            tx.execute("DELETE FROM study WHERE study_uid = ?", (study_uid,))
            return
        series = sorted({row[0] for row in rows})
        for series_uid in series:
            self._series_tx(tx, study_uid, series_uid)
        counts = (len(series), sum(row[2] for row in rows), sum(row[3] for row in rows))
        self._study_tx(tx, study_uid, self._modalities_tx(tx, study_uid), {row[1] for row in rows}, counts)

    # --- attribute sets -------------------------------------------------------------------------------------

    def _used_tx(self, tx: Tx, more: Counted, series_uid: str, variant: int, first: int | None) -> bool:
        """Note that more instances have ``variant``; whether the row stays as it is.

        The row began with ``first``.
        """
        tx.execute(
            f"{_USED} VALUES (?,?,?,?,?) ON CONFLICT (study_uid, series_uid, variant) DO UPDATE SET "
            "n = n + excluded.n, least_uid = min(least_uid, excluded.least_uid)",
            (more.study_uid, series_uid, variant, more.n, more.least_uid),
        )
        if first is None or first == variant:
            return first is not None
        sql = "SELECT n, least_uid FROM variant_use WHERE study_uid = ? AND series_uid = ? AND variant = ?"
        ahead, behind = (tx.row(sql, (more.study_uid, series_uid, which)) for which in (first, variant))
        if ahead is None or behind is None or (-behind[0], behind[1]) < (-ahead[0], ahead[1]):
            return False
        sets = self.variants_tx(tx, (first, variant))
        return all(_adds_nothing(sets[first], tag, sets[variant]) for tag in sets[variant])

    def _ranked_tx(self, tx: Tx, study_uid: str, series_uid: str) -> tuple[int, Attributes, int]:
        """The first variant by rank, the row's attributes, and how many instances there are.

        Ranked as :func:`crosslight.standards.dicom.record.rank` does.
        """
        sql = (
            "SELECT variant, n FROM variant_use WHERE study_uid = ? AND series_uid = ? ORDER BY n DESC,"
            " least_uid"
        )
        used = tx.rows(sql, (study_uid, series_uid))
        sets = self.variants_tx(tx, (row[0] for row in used))
        return used[0][0], dict(fill([sets[row[0]] for row in used])), sum(row[1] for row in used)

    def variants_tx(self, tx: Tx, ids: Iterable[int]) -> dict[int, Attributes]:
        """Attribute sets by id."""
        attributes: dict[int, Attributes] = {}
        for variant in ids:
            row = tx.row("SELECT attributes FROM variant WHERE id = ?", (variant,))
            attributes[variant] = orjson.loads(row[0]) if row is not None else {}
        return attributes

    # --- rows -----------------------------------------------------------------------------------------------

    def _series_tx(self, tx: Tx, study_uid: str, series_uid: str) -> str:
        """A series' row, from its sets; its modality."""
        variant, attributes, count = self._ranked_tx(tx, study_uid, series_uid)
        attributes.pop(_SOP_CLASS, None)
        modality = first_text(attributes, "00080060")
        tx.execute(
            "INSERT INTO series (study_uid, series_uid, variant, attributes, modality, n_instances) VALUES"
            " (?,?,?,?,?,?) ON CONFLICT (study_uid, series_uid) DO UPDATE SET variant = excluded.variant,"
            " attributes = excluded.attributes, modality = excluded.modality, n_instances ="
            " excluded.n_instances",
            (study_uid, series_uid, variant, orjson.dumps(attributes), modality, count),
        )
        return modality

    @staticmethod
    def _modalities_tx(tx: Tx, study_uid: str) -> list[str]:
        rows = tx.rows("SELECT DISTINCT modality FROM series WHERE study_uid = ?", (study_uid,))
        return sorted(row[0] for row in rows if row[0])

    def _study_tx(
        self,
        tx: Tx,
        study_uid: str,
        modalities: list[str],
        classes: Collection[str],
        counts: tuple[int, int, int],
    ) -> None:
        """A study's row and names, from its sets; ``counts`` of its series, instances and bytes."""
        variant, attributes, _ = self._ranked_tx(tx, study_uid, "")
        tx.execute("DELETE FROM study WHERE study_uid = ?", (study_uid,))
        tx.execute(
            "INSERT INTO study (study_uid, variant, attributes, patient_id, accession, study_date, study_id,"
            " modalities, n_series, n_instances, size_bytes, birth_date) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
            (
                study_uid,
                variant,
                _with_contents(attributes, modalities, classes),
                "\\".join(str(v or "") for v in values(attributes, PATIENT_ID)),
                first_text(attributes, "00080050"),
                day_of(attributes),
                first_text(attributes, "00200010"),
                _listed(modalities),
                *counts,
                first_text(attributes, "00100030").replace(".", "").replace("-", "").strip(" \0"),
            ),
        )
        tx.execute("DELETE FROM study_name WHERE study_uid = ?", (study_uid,))
        names = {name_key(group) for group in first_text(attributes, "00100010").split("=")}
        tx.executemany(
            "INSERT INTO study_name (name, study_uid) VALUES (?, ?)",
            [(name, study_uid) for name in names if name],
        )


def _adds_nothing(first: Attributes, tag: str, other: Attributes) -> bool:
    """Whether what ``other`` says of ``tag`` adds nothing to a row that begins with ``first``.

    Whatever stands between them.
    """
    if tag == _SOP_CLASS:
        return bool(first.get(tag) == other[tag])
    if tag.startswith("0010") or values(first, tag):
        return True
    return tag in first and not values(other, tag)


def _texts(attributes: Attributes, tag: str) -> list[str]:
    return [str(value) for value in values(attributes, tag)]


def _listed(modalities: Collection[str]) -> str:
    return "\\".join(["", *modalities, ""])


def _with_contents(attributes: Attributes, modalities: list[str], classes: Collection[str]) -> bytes:
    """A study's attributes with what its series are."""
    attributes[_MODALITIES] = {"vr": "CS", "Value": modalities} if modalities else {"vr": "CS"}
    attributes[_SOP_CLASSES] = {"vr": "UI", "Value": sorted(classes)}
    return orjson.dumps(attributes)


def name_key(group: str) -> str:
    """A component group of a PN as it is compared: without case and empty trailing components."""
    return group.rstrip("^ ").casefold()
