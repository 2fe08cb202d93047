"""What every face says of some patients, with what may differ between two regions taken out, so that answers
can be compared.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from lxml import html
from whole_region import Whole

from crosslight.standards.ids import DerivedId, Kind, Version, study_tag
from crosslight.standards.xds.model import vocabulary as v

#: Made by each publication for itself: when it was written, and what follows from the identifiers within.
VOLATILE_XDS = frozenset({"creation_time", "submission_time", "hash", "size"})
VOLATILE_FHIR = frozenset({"versionId", "lastUpdated", "timestamp", "fullUrl", "url"})
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_DERIVED = re.compile(r"urn:uuid:[0-9a-f-]{36}|2\.25\.[0-9]{20,39}")
_ADDRESS = re.compile(r"http://127\.0\.0\.1:[0-9]+")
_MINTED = re.compile(r"\bCL[0-9A-F]{20}\b")  # the region's own patient ids are random
_HANDLE = re.compile(r"/patients/[\w.~-]+")


class Names:
    """Derived ids by what they name: kind, study, and which of its versions, counted from 1."""

    def __init__(self, secrets: dict[str, bytes], study_uids: Iterable[str]) -> None:
        self._tags = {study_tag(s, uid): f"{code} {uid}" for code, s in secrets.items() for uid in study_uids}
        self._versions: dict[bytes, set[Version]] = {}

    def see(self, text: str) -> None:
        """Note the versions that appear in ``text``."""
        for found in _DERIVED.findall(text):
            derived = DerivedId.parse(found)
            if derived is not None and derived.tag in self._tags:
                self._versions.setdefault(derived.tag, set()).add(derived.version)

    def plain(self, text: str) -> str:
        """``text`` with derived ids, random ids and addresses named alike in every region."""
        text = _DERIVED.sub(lambda match: self._name(match.group(0)), text)
        text = _MINTED.sub("minted", _UUID.sub("uuid", text))
        return _HANDLE.sub("/patients/handle", _ADDRESS.sub("http://somewhere", text))

    def _name(self, text: str) -> str:
        derived = DerivedId.parse(text)
        if derived is None or derived.tag not in self._tags:
            return text
        order = sorted(self._versions[derived.tag]).index(derived.version) + 1
        return f"{Kind(derived.kind).name} of {self._tags[derived.tag]} v{order}"


def _without(value: Any, names: frozenset[str]) -> Any:
    if isinstance(value, dict):
        return {k: _without(x, names) for k, x in value.items() if k not in names}
    return [_without(x, names) for x in value] if isinstance(value, list | tuple) else value


def _ordered(value: Any) -> Any:
    """Lists of things in one order: identifiers, names and registry objects come as the rows' random keys
    have them.
    """
    if isinstance(value, dict):
        return {k: _ordered(x) for k, x in value.items()}
    if isinstance(value, list):
        return sorted((_ordered(x) for x in value), key=lambda x: json.dumps(x, sort_keys=True))
    return value


async def xds_answers(region: Whole, cx: str) -> dict[str, list[dict[str, Any]]]:
    """ITI-18 GetAll, Approved and Deprecated: documents, submission sets, associations, attribute by
    attribute.
    """
    reply = await region.all_of(cx, v.APPROVED, v.DEPRECATED)
    groups = {
        "documents": reply.objects.documents,
        "submissions": reply.objects.submissions,
        "links": reply.objects.associations,
    }
    return {
        name: [_without(asdict(thing), VOLATILE_XDS) for thing in things] for name, things in groups.items()
    }


async def fhir_answers(region: Whole, identifier: str) -> dict[str, Any]:
    """ImagingStudy and Patient of one patient, and the words that come with them."""
    studies = await region.get(
        "fhir/ImagingStudy", params={"patient.identifier": identifier, "_count": "100"}
    )
    people = await region.get("fhir/Patient", params={"identifier": identifier})
    found = {}
    for name, bundle in (("studies", studies), ("people", people)):
        entries = [_without(e["resource"], VOLATILE_FHIR) for e in bundle["entry"]]
        found[name] = sorted((e for e in entries if e["resourceType"] != "OperationOutcome"), key=_study_key)
        found[name + " total"] = bundle.get("total")
    return found


def _study_key(resource: dict[str, Any]) -> str:
    return json.dumps(resource.get("identifier", ""), sort_keys=True)


async def qido_answers(region: Whole, number: str) -> dict[str, Any]:
    """Region QIDO at study and series level."""
    found: dict[str, Any] = {}
    for row in await region.rows_of(PatientID=number):
        uid = row["0020000D"]["Value"][0]
        series = await region.rows_of(f"studies/{uid}/series")
        found[uid] = {"row": row, "series": {one["0020000E"]["Value"][0]: one for one in series}}
    return found


async def page_answers(region: Whole, number: str) -> dict[str, Any]:
    """The page: its banner, its rows as a reader sees them, its notices."""
    page: Any = html.fromstring(await region.page(number))
    rows = {str(row.get("data-study-uid")): _words(row) for row in page.xpath("//*[@data-study-uid]")}
    banner = [_words(b) for b in page.find_class("banner-bar")]
    return {
        "order": " ".join(rows),
        "rows": rows,
        "banner": banner,
        "notices": [_words(n) for n in page.find_class("notice")],
    }


def _words(element: Any) -> str:
    return " ".join(element.text_content().split())


async def answers(region: Whole, patients: dict[str, str], study_uids: Iterable[str]) -> dict[str, Any]:
    """All faces on all ``patients`` (CX -> FHIR identifier), comparable."""
    said: dict[str, Any] = {}
    for cx, identifier in patients.items():
        number = cx.split("^")[0]
        said[cx] = {
            "xds": await xds_answers(region, cx),
            "fhir": await fhir_answers(region, identifier),
            "qido": await qido_answers(region, number),
            "page": await page_answers(region, number),
        }
    names = Names({h.code: h.app.membership.member.secret for h in region.homes.values()}, study_uids)
    text = json.dumps(said, sort_keys=True, ensure_ascii=False)
    names.see(text)
    plain: dict[str, Any] = json.loads(names.plain(text))
    ordered: dict[str, Any] = _ordered(plain)
    return ordered


def differences(one: Any, other: Any, path: str = "") -> list[str]:
    """Every place where two answers differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        found = []
        for key in sorted({*one, *other}):
            if key not in one or key not in other:
                where = "the second" if key not in one else "the first"
                found.append(f"{path}/{key}: only in {where}: {str(one.get(key, other.get(key)))[:300]}")
            else:
                found += differences(one[key], other[key], f"{path}/{key}")
        return found
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return [
            d
            for n, (a, b) in enumerate(zip(one, other, strict=True))
            for d in differences(a, b, f"{path}[{n}]")
        ]
    return [] if one == other else [f"{path}: {str(one)[:300]!r} is not {str(other)[:300]!r}"]
