"""Index attributes -> StudyRecord, SeriesRecord, Patient (D2, D3, D14, D22).

Pure, and a function of the set of instances: neither the order of arrival nor the clock can change what comes
out.

Where instances of one study disagree, the attributes most instances carry win, at a tie those of the smallest
SOP Instance UID; an attribute empty there is filled from the next. The patient is taken whole from one set,
never mixed.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from crosslight.standards.birth_date import birth_date
from crosslight.standards.dicom.file.header import (
    Attributes,
    coded,
    first_text,
    items,
    patient_id,
    several_ids,
    values,
)
from crosslight.standards.dicom.record.rules import RecordRules
from crosslight.standards.ids import Identifier, is_uid
from crosslight.standards.national import is_mistyped, national_number, unread_number
from crosslight.standards.study import Coded, Patient, PersonName, SeriesRecord, StudyRecord, StudyTime

_ZONE = re.compile(r"[+-](0[0-9]|1[0-4])[0-5][0-9]\Z")  # PS3.3 C.12.1.1.8
_NOID = re.compile(r"NOID-[0-9A-F]{20}\Z")
_OUTSIDE = re.compile(r"OUTSIDE[0-9A-F]{28}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One live instance as the archive's rows have it; ``study`` and ``series`` are shared among many."""

    series_uid: str
    sop_uid: str
    sop_class_uid: str
    sha256: str
    study: Attributes
    series: Attributes


def build(study_uid: str, instances: Iterable[Instance], rules: RecordRules) -> StudyRecord | None:
    """The record of a study from its live instances; None when there are none."""
    ordered = sorted(instances, key=lambda i: (i.series_uid, i.sop_uid))
    if not ordered:
        return None
    by_series: dict[str, list[Instance]] = {}
    for instance in ordered:
        by_series.setdefault(instance.series_uid, []).append(instance)
    ranked = rank([(i.study, i.sop_uid) for i in ordered])
    filled = fill(ranked)
    series_sets = {
        uid: fill(rank([(i.series, i.sop_uid) for i in group])) for uid, group in by_series.items()
    }
    record = StudyRecord(
        study_uid=study_uid,
        patient=patient_of(ranked[0], rules, study_uid),
        accessions=_distinct([*_accessions(filled, rules), *_requested(series_sets.values(), rules)]),
        orders=_distinct(_orders(series_sets.values())),
        study_id=first_text(filled, "00200010"),
        description=first_text(filled, "00081030"),
        procedure_codes=_codes(items(filled, "00081032")),
        referrer=first_text(filled, "00080090"),
        institution=first_text(filled, "00080080"),
        time=study_time(filled, "00080020", "00080030", rules),
    )
    zone = first_text(filled, "00080201")
    return record.with_series(
        (_series(uid, group, series_sets[uid], zone, rules) for uid, group in by_series.items()),
        detail="full",
    )


def rank(sets: Sequence[tuple[Attributes, str]]) -> list[Attributes]:
    """The distinct attribute sets, the one with most instances first, then by smallest SOP Instance UID."""
    counts: Counter[int] = Counter()
    least: dict[int, str] = {}
    which: dict[int, Attributes] = {}
    for attributes, sop_uid in sets:
        key = id(attributes)
        counts[key] += 1
        which[key] = attributes
        least[key] = min(least.get(key, sop_uid), sop_uid)
    return [which[key] for key in sorted(which, key=lambda k: (-counts[k], least[k]))]


def fill(ranked: Sequence[Attributes]) -> Attributes:
    """The first set, its empty attributes filled from those after it.

    Patient attributes (group 0010) are never mixed.
    """
    if len(ranked) == 1:
        return ranked[0]
    merged = dict(ranked[0])
    for other in ranked[1:]:
        for tag, body in other.items():
            if not values(merged, tag) and not tag.startswith("0010"):
                merged[tag] = body
    return merged


@dataclass(frozen=True, slots=True)
class Claim:
    """A number that an object gives its patient, and who issued it as far as it says.

    '' = it does not say.
    """

    value: str
    authority: str  # OID
    namespace: str

    def foreign(self, rules: RecordRules) -> bool:
        """Whether another organisation issued it: its issuer is neither the member nor a national one."""
        return bool(self.authority or self.namespace) and self.authority not in (*rules.own, *rules.nationals)


# --- patient ------------------------------------------------------------------------------------------------


def issuer_of(item: Attributes, rules: RecordRules) -> tuple[str, str]:
    """(OID, name) of who issued the Patient ID in ``item``; '' where it does not say or cannot be mapped.

    Issuer of Patient ID Qualifiers Sequence with an ISO universal id first (PS3.3 10.14), else Issuer of
    Patient ID by name.
    """
    name = first_text(item, "00100021")
    for qualifier in items(item, "00100024"):
        oid = first_text(qualifier, "00400032")
        if is_uid(oid) and "." in oid and first_text(qualifier, "00400033") in ("ISO", ""):
            return oid, name
    if is_uid(name) and "." in name:
        return name, ""
    if name and name.casefold() == rules.namespace.casefold():
        return rules.authority, name
    for known, oid in rules.issuers.items():
        if name and known.casefold() == name.casefold():
            return oid, name
    return "", name


