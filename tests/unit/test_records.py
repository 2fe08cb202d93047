"""Records: frozen, changed by name, pickled by names of ours, and laid out as rows remember (ADR 0049)."""

from __future__ import annotations

import ast
import pickle
from itertools import chain
from pathlib import Path

import pytest

from crosslight.standards.ids import Identifier
from crosslight.standards.records import FrozenRecord, changed, made
from crosslight.standards.study import Coded, ManifestFacts, Patient, SeriesRecord, StudyRecord, StudyTime
from crosslight.standards.xds.model.publication import Publication
from registry.index import study_arrays
from registry.index.model import Holding

ROOT = Path(__file__).parents[2]
STUDY = StudyRecord(
    study_uid="1.2.3",
    patient=Patient(local=Identifier("H1", "1.2")),
    series=(SeriesRecord(series_uid="1.2.3.4", time=StudyTime(date="20260301")),),
)

#: Fields that rest in rows by their place: further ones come after these, and none goes.
PLACES = {
    Coded: "value scheme meaning",
    StudyTime: "date time zone zone_source",
    study_arrays.StoredId: "value authority namespace",
    study_arrays.StoredSeries: (
        "alike rest modality number description body_site laterality n_instances sop_classes time digest"
    ),
    study_arrays.StoredStudy: (
        "study_uid digest sha1 size_bytes created submitted replaces accessions orders study_id description"
        " procedure_codes reason referrer institution time modalities body_sites n_series n_instances detail"
        " progress series"
    ),
}


@pytest.mark.parametrize("kind", PLACES, ids=lambda kind: kind.__name__)
def test_what_rests_by_place_keeps_its_place(kind: type[FrozenRecord]) -> None:
    known = PLACES[kind].split()
    assert list(kind.__struct_fields__[: len(known)]) == known
    assert kind.__struct_config__.array_like


def test_a_record_cannot_be_set_and_is_changed_by_name() -> None:
    with pytest.raises(AttributeError):
        STUDY.study_uid = "1.2.4"  # type: ignore[misc]
    other = changed(STUDY, study_uid="1.2.4")
    assert (other.study_uid, other.series, STUDY.study_uid) == ("1.2.4", STUDY.series, "1.2.3")
    with pytest.raises(TypeError):
        changed(STUDY, study_iud="1.2.4")


def test_a_record_is_pickled_by_names_of_ours_alone() -> None:
    assert pickle.loads(pickle.dumps(STUDY)) == STUDY
    for kind in (Path, dict):
        with pytest.raises(TypeError):
            made(kind, {})


def test_fields_are_changed_by_names_that_there_are() -> None:
    """What mypy does not see: each name that ``changed`` is given is a field of some record."""
    known = set(chain(StudyRecord.__struct_fields__, SeriesRecord.__struct_fields__, _more()))
    wrong = [
        f"{path.relative_to(ROOT)}:{call.lineno} {keyword.arg}"
        for room in ("crosslight", "node", "registry", "simulations")
        for path in (ROOT / room).rglob("*.py")
        for call in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "changed"
        for keyword in call.keywords
        if keyword.arg is not None and keyword.arg not in known
    ]
    assert wrong == []


def _more() -> list[str]:
    kinds = (Publication, ManifestFacts, Holding, StudyTime, Coded)
    return [name for kind in kinds for name in kind.__struct_fields__]
