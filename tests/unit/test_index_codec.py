"""Rows of the index: any publication comes back as it was, also a superseded one (D5, D6)."""

from __future__ import annotations

from base64 import b85decode
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from registry_room import make_room
from registry_samples import member, nhs, patient, published, study

from crosslight.runtime.db import SqliteDb
from crosslight.standards.ids import Identifier, Kind, Version, id_family, study_tag
from crosslight.standards.records import changed
from crosslight.standards.study import Coded, Patient, PersonName, SeriesRecord, StudyRecord, StudyTime
from crosslight.standards.xds.model.publication import Publication
from registry.ask.question import ByPatient
from registry.identity.model import PatientSelector
from registry.index.codec import Codec, PublicationRow
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
    return changed(published(HOME, record, n, replaces=n - 1 if n > 1 else None), extras=extras)


#: A body of format 1 as an earlier release wrote it, and the study that it is of.
OLD_BODY = b85decode(
    "0aWkr@9*#L@9*#L@9*#L@9*#L@9*#L@9*#L@9*#L@9)jc&CSit&CSit&CSit&CSit&CRQ;tE;Q4tE;Q4tE;Q4tE;Q4"
    "tE;Q4tE;Q4tE;Q4tE*sa09^$D<3<$E^Dsw{0OSZ$gs*Z`U%;%aG}SQ7CFLI?B!~*r*kKxbWu<XL&66u-Vj5;&g#UrU"
    "G>nfmOw0y}Q_8uc<6%;2aA97;tTc}s#wBQmsCLf@ApEg>5U_!+H12*M_sc%DSa+OGOww&Ccup-xE!)^(Ld@#q&P^L#"
    "t^gV&uBhW=U2X}9qtr~bXS^~@Xq*RiGn}Ykur}5k#4lM!HaMK`(deq|OD+K"
)
_OLD_TIME = StudyTime(date="20260329", time="013000", zone="Europe/London", zone_source="site")
OLD = StudyRecord(
    study_uid="1.2.840.1.5",
    patient=Patient(local=Identifier("H1", "1.2.9"), name=PersonName("A^B")),
    accessions=(Identifier("A1", "1.2.9"), Identifier("A2", "", "RIS")),
    orders=(Identifier("O1", "1.2.3"),),
    study_id="S1",
    description="CT chest",
    procedure_codes=(Coded("1", "SCT", "Chest"),),
    referrer="R^X",
    institution="East",
    time=_OLD_TIME,
    modalities=("CT", "SR"),
    body_sites=("CHEST",),
    series=(
        SeriesRecord(
            series_uid="1.2.840.1.5.1",
            modality="CT",
            number="1",
            description="Thin",
            body_site="CHEST",
            laterality="L",
            n_instances=3,
            sop_classes=(("1.2.840.10008.5.1.4.1.1.2", 3),),
            time=_OLD_TIME,
            digest="ab" * 32,
        ),
        SeriesRecord(
            series_uid="1.2.840.1.5.2",
            modality="SR",
            number="01",
            n_instances=3,
            sop_classes=(("1.2.3", 1), ("1.2.840.10008.5.1.4.1.1.88.33", 2)),
            time=StudyTime(date="20260330"),
            digest="text",
        ),
    ),
    n_series=2,
    n_instances=7,
    progress="arriving",
)


def test_a_row_of_an_earlier_release_is_read_for_ever() -> None:
    stored = PublicationRow(body=OLD_BODY, extra=b"")
    said, digest = Codec().decode(stored, Version(1, 7), OLD.patient, HOME.source, HOME.secret, "Approved")
    assert (said.record, digest, said.manifest.sha1) == (OLD, "ef" * 32, "cd" * 20)
    assert said.replaces_entry_uuid == id_family(Version(1, 6), study_tag(HOME.secret, OLD.study_uid)).urn(
        Kind.DOCUMENT_ENTRY
    )
    assert Codec().study_uid(OLD_BODY) == OLD.study_uid


def test_what_a_node_says_of_a_study_has_the_digest_that_it_always_had() -> None:
    """Else every study of the region would be published anew by a new release (D14)."""
    assert OLD.digest() == "0c30072bc2dbe5f2780aa6cdf58aaaa6da57a2c13cfe7f556bee936f75289866"


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
    assert (back, digest, state["patient"]) == (changed(old, status="Deprecated"), "old", 1)


@given(description=_text, pn=st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=30))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_text_survives_the_index(
    tmp_path_factory: pytest.TempPathFactory, description: str, pn: str
) -> None:
    db = SqliteDb(tmp_path_factory.mktemp("text") / "t.sqlite")
    try:
        room = await make_room(db)
        who = replace(patient(room.member("RA2"), number=nhs(3)), name=PersonName(pn))
        record = changed(study(who, 1), description=description)
        await room.publish("RA2", record, 1)
        (held,) = (
            await room.asked(ByPatient(patient=PatientSelector(identifiers=(Identifier(nhs(3)),))))
        ).holdings
        assert held.record == record
        await room.ask.close()
    finally:
        await db.close()
