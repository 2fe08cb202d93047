"""Studies as hypothesis strategies and as plain examples, for the tests of publication."""

from __future__ import annotations

from hypothesis import strategies as st

from crosslight.standards.ids import NHS_NUMBER_OID, Identifier, Version
from crosslight.standards.study import (
    Coded,
    InstanceRef,
    ManifestFacts,
    Patient,
    PersonName,
    SeriesRecord,
    StudyRecord,
    StudyTime,
)

CT = "1.2.840.10008.5.1.4.1.1.2"

texts = st.text(st.characters(codec="utf-8"), max_size=20)
uids = st.lists(st.integers(0, 10**6), min_size=2, max_size=6).map(lambda parts: ".".join(map(str, parts)))
identifiers = st.builds(
    Identifier,
    value=texts.filter(bool),
    authority=st.one_of(st.just(""), uids),
    namespace=st.one_of(st.just(""), texts),
)
times = st.builds(
    StudyTime,
    date=st.sampled_from(["", "20250101", "2025"]),
    time=st.sampled_from(["", "1200", "120000.123"]),
    zone=st.sampled_from(["", "+0100", "Europe/London"]),
    zone_source=st.sampled_from(["none", "tag", "site"]),
)
patients = st.builds(
    Patient,
    local=identifiers,
    others=st.lists(identifiers, max_size=3).map(tuple),
    name=st.builds(PersonName, texts),
    birth_date=st.sampled_from(["", "1961", "196102", "19610203", "19000101"]),
    sex=st.sampled_from(["", "M", "F", "O"]),
    postcode=texts,
    traced=st.booleans(),
)
series = st.builds(
    SeriesRecord,
    series_uid=uids,
    modality=texts,
    number=texts,
    description=texts,
    body_site=texts,
    laterality=texts,
    n_instances=st.integers(0, 2**32 - 1),
    sop_classes=st.lists(st.tuples(uids, st.integers(0, 2**32 - 1)), max_size=3).map(tuple),
    time=times,
    digest=texts,
)
records = st.builds(
    StudyRecord,
    study_uid=uids,
    patient=patients,
    accessions=st.lists(identifiers, max_size=3).map(tuple),
    orders=st.lists(identifiers, max_size=2).map(tuple),
    study_id=texts,
    description=texts,
    procedure_codes=st.lists(st.builds(Coded, texts, texts, texts), max_size=2).map(tuple),
    reason=texts,
    referrer=texts,
    institution=texts,
    time=times,
    modalities=st.lists(texts, max_size=3).map(tuple),
    body_sites=st.lists(texts, max_size=3).map(tuple),
    series=st.lists(series, max_size=3).map(tuple),
    n_series=st.integers(0, 2**32 - 1),
    n_instances=st.integers(0, 2**32 - 1),
    detail=st.sampled_from(["entry", "manifest", "full"]),
    progress=st.sampled_from(["arriving", "complete"]),
)
manifests = st.builds(
    ManifestFacts,
    document_uid=uids,
    sha1=st.binary(min_size=20, max_size=20).map(bytes.hex),
    size_bytes=st.integers(0, 2**63),
    creation_time=st.sampled_from(["2025", "20250101120000"]),
)
versions = st.builds(Version, st.integers(0, 255), st.integers(0, 2**24 - 1))


def make_patient(local: str = "A1", *, name: str = "Okafor^Ada", national: str = "9434765919") -> Patient:
    """A patient of authority 1.2.99."""
    others = (Identifier(national, NHS_NUMBER_OID),) if national else ()
    return Patient(
        local=Identifier(local, "1.2.99"),
        others=others,
        name=PersonName(name),
        birth_date="19800101",
        sex="F",
    )


def make_instances(study_uid: str, count: int, *, series_uid: str = "") -> list[InstanceRef]:
    """``count`` CT slices of one series."""
    series_uid = series_uid or f"{study_uid}.1"
    return [
        InstanceRef(
            study_uid=study_uid,
            series_uid=series_uid,
            sop_class_uid=CT,
            sop_uid=f"{series_uid}.{i}",
            transfer_syntax_uid="1.2.840.10008.1.2.1",
            number=str(i),
            sha256=f"{i:064x}",
            size_bytes=1000,
        )
        for i in range(1, count + 1)
    ]


def make_record(
    study_uid: str, count: int = 1, *, patient: Patient | None = None, description: str = "CT chest"
) -> StudyRecord:
    """A study with one series of ``count`` slices."""
    one = SeriesRecord(
        series_uid=f"{study_uid}.1",
        modality="CT",
        number="1",
        n_instances=count,
        sop_classes=((CT, count),),
        digest=f"{count:064x}",
    )
    base = StudyRecord(
        study_uid=study_uid,
        patient=patient or make_patient(),
        accessions=(Identifier("ACC1", "1.2.5"),),
        description=description,
        time=StudyTime(date="20250701", time="101010", zone="Europe/London", zone_source="site"),
    )
    return base.with_series([one], detail="full")
