"""Rows of the index: any publication comes back as it was, also a superseded one (D5, D6)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from registry_room import make_room
from registry_samples import member, nhs, patient, published, study

from crosslight.runtime.db import SqliteDb
from crosslight.standards.ids import Identifier, Version
from crosslight.standards.study import Coded, Patient, PersonName, SeriesRecord, StudyRecord, StudyTime
from crosslight.standards.xds.model.publication import Publication
from registry.ask.question import ByPatient
from registry.identity.model import PatientSelector
from registry.index.codec import Codec
from registry.index.past_versions import packed, publication_of, state_of, unpacked

HOME = member("RA2", 1)

_text = st.text(max_size=40)
_uid = st.from_regex(r"[1-9][0-9]{0,8}(\.(0|[1-9][0-9]{0,8})){1,5}", fullmatch=True)
_time = st.builds(
    StudyTime,
    date=st.sampled_from(("", "20260329", "2026.01.01")),
    time=st.sampled_from(("", "0130", "013000.123456", "23:59")),
    zone=st.sampled_from(("", "+0100", "Europe/London")),
    zone_source=st.sampled_from(("tag", "site", "none")),
)
_identifier = st.builds(
    Identifier, value=_text, authority=st.sampled_from(("", "1.2.3", "1.2.9")), namespace=_text
)
_series = st.builds(
    SeriesRecord,
    series_uid=_uid,
    modality=st.sampled_from(("", "CT", "PT", "XYZ")),
    number=st.sampled_from(("", "1", "01", "-3", "٣")),
    description=_text,
    body_site=_text,
    laterality=st.sampled_from(("", "L")),
    n_instances=st.integers(0, 9999),
    sop_classes=st.lists(
        st.tuples(st.sampled_from(("1.2.840.10008.5.1.4.1.1.2", "1.2.3")), st.integers(1, 99)), max_size=3
    ).map(tuple),
    time=_time,
    digest=st.sampled_from(("", "ab" * 32, "AB" * 32, "cd" * 20, "text")),
)
_study = st.builds(
    StudyRecord,
    study_uid=st.just("1.2.840.1.5"),
    patient=st.just(Patient(local=Identifier("H1", "1.2.9"), name=PersonName("A^B"))),
    accessions=st.lists(_identifier, max_size=2).map(tuple),
    orders=st.lists(_identifier, max_size=2).map(tuple),
    study_id=_text,
    description=_text,
    procedure_codes=st.lists(st.builds(Coded, value=_text, scheme=_text, meaning=_text), max_size=2).map(
        tuple
    ),
    reason=_text,
    referrer=_text,
    institution=_text,
    time=_time,
    modalities=st.lists(st.sampled_from(("CT", "SR")), max_size=2).map(tuple),
    body_sites=st.lists(_text, max_size=2).map(tuple),
    series=st.lists(_series, max_size=4, unique_by=lambda s: s.series_uid).map(tuple),
    n_series=st.integers(0, 5),
    n_instances=st.integers(0, 99),
    detail=st.sampled_from(("entry", "manifest", "full")),
    progress=st.sampled_from(("arriving", "complete")),
)
_extras = st.dictionaries(
    _text,
    st.dictionaries(_text, st.one_of(_text, st.integers(0, 9), st.lists(_text, max_size=2)), max_size=2),
    max_size=2,
)


def _as_published(record: StudyRecord, n: int, extras: dict[str, Any]) -> Publication:
    return replace(published(HOME, record, n, replaces=n - 1 if n > 1 else None), extras=extras)


@given(record=_study, extras=_extras)
@settings(max_examples=150, deadline=None)
def test_any_text_survives_the_row(record: StudyRecord, extras: dict[str, Any]) -> None:
    codec, said = Codec(), _as_published(record, 3, extras)
    stored = codec.encode(said, "digest", Version(1, 3), HOME.secret)
    back, digest = codec.decode(stored, Version(1, 3), record.patient, HOME.source, HOME.secret, "Approved")
    assert (back, digest) == (said, "digest")


@given(first=_study, second=_study, extras=_extras)
@settings(max_examples=150, deadline=None)
def test_any_superseded_version_comes_back_as_it_was(
    first: StudyRecord, second: StudyRecord, extras: dict[str, Any]
) -> None:
    codec = Codec()
    old, new = _as_published(first, 1, extras), _as_published(second, 2, {})
    now = state_of(new, "new", 2, HOME.secret)
    kept = codec.encode_plain(packed(now, {**state_of(old, "old", 1, HOME.secret), "status": "Deprecated"}))
    state = unpacked(now, codec.decode_plain(kept))
    back, digest = publication_of(state, first.patient, HOME.source, HOME.secret)
    assert (back, digest, state["patient"]) == (replace(old, status="Deprecated"), "old", 1)


@given(description=_text, pn=st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=30))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_text_survives_the_index(
    tmp_path_factory: pytest.TempPathFactory, description: str, pn: str
) -> None:
    db = SqliteDb(tmp_path_factory.mktemp("text") / "t.sqlite")
    try:
        room = await make_room(db)
        who = replace(patient(room.member("RA2"), number=nhs(3)), name=PersonName(pn))
        record = replace(study(who, 1), description=description)
        await room.publish("RA2", record, 1)
        (held,) = (
            await room.asked(ByPatient(patient=PatientSelector(identifiers=(Identifier(nhs(3)),))))
        ).holdings
        assert held.record == record
        await room.ask.close()
    finally:
        await db.close()
