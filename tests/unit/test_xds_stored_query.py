"""Stored queries: coding rules, presence rules, filters."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crosslight.standards.xds.model import vocabulary as v
from crosslight.standards.xds.model.metadata import (
    Association,
    Author,
    Code,
    DocumentEntry,
    Folder,
    RegistryObjects,
    SubmissionSet,
)
from crosslight.standards.xds.rules import stored_query as q
from crosslight.standards.xds.rules.errors import RegistryRefusal
from crosslight.standards.xds.rules.evaluate import evaluate, like
from crosslight.standards.xds.rules.stored_query import (
    StoredQuery,
    coded_values,
    parse_stored_query,
    quoted,
    quoted_list,
)
from crosslight.standards.xds.wire.adhoc import AdhocQuery

PATIENT = ("$XDSDocumentEntryPatientId", ("'p^^^&1.2&ISO'",))
APPROVED = ("$XDSDocumentEntryStatus", (f"('{v.APPROVED}')",))

TWO_PATIENTS = ("$XDSDocumentEntryPatientId", ("('a^^^&1&ISO','b^^^&1&ISO')",))
CLASS = ("$XDSDocumentEntryClassCode", ("('a^^b')",))


def find(
    *extra: tuple[str, tuple[str, ...]], base: tuple[tuple[str, tuple[str, ...]], ...] = (PATIENT, APPROVED)
) -> StoredQuery:
    return parse_stored_query(AdhocQuery(query_id=q.FIND_DOCUMENTS, parameters=(*base, *extra)))


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("'a'", ["a"]),
        ("'O''Neill'", ["O'Neill"]),
        ("''", [""]),
        ("('a','b')", ["a", "b"]),
        ("( 'a' , 'b''(c),d' )", ["a", "b'(c),d"]),
        ("20240101", ["20240101"]),
        ("(1,2)", ["1", "2"]),
        ("('a''''b')", ["a''b"]),
    ],
)
def test_coding(text: str, values: list[str]) -> None:
    assert coded_values("$x", text) == values


@pytest.mark.parametrize(
    "text",
    ["a", "'a", "('a'", "(a)", "'a','b'", "('a',)", "", "()", "'a'b", "('a' 'b')", "1,2", "'it's'", "('a'))"],
)
def test_coding_refused(text: str) -> None:
    with pytest.raises(RegistryRefusal):
        coded_values("$x", text)


@given(st.lists(st.text(), min_size=1, max_size=4))
def test_quoting_reads_back(values: list[str]) -> None:
    assert [value for text in quoted_list(values) for value in coded_values("$x", text)] == values
    assert coded_values("$x", quoted(values[0])) == values[:1]


@pytest.mark.parametrize(
    ("query_id", "parameters", "code"),
    [
        ("urn:uuid:d90e5407-b356-4d91-a89f-873917b4b0e6", (), "XDSUnknownStoredQuery"),  # GetRelatedDocuments
        ("", (), "XDSUnknownStoredQuery"),
        (q.FIND_DOCUMENTS, (PATIENT,), "XDSStoredQueryMissingParam"),
        (q.FIND_DOCUMENTS, (APPROVED,), "XDSStoredQueryMissingParam"),
        (
            q.FIND_DOCUMENTS,
            (PATIENT, ("$XDSDocumentEntryStatus", ("('nonsense')",))),
            "XDSStoredQueryMissingParam",
        ),
        (q.FIND_DOCUMENTS, (PATIENT, PATIENT, APPROVED), "XDSStoredQueryParamNumber"),
        (q.FIND_DOCUMENTS, (TWO_PATIENTS, APPROVED), "XDSStoredQueryParamNumber"),
        (q.FIND_DOCUMENTS, (PATIENT, APPROVED, CLASS, CLASS), "XDSStoredQueryParamNumber"),
        (
            q.FIND_DOCUMENTS,
            (PATIENT, APPROVED, ("$XDSDocumentEntryClassCode", ("('a')",))),
            "XDSRegistryError",
        ),
        (
            q.FIND_DOCUMENTS,
            (PATIENT, APPROVED, ("$XDSDocumentEntryClassCode", ("('a^^')",))),
            "XDSRegistryError",
        ),
        (
            q.FIND_DOCUMENTS,
            (PATIENT, APPROVED, ("$XDSDocumentEntryCreationTimeFrom", ("'2024-01-01'",))),
            "XDSRegistryError",
        ),
        (q.FIND_DOCUMENTS, (("$XDSDocumentEntryPatientId", ("'^^^&1&ISO'",)), APPROVED), "XDSRegistryError"),
        (q.FIND_BY_REFERENCE, (PATIENT, APPROVED), "XDSStoredQueryMissingParam"),
        (q.GET_DOCUMENTS, (), "XDSStoredQueryMissingParam"),
        (
            q.GET_DOCUMENTS,
            (("$XDSDocumentEntryEntryUUID", ("('a')",)), ("$XDSDocumentEntryUniqueId", ("('b')",))),
            "XDSStoredQueryParamNumber",
        ),
        (q.GET_ASSOCIATIONS, (), "XDSStoredQueryMissingParam"),
        (q.GET_ALL, (("$patientId", ("'p^^^&1&ISO'",)), APPROVED), "XDSStoredQueryMissingParam"),
    ],
)
def test_refusals(query_id: str, parameters: tuple[tuple[str, tuple[str, ...]], ...], code: str) -> None:
    with pytest.raises(RegistryRefusal) as caught:
        parse_stored_query(AdhocQuery(query_id=query_id, parameters=parameters))
    assert caught.value.errors[0].code == code


def test_unknown_parameters_and_one_unknown_status_are_ignored() -> None:
    query = find(
        ("$XDSDocumentEntryPracticeSettingCodeScheme", ("('x')",)),
        base=(PATIENT, ("$XDSDocumentEntryStatus", (f"('{v.APPROVED}','x')",))),
    )
    assert query.values("$XDSDocumentEntryStatus") == (v.APPROVED,)
    assert query.patient is not None
    assert (query.patient.value, query.patient.authority) == ("p", "1.2")


ENTRY = DocumentEntry(
    entry_uuid="urn:uuid:1",
    unique_id="1.1",
    patient_id="p^^^&1.2&ISO",
    status=v.APPROVED,
    creation_time="20240601",
    service_start_time="20240601101112",
    class_code=Code("IMAGES", "s"),
    event_codes=(Code("CT", "1.2.840.10008.2.16.4"), Code("CHEST", "b")),
    confidentiality=(Code("N", "c"),),
    authors=(Author(persons=("^O'Neill^Siân",)),),
    reference_ids=(
        "1.2^^^^urn:ihe:iti:xds:2016:studyInstanceUID",
        "A^^^&1.9&ISO^urn:ihe:iti:xds:2013:accession",
    ),
)
DE = "$XDSDocumentEntry"


@pytest.mark.parametrize(
    ("extra", "hit"),
    [
        ((), True),
        (((f"{DE}ClassCode", ("('IMAGES^^s','x^^y')",)),), True),
        (((f"{DE}ClassCode", ("('IMAGES^^s')", "('x^^y')")),), True),
        (((f"{DE}ClassCode", ("('IMAGES^^t')",)),), False),
        (
            (
                (f"{DE}EventCodeList", ("('CT^^1.2.840.10008.2.16.4')",)),
                (f"{DE}EventCodeList", ("('CHEST^^b')",)),
            ),
            True,
        ),
        (((f"{DE}EventCodeList", ("('CT^^1.2.840.10008.2.6.1')",)),), True),
        (
            (
                (f"{DE}EventCodeList", ("('CT^^1.2.840.10008.2.16.4')",)),
                (f"{DE}EventCodeList", ("('HEAD^^b')",)),
            ),
            False,
        ),
        (((f"{DE}AuthorPerson", ("('%Neill%')",)),), True),
        (((f"{DE}AuthorPerson", ("('%Smith%','^O''Neill^Si_n')",)),), True),
        (((f"{DE}AuthorPerson", ("('O''Neill')",)),), False),
        (((f"{DE}CreationTimeFrom", ("'20240601'",)),), True),
        (((f"{DE}CreationTimeFrom", ("202406",)),), True),
        (((f"{DE}CreationTimeFrom", ("'20240601000001'",)),), False),
        (((f"{DE}CreationTimeTo", ("'20240601'",)),), False),
        (((f"{DE}CreationTimeTo", ("'20240601000001'",)),), True),
        (((f"{DE}ServiceStopTimeFrom", ("'2030'",)),), True),  # the entry has no stop time
        (((f"{DE}ServiceStartTimeFrom", ("'2030'",)),), False),
        (((f"{DE}Type", (f"('{v.ON_DEMAND}')",)),), False),
        (((f"{DE}Type", (f"('{v.ON_DEMAND}','{v.STABLE}')",)),), True),
    ],
)
def test_filters(extra: tuple[tuple[str, tuple[str, ...]], ...], hit: bool) -> None:
    assert bool(evaluate(find(*extra), RegistryObjects(documents=(ENTRY,))).documents) is hit


#: IHE's values in full (XDS Metadata Update): a constant of our own would prove itself.
ONLINE, OFFLINE = (f"urn:ihe:iti:2010:DocumentAvailability:{one}" for one in ("Online", "Offline"))


@pytest.mark.parametrize(
    ("held", "asked", "hit"),
    [
        ("", (ONLINE,), True),
        ("", (OFFLINE,), False),
        ("", (ONLINE, OFFLINE), True),
        (ONLINE, (ONLINE,), True),
        (OFFLINE, (ONLINE,), False),
        (OFFLINE, (OFFLINE,), True),
        (OFFLINE, (), True),
    ],
)
def test_document_availability(held: str, asked: tuple[str, ...], hit: bool) -> None:
    """An entry that says nothing is online."""
    query = find(*([("$XDSDocumentEntryDocumentAvailability", quoted_list(asked))] if asked else []))
    found = evaluate(query, RegistryObjects(documents=(replace(ENTRY, document_availability=held),)))
    assert bool(found.documents) is hit


@pytest.mark.parametrize(
    ("query_id", "name", "value", "code"),
    [
        (q.FIND_DOCUMENTS, "$XDSDocumentEntryDocumentAvailability", "'Online'", "XDSRegistryError"),
        (q.GET_ASSOCIATIONS, "$XDSAssociationStatus", "('nonsense')", "XDSRegistryError"),
        (q.GET_ASSOCIATIONS, "$MetadataLevel", "2", "XDSRegistryError"),
        (q.FIND_DOCUMENTS, "$MetadataLevel", "'2'", "XDSRegistryError"),
        (q.GET_DOCUMENTS, "$MetadataLevel", "1", "XDSStoredQueryMissingParam"),
    ],
)  # fmt: skip
def test_options_that_are_not_there_are_refused_by_name(
    query_id: str, name: str, value: str, code: str
) -> None:
    own = {q.FIND_DOCUMENTS: (PATIENT, APPROVED), q.GET_ASSOCIATIONS: (("$uuid", ("('urn:uuid:1')",)),)}.get(
        query_id, ()
    )
    with pytest.raises(RegistryRefusal) as caught:
        parse_stored_query(AdhocQuery(query_id=query_id, parameters=(*own, (name, (value,)))))
    assert caught.value.errors[0].code == code
    if code == "XDSRegistryError":
        assert name in caught.value.errors[0].context


@pytest.mark.parametrize(
    ("asked", "found"),
    [((), "abc"), ((v.APPROVED,), "ac"), ((v.DEPRECATED,), "b"), ((v.APPROVED, v.DEPRECATED), "abc")],
)
@pytest.mark.parametrize(
    "query_id", [q.GET_ASSOCIATIONS, q.GET_DOCUMENTS_AND_ASSOCIATIONS, q.GET_SUBMISSION_SETS]
)
def test_associations_by_status(query_id: str, asked: tuple[str, ...], found: str) -> None:
    """One that says no status is approved."""
    submission = SubmissionSet(entry_uuid="s", patient_id="p", unique_id="1")
    made = tuple(
        Association(entry_uuid=name, type=v.HAS_MEMBER, source="s", target="d", status=status)
        for name, status in (("a", v.APPROVED), ("b", v.DEPRECATED), ("c", ""))
    )
    name = "$XDSDocumentEntryEntryUUID" if query_id == q.GET_DOCUMENTS_AND_ASSOCIATIONS else "$uuid"
    parameters = [(name, ("('d')",)), ("$MetadataLevel", ("1",))] + (
        [("$XDSAssociationStatus", quoted_list(asked))] if asked else []
    )
    query = parse_stored_query(AdhocQuery(query_id=query_id, parameters=tuple(parameters)))
    objects = RegistryObjects(
        documents=(replace(ENTRY, entry_uuid="d"),), submissions=(submission,), associations=made
    )
    assert "".join(a.entry_uuid for a in evaluate(query, objects).associations) == found


def test_status_and_type_default() -> None:
    hidden = (replace(ENTRY, status=v.DEPRECATED), replace(ENTRY, object_type=v.ON_DEMAND))
    assert evaluate(find(), RegistryObjects(documents=hidden)).documents == ()


@pytest.mark.parametrize(
    ("references", "hit"),
    [
        ((("('1.2^^^&9.9&ISO^urn:ihe:iti:xds:2016:studyInstanceUID')",),), True),
        ((("('A^^^&1.9&ISO^urn:ihe:iti:xds:2013:accession')",),), True),
        ((("('A^^^^urn:ihe:iti:xds:2013:accession')",),), False),
        (
            (
                ("('x','A^^^&1.9&ISO^urn:ihe:iti:xds:2013:accession')",),
                ("('1.2^^^^urn:ihe:iti:xds:2016:studyInstanceUID')",),
            ),
            True,
        ),
        ((("('A^^^&1.9&ISO^urn:ihe:iti:xds:2013:accession')",), ("('x')",)), False),
    ],
)
def test_references(references: tuple[tuple[str, ...], ...], hit: bool) -> None:
    slots = tuple((f"{DE}ReferenceIdList", r) for r in references)
    query = parse_stored_query(
        AdhocQuery(query_id=q.FIND_BY_REFERENCE, parameters=(PATIENT, APPROVED, *slots))
    )
    assert bool(evaluate(query, RegistryObjects(documents=(ENTRY,))).documents) is hit


SS = SubmissionSet(
    entry_uuid="urn:uuid:5",
    unique_id="5",
    patient_id=ENTRY.patient_id,
    status=v.APPROVED,
    submission_time="2024",
)
FOLDER = Folder(entry_uuid="urn:uuid:6", unique_id="6", patient_id=ENTRY.patient_id, status=v.APPROVED)
OLD = replace(ENTRY, entry_uuid="urn:uuid:0", unique_id="1.0", status=v.DEPRECATED)
LINKS = (
    Association(entry_uuid="urn:uuid:7", type=v.HAS_MEMBER, source="urn:uuid:5", target="urn:uuid:1"),
    Association(entry_uuid="urn:uuid:8", type=v.HAS_MEMBER, source="urn:uuid:6", target="urn:uuid:1"),
    Association(entry_uuid="urn:uuid:9", type=v.RPLC, source="urn:uuid:1", target="urn:uuid:0"),
    Association(entry_uuid="urn:uuid:10", type=v.HAS_MEMBER, source="urn:uuid:5", target="urn:uuid:8"),
)
ALL = RegistryObjects(documents=(ENTRY, OLD), submissions=(SS,), folders=(FOLDER,), associations=LINKS)


def ask(query_id: str, *parameters: tuple[str, tuple[str, ...]], objects: RegistryObjects = ALL) -> list[str]:
    query = parse_stored_query(AdhocQuery(query_id=query_id, parameters=parameters))
    return [o.entry_uuid.removeprefix("urn:uuid:") for o in evaluate(query, objects)]


def test_by_id_queries() -> None:
    assert ask(q.GET_DOCUMENTS, ("$XDSDocumentEntryEntryUUID", ("('urn:uuid:0')", "('urn:uuid:1')"))) == [
        "1",
        "0",
    ]
    assert ask(q.GET_DOCUMENTS, ("$XDSDocumentEntryUniqueId", ("('1.1','none')",))) == ["1"]
    assert ask(q.GET_ASSOCIATIONS, ("$uuid", ("('urn:uuid:1')",))) == ["7", "8", "9"]
    assert ask(q.GET_SUBMISSION_SETS, ("$uuid", ("('urn:uuid:1')",))) == ["5", "7"]
    assert ask(q.GET_DOCUMENTS_AND_ASSOCIATIONS, ("$XDSDocumentEntryUniqueId", ("('1.0')",))) == ["0", "9"]
    assert ask(q.GET_FOLDERS, ("$XDSFolderUniqueId", ("('6')",))) == ["6"]


def test_find_sets_and_folders_and_all() -> None:
    status = (f"('{v.APPROVED}')",)
    patient = ("'p^^^&1.2&ISO'",)
    sets = (("$XDSSubmissionSetPatientId", patient), ("$XDSSubmissionSetStatus", status))
    assert ask(q.FIND_SUBMISSION_SETS, *sets, ("$XDSSubmissionSetSubmissionTimeTo", ("2024",))) == []
    assert ask(q.FIND_SUBMISSION_SETS, *sets, ("$XDSSubmissionSetSubmissionTimeFrom", ("2024",))) == ["5"]
    assert ask(q.FIND_FOLDERS, ("$XDSFolderPatientId", patient), ("$XDSFolderStatus", status)) == ["6"]
    every = (
        ("$patientId", patient),
        *[(f"$XDS{k}Status", status) for k in ("DocumentEntry", "SubmissionSet", "Folder")],
    )
    assert ask(q.GET_ALL, *every) == ["5", "1", "6", "7", "8", "9", "10"]


def test_leaf_class_never_mixes_patients() -> None:
    objects = RegistryObjects(documents=(ENTRY, replace(OLD, patient_id="other")))
    parameters = (("$XDSDocumentEntryEntryUUID", ("('urn:uuid:0','urn:uuid:1')",)),)
    with pytest.raises(RegistryRefusal) as caught:
        ask(q.GET_DOCUMENTS, *parameters, objects=objects)
    assert caught.value.errors[0].code == "XDSResultNotSinglePatient"
    refs = parse_stored_query(
        AdhocQuery(query_id=q.GET_DOCUMENTS, parameters=parameters, return_type="ObjectRef")
    )
    assert len(evaluate(refs, objects)) == 2


@pytest.mark.parametrize(
    ("pattern", "text", "hit"),
    [
        ("%", "", True),
        ("a%b_", "axxbc", True),
        ("a%b_", "axxb", False),
        ("_", "", False),
        ("%a%", "bab", True),
        ("", "", True),
        ("a", "A", False),
    ],
)  # fmt: skip
def test_like(pattern: str, text: str, hit: bool) -> None:
    assert like(pattern, text) is hit


def test_like_is_not_exponential() -> None:
    assert not like("%a" * 120 + "b", "a" * 5000)