def claims_of(study: Attributes, rules: RecordRules) -> list[Claim]:
    """Every number of the patient that a set of study attributes gives, the Patient ID itself first."""
    main = patient_id(study)
    oid, name = issuer_of(study, rules)
    claims = [Claim(main, oid, name)] if main else []
    for item in items(study, "00101002"):
        if first_text(item, "00100022") in ("", "TEXT") and (value := patient_id(item)):
            claims.append(Claim(value, *issuer_of(item, rules)))
    if main and not oid and not name and rules.bare_patient_id:
        claims.append(Claim(main, rules.bare_patient_id, ""))
    return claims


def patient_of(study: Attributes, rules: RecordRules, study_uid: str) -> Patient:
    """The patient of one set of study attributes.

    The local id is the number under an authority of the member's own: the Patient ID where it names no issuer
    or its own, else one of Other Patient IDs. A study that has none (an outside study, an unknown patient) is
    its own patient record, so that it can be published (D4) and is joined to others by its national number
    alone (D3). A national number counts only where its issuer is named, or by ``bare_patient_id``; one that
    fails its check is kept as received and is nobody's number.
    """
    claims = claims_of(study, rules)
    local = _local(claims, rules, study_uid, several_ids(study))
    nationals = [
        Identifier(value=number, authority=claim.authority)
        for claim in claims
        if claim.authority in rules.nationals and (number := _national(claim.authority, claim.value, rules))
    ]
    others = [
        Identifier(value=claim.value, authority=claim.authority, namespace=claim.namespace)
        for place, claim in enumerate(claims)
        if claim.authority not in rules.nationals
        and (claim.value, claim.authority) != (local.value, local.authority)
        and (claim.authority or (place == 0 and claim.foreign(rules)))
    ]
    unread = [
        unread_number(claim.value, claim.authority)
        for claim in claims
        if claim.authority in rules.nationals
        and not _national(claim.authority, claim.value, rules)
        # a bare Patient ID that is plainly no national number
        and (claim.value != local.value or is_mistyped(claim.value))
    ]
    sex = first_text(study, "00100040")
    return Patient(
        local=local,
        others=_distinct([*nationals, *others, *unread]),
        name=PersonName(first_text(study, "00100010")),
        birth_date=birth_date(first_text(study, "00100030")),
        sex=sex if sex in ("M", "F", "O") else "",
    )


def _local(claims: Sequence[Claim], rules: RecordRules, study_uid: str, said: str) -> Identifier:
    for authority in rules.own:
        for claim in claims:
            if authority and claim.authority == authority:
                return Identifier(
                    value=claim.value,
                    authority=authority,
                    namespace=claim.namespace or _label(authority, rules),
                )
    if not claims:
        return Identifier(unidentified(study_uid, said), rules.authority, rules.namespace)
    main = claims[0]
    if main.foreign(rules):
        return Identifier(outside(main, study_uid), rules.authority, rules.namespace)
    return Identifier(value=main.value, authority=rules.authority, namespace=rules.namespace)


def _label(authority: str, rules: RecordRules) -> str:
    return rules.namespace if authority == rules.authority else ""


def unidentified(study_uid: str, said: str = "") -> str:
    """The local id of a patient whose objects give none: one for each study.

    An unknown trauma patient, a phantom. So the study can be published (D4) and joins nobody else's.
    ``said`` is what they give that is no id: see :func:`unidentified_range`.
    """
    return f"NOID-{_hashed(said, 12)}{_hashed(study_uid, 8)}" if said else f"NOID-{_hashed(study_uid, 20)}"


def unidentified_range(said: str) -> tuple[str, str]:
    """First and last local id that :func:`unidentified` can give for what objects say in place of one."""
    start = f"NOID-{_hashed(said.strip(), 12)}"
    return start.ljust(25, "0"), start.ljust(25, "F")


def outside(claim: Claim, study_uid: str) -> str:
    """The local id of a patient whose number is another organisation's: one for each study.

    What a disc says of its issuer cannot be checked. The original number finds it: see
    :func:`outside_range`.
    """
    issuer = claim.authority or claim.namespace.casefold()
    return f"OUTSIDE{_hashed(claim.value, 12)}{_hashed(issuer, 8)}{_hashed(study_uid, 8)}"


