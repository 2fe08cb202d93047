"""ITI-42's rules on the NIST submissions, and the FindDocuments suite 11897 over them, without a registry's
store.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from xds_nist import ANY_CODES, CONTRADICTORY, LOAD, expected, filled, index, new_uuid, submission

from crosslight.standards.problem import CrosslightError
from crosslight.standards.xds.mapping.values import ValueSets
from crosslight.standards.xds.model import vocabulary as v
from crosslight.standards.xds.model.metadata import RegistryObjects
from crosslight.standards.xds.model.xml import parse_untrusted_xml
from crosslight.standards.xds.rules.errors import RegistryRefusal
from crosslight.standards.xds.rules.evaluate import evaluate
from crosslight.standards.xds.rules.stored_query import parse_stored_query
from crosslight.standards.xds.rules.submission import REQUIRED, check_submission
from crosslight.standards.xds.wire.adhoc import parse_adhoc_request

pytestmark = pytest.mark.standards


def codes_of(error: RegistryRefusal) -> set[str]:
    return {e.code for e in error.errors}


NO_REGISTRATION = re.compile(r"update|deprecate|12319|__x\.xml$")


def test_submissions_pass_the_rules(standards_folder: Path) -> None:
    passed = 0
    for name, row in index(standards_folder).items():
        if (
            not name.startswith(("iti42/nist", "iti42-converted"))
            or "expect Success" not in row["expectation"]
        ):
            continue
        if NO_REGISTRATION.search(name) or (
            "-converted-from-2.1/" in name and "__" not in name.rpartition("/")[2][6:]
        ):
            continue
        objects = submission(standards_folder, name)
        try:
            check_submission(objects, ANY_CODES)
        except RegistryRefusal as error:
            error.add_note(f"{name}: {[f'{e.code} {e.context}' for e in error.errors]}")
            raise
        passed += 1
    assert passed >= 26


@pytest.fixture
def good(standards_folder: Path) -> RegistryObjects:
    return submission(standards_folder, "iti42-converted-from-2.1/12346__doc_w_fol__single_doc_w_fol.xml")


def refused(objects: RegistryObjects, values: ValueSets = ANY_CODES) -> set[str]:
    with pytest.raises(RegistryRefusal) as caught:
        check_submission(objects, values)
    return codes_of(caught.value)


@pytest.mark.parametrize("name", REQUIRED["document"])
def test_each_missing_attribute_is_refused(good: RegistryObjects, name: str) -> None:
    """NIST 11998a."""
    entry = good.documents[0]
    empty = (
        ()
        if isinstance(getattr(entry, name), tuple)
        else None
        if name.endswith(("code", "type", "setting"))
        else ""
    )
    changes: dict[str, Any] = {name: empty}
    broken = replace(entry, **changes)
    assert refused(replace(good, documents=(broken,))) == {"XDSRegistryMetadataError"}


def negatives(good: RegistryObjects) -> Iterator[tuple[str, RegistryObjects, str]]:
    entry, sset, fol = good.documents[0], good.submissions[0], good.folders[0]
    metadata = "XDSRegistryMetadataError"

    def with_entry(**changes: Any) -> RegistryObjects:
        return replace(good, documents=(replace(entry, **changes),))

    yield "other patient (11997)", with_entry(patient_id="X^^^&1.2.3&ISO"), "XDSPatientIdDoesNotMatch"
    yield (
        "folder of another patient (12002)",
        replace(good, folders=(replace(fol, patient_id="X^^^&1.2&ISO"),)),
        "XDSPatientIdDoesNotMatch",
    )
    yield "no submission set", replace(good, submissions=()), metadata
    yield "two submission sets", replace(good, submissions=(sset, replace(sset, unique_id="1.9"))), metadata
    yield "unique id twice", with_entry(unique_id=sset.unique_id), "XDSRegistryDuplicateUniqueIdInMessage"
    yield "hash", with_entry(hash="xyz"), metadata
    yield "size", with_entry(size="-1"), metadata
    yield "creation time", with_entry(creation_time="2024-01-01"), metadata
    yield "times reversed", with_entry(service_start_time="20240102", service_stop_time="20240101"), metadata
    yield "repository", with_entry(repository_unique_id="none"), metadata
    yield "unique id", with_entry(unique_id="a b"), metadata
    yield "patient id", with_entry(patient_id="X"), metadata
    yield "source patient id", with_entry(source_patient_id="X"), metadata
    yield "source patient info", with_entry(source_patient_info=("PID-19|1",)), metadata
    yield "on demand", with_entry(object_type=v.ON_DEMAND), metadata
    yield "source id", replace(good, submissions=(replace(sset, source_id="x"),)), metadata
    yield "folder title", replace(good, folders=(replace(fol, title=()),)), metadata
    first = next(a for a in good.associations if (a.source, a.target) == (sset.entry_uuid, entry.entry_uuid))
    others = tuple(a for a in good.associations if a is not first)

    def with_first(**changes: Any) -> RegistryObjects:
        return replace(good, associations=(replace(first, **changes), *others))

    yield "unlinked document", replace(good, associations=others), metadata
    yield "association to self", with_first(target=first.source), metadata
    yield "association type", with_first(type="urn:x"), metadata
    yield "status", with_first(submission_set_status="Reference"), metadata
    yield "availability", with_first(type=v.UPDATE_AVAILABILITY), metadata
    yield (
        "relationship from elsewhere",
        with_first(type=v.RPLC, source=new_uuid().urn, target=new_uuid().urn),
        metadata,
    )


def test_negatives_get_their_error(good: RegistryObjects) -> None:
    check_submission(good, ANY_CODES)
    for what, objects, code in negatives(good):
        try:
            assert code in refused(objects)
        except BaseException as error:
            error.add_note(what)
            raise


def test_codes_are_checked_where_the_region_checks(good: RegistryObjects) -> None:
    # what may stand there is said
    with pytest.raises(RegistryRefusal, match=r"outside its value set: \S+\^\^[0-9.]+"):
        check_submission(good, ValueSets())


# --- 11897 --------------------------------------------------------------------------------------------------


def loaded(folder: Path) -> RegistryObjects:
    """The load set 12346 as a registry would hold it."""
    held: list[RegistryObjects] = []
    for name in LOAD:
        replaced = held[-1].documents[0].entry_uuid if name.endswith("rplc__rplc") else ""
        held.append(submission(folder, f"iti42-converted-from-2.1/{name}.xml", replaced=replaced))
    old = held[-2].documents[0].entry_uuid
    return RegistryObjects.of(
        replace(thing, status=v.DEPRECATED if thing.entry_uuid == old else v.APPROVED)
        for part in held
        for thing in part
    )


@pytest.mark.parametrize("suite", ["11897", "11898", "11899"])
def test_find_suites(standards_folder: Path, suite: str) -> None:
    objects = loaded(standards_folder)
    table, ran = index(standards_folder), 0
    for name in sorted(n for n in table if n.startswith(f"iti18-suite/{suite}__")):
        if CONTRADICTORY in name or "expect" not in table[name]["expectation"]:
            continue
        if "updatetime" in name:
            continue  # lastUpdateTime is the registry's to set: replayed on a real store
        status, wanted = expected(table[name]["expectation"])
        element = parse_untrusted_xml(filled(standards_folder, name))
        try:
            answer = len(evaluate(parse_stored_query(parse_adhoc_request(element)), objects))
            got = ("Success", answer)
        except CrosslightError:
            got = ("Failure", 0)
        assert got == (status, wanted), name
        ran += 1
    assert ran >= {"11897": 29, "11898": 10, "11899": 2}[suite]


# --- deliberate negatives -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("nist-mv-sq-req-bad-code", "XDSRegistryError"),
        ("nist-mv-sq-req-bad-pid-format", "XDSRegistryError"),
        ("nist-mv-sq-req-bad-stat-format1", "XDSRegistryError"),
        ("nist-mv-sq-req-bad-stat-format2", "XDSRegistryError"),
        ("nist-mv-sq-req-missing-stat", "XDSStoredQueryMissingParam"),
        ("ipf-iti18request", "XDSRegistryError"),  # an unclosed string that looks like SQL
        ("ipf-iti51request", "XDSUnknownStoredQuery"),  # ITI-51 is not built
        ("nist-11908-GetFoldersForDocument", "XDSUnknownStoredQuery"),
    ],
)
def test_query_negatives(standards_folder: Path, name: str, code: str) -> None:
    element = parse_untrusted_xml((standards_folder / "samples" / "iti18" / f"{name}.xml").read_bytes())
    with pytest.raises(RegistryRefusal) as caught:
        parse_stored_query(parse_adhoc_request(element))
    assert codes_of(caught.value) == {code}


@pytest.mark.parametrize(
    "name",
    ["nist-mv-pnr-assoc-to-self", "nist-mv-pnr-bad-uplink", "nist-mv-pnr-limited", "nist-12375-limited"],
)
def test_submission_negatives(standards_folder: Path, name: str) -> None:
    """The metadata of ITI-41 messages that ITI-42 must refuse."""
    objects = submission(standards_folder, f"iti41/{name}.xml")
    assert "XDSRegistryMetadataError" in refused(objects)