def outside_range(number: Identifier) -> tuple[str, str]:
    """The first and last local id that :func:`outside` can give for an original number.

    Of any issuer where it names none.

    All have one length and hold digits and capitals only, so that they are in the same order for every
    collation.
    """
    issuer = number.authority or number.namespace.casefold()
    start = f"OUTSIDE{_hashed(number.value.strip(), 12)}" + (_hashed(issuer, 8) if issuer else "")
    return start.ljust(35, "0"), start.ljust(35, "F")


def number_of(patient: Patient) -> tuple[Literal["own", "outside", "none"], Identifier | None]:
    """Whose number a patient's local id is; of an outside one also the original number, where it is known."""
    local = patient.local.value
    if _NOID.match(local):
        return "none", None
    if not _OUTSIDE.match(local):
        return "own", None
    spans = ((other, *outside_range(other)) for other in patient.others)
    return "outside", next((other for other, low, high in spans if low <= local <= high), None)


def _hashed(text: str, digits: int) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:digits].upper()


def _national(authority: str, value: str, rules: RecordRules) -> str | None:
    return national_number(authority, value, allow_test=rules.allow_test_numbers)


# --- study and series ---------------------------------------------------------------------------------------


def study_time(attributes: Attributes, date: str, time: str, rules: RecordRules, zone: str = "") -> StudyTime:
    """Date, time and zone of the two tags (D22): the object's own zone, else ``zone``, else the site's."""
    day, clock = first_text(attributes, date), first_text(attributes, time)
    said = first_text(attributes, "00080201") or zone
    if _ZONE.match(said):
        return StudyTime(date=day, time=clock, zone=said, zone_source="tag")
    if rules.site_zone:
        return StudyTime(date=day, time=clock, zone=rules.site_zone, zone_source="site")
    return StudyTime(date=day, time=clock)


def _series(
    uid: str, group: Sequence[Instance], attributes: Attributes, zone: str, rules: RecordRules
) -> SeriesRecord:
    return SeriesRecord(
        series_uid=uid,
        modality=first_text(attributes, "00080060"),
        number=first_text(attributes, "00200011"),
        description=first_text(attributes, "0008103E"),
        body_site=first_text(attributes, "00180015"),
        laterality=first_text(attributes, "00200060"),
        n_instances=len(group),
        sop_classes=tuple(sorted(Counter(i.sop_class_uid for i in group).items())),
        time=study_time(attributes, "00080021", "00080031", rules, zone),
        digest=series_digest((i.sop_uid, i.sha256) for i in group),
    )


def series_digest(instances: Iterable[tuple[str, str]]) -> str:
    """Hex SHA-256 over ``UID SP sha256 LF`` of the instances, sorted by UID."""
    digest = hashlib.sha256()
    for sop_uid, sha256 in sorted(instances):
        digest.update(f"{sop_uid} {sha256}\n".encode("ascii"))
    return digest.hexdigest()


def _qualified(
    attributes: Attributes, value_tag: str, issuer_tag: str, default: str = ""
) -> Iterable[Identifier]:
    value = first_text(attributes, value_tag)
    if not value:
        return
    authority = namespace = ""
    for issuer in items(attributes, issuer_tag):  # PS3.3 10.14 HL7v2 Hierarchic Designator
        namespace = namespace or first_text(issuer, "00400031")
        oid = first_text(issuer, "00400032")
        if is_uid(oid) and first_text(issuer, "00400033") in ("ISO", ""):
            authority = authority or oid
    yield Identifier(value=value, authority=authority or ("" if namespace else default), namespace=namespace)


def _accessions(attributes: Attributes, rules: RecordRules) -> Iterable[Identifier]:
    return _qualified(attributes, "00080050", "00080051", rules.accession_authority)


def _requested(series: Iterable[Attributes], rules: RecordRules) -> Iterable[Identifier]:
    for attributes in series:
        for request in items(attributes, "00400275"):
            yield from _accessions(request, rules)


def _orders(series: Iterable[Attributes]) -> Iterable[Identifier]:
    """Placer and filler order numbers of Request Attributes Sequence."""
    for attributes in series:
        for request in items(attributes, "00400275"):
            yield from _qualified(request, "00402016", "00400026")
            yield from _qualified(request, "00402017", "00400027")


def _codes(items: Iterable[Attributes]) -> tuple[Coded, ...]:
    codes = (coded(item) for item in items)
    return tuple(dict.fromkeys(code for code in codes if code.value))


def _distinct(identifiers: Iterable[Identifier]) -> tuple[Identifier, ...]:
    """Without repeats, the first of each (value, authority) kept, in a fixed order."""
    first: dict[tuple[str, str], Identifier] = {}
    for identifier in identifiers:
        first.setdefault((identifier.value, identifier.authority or identifier.namespace), identifier)
    qualified = {value for value, where in first if where}
    kept = [i for (value, where), i in first.items() if where or value not in qualified]
    return tuple(sorted(kept))
