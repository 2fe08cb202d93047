"""Holdings as QIDO-RS rows (PS3.18 10.6.3.3): a study once, with its holders. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from crosslight.standards.dicom.web.json import Attributes, attribute, attributes
from crosslight.standards.ids import Identifier, MemberId
from crosslight.standards.study import Patient, SeriesRecord, StudyRecord, StudyTime
from registry.ask.question import Answer
from registry.gateway.agreement import agree
from registry.identity.model import Person
from registry.index.model import Holding
from registry.members.model import Member
from registry.members.standing import foremost

#: Private block: who holds a study, each value beside the other's (holder 1 in the first, and so on).
CREATOR = "CROSSLIGHT 1.0"
HOLDER_CODES, HOLDER_NAMES, HOLDER_STATES, CONFLICT = "00091001", "00091002", "00091003", "00091004"


@dataclass(frozen=True, slots=True)
class ListedStudy:
    """A study of one patient and who holds it; the first is the one whose description is shown."""

    person: Person | None
    holdings: tuple[tuple[Holding, Member | None], ...]
    alone: bool = False  # others hold the study too and do not agree: it is had from this holder alone

    @property
    def lead(self) -> StudyRecord:
        """The record that is shown."""
        return self.holdings[0][0].record


def group(
    rows: Iterable[tuple[Holding, Person | None, Member | None]], reachable: Callable[[Member], bool]
) -> list[ListedStudy]:
    """Holdings by study and patient, in the order in which studies first come.

    Copies that do not agree are each a row of its own, none before another for what its holder says (D1). An
    outside source's that opens is one beside a member's, whatever it says.
    """
    groups: dict[tuple[str, int], list[tuple[Holding, Person | None, Member | None]]] = {}
    for holding, person, member in rows:
        who = person.key if person is not None else -holding.whose
        groups.setdefault((holding.study_uid, who), []).append((holding, person, member))

    def order(row: tuple[Holding, Person | None, Member | None]) -> tuple[bool, str]:
        member = row[2]
        return member is None or not reachable(member), member.code if member is not None else ""

    studies = []
    for copies in groups.values():
        copies.sort(key=order)
        holders = [(holding, member) for holding, _, member in copies]
        first = foremost(holders, lambda holder: holder[1])
        # a source without any road takes nobody's place: it is named beside the others
        apart = [h for h in holders if h not in first and h[1] is not None and h[1].shows_images]
        together = [holder for holder in holders if holder not in apart]
        if _stand_together(together):
            studies.append(ListedStudy(copies[0][1], tuple(together)))
        else:
            apart = holders
        studies += [ListedStudy(copies[0][1], (holder,), alone=True) for holder in apart]
    return studies


def _stand_together(holders: Sequence[tuple[Holding, Member | None]]) -> bool:
    shown = [holding.record for holding, member in holders if member is not None and member.shows_images]
    return len(shown) < 2 or agree(shown)


def _issuer(identifier: Identifier) -> dict[str, Any]:
    """The keywords of Issuer of Patient ID with its universal id (PS3.3 C.7.1.1)."""
    issuer: dict[str, Any] = {"IssuerOfPatientID": identifier.namespace or identifier.authority}
    if identifier.authority:
        issuer["IssuerOfPatientIDQualifiersSequence"] = [_issued_by(identifier.authority)]
    return issuer


def patient_ids(listed: ListedStudy) -> list[Identifier]:
    """The id to show first (the person's current one, D4), then every other."""
    record = listed.lead
    if listed.person is None:
        return [record.patient.local]
    identifiers = {listed.person.domain_id: None}
    for patient_record in listed.person.records:
        identifiers |= dict.fromkeys(() if patient_record.disputed else patient_record.national)
        # a part's number leads to the record that it is of, here where two persons are not told apart
        if patient_record.part_of is None:
            identifiers[patient_record.patient.local] = None
    return list(identifiers)


class SharedRows:
    """What the rows of one answer have in common, made once: whose a study is, and who holds it.

    Args:
        reachable: Whether a holder opens images now.
    """

    def __init__(self, reachable: Callable[[Member], bool]) -> None:
        self._reachable = reachable
        self._patients: dict[tuple[int | None, Patient], Attributes] = {}
        self._numbers: dict[int | Identifier, Attributes] = {}
        self._holders: dict[tuple[bool, tuple[MemberId, ...]], Attributes] = {}

    def patient(self, listed: ListedStudy) -> Attributes:
        """The patient's attributes, as the study's first holder writes them."""
        person, patient = listed.person, listed.lead.patient
        key = (person.key if person is not None else None, patient)
        if key not in self._patients:
            whose = person.key if person is not None else patient.local
            if whose not in self._numbers:
                self._numbers[whose] = _numbers(patient_ids(listed))
            self._patients[key] = _patient(patient) | self._numbers[whose]
        return self._patients[key]

    def holders(self, listed: ListedStudy) -> Attributes:
        """Who holds the study, and whether it can be had."""
        conflict = any(holding.conflict for holding, _ in listed.holdings)
        members = [member for _, member in listed.holdings if member is not None]
        key = (conflict, tuple(member.id for member in members))
        if key not in self._holders:
            self._holders[key] = _holders(members, self._reachable, conflict=conflict)
        return self._holders[key]


def _patient(patient: Patient) -> Attributes:
    return attributes(
        PatientName=patient.name.pn, PatientBirthDate=patient.birth_date, PatientSex=patient.sex
    )


def _numbers(ids: Sequence[Identifier]) -> Attributes:
    """The first as Patient ID, the rest as Other Patient IDs (PS3.3 C.7.1.1)."""
    first, *others = ids
    items = [attributes(PatientID=i.value, TypeOfPatientID="TEXT", **_issuer(i)) for i in others]
    more = {"OtherPatientIDsSequence": items} if items else {}
    return attributes(PatientID=first.value, **_issuer(first), **more)


def _accession(record: StudyRecord) -> dict[str, Any]:
    """The keywords of the first accession number, and of who issued it."""
    first = record.accessions[0] if record.accessions else None
    if first is None or not first.authority:
        return {"AccessionNumber": first.value if first is not None else None}
    return {"AccessionNumber": first.value, "IssuerOfAccessionNumberSequence": [_issued_by(first.authority)]}


@lru_cache(maxsize=256)
def _issued_by(authority: str) -> Attributes:
    """An item that says whose numbers are; not to be changed."""
    return attributes(UniversalEntityID=authority, UniversalEntityIDType="ISO")


def _zone(time: StudyTime) -> str | None:
    """The offset that the objects state; one that follows from the site is no attribute of theirs (D22)."""
    stated = time.zone_source == "tag" and time.zone[:1] in ("+", "-") and len(time.zone) == 5
    return time.zone if stated else None


def _holders(members: Sequence[Member], reachable: Callable[[Member], bool], *, conflict: bool) -> Attributes:
    states = ["ONLINE" if reachable(m) else "UNAVAILABLE" for m in members]
    row = attributes(
        InstanceAvailability="ONLINE" if "ONLINE" in states else "UNAVAILABLE",  # PS3.3 C.4.23.1.1
        RetrieveAETitle=[m.endpoints.aet for m in members if m.endpoints.aet],
        InstitutionName="; ".join(f"{m.name} ({m.code})" for m in members),
    )
    private = [
        attribute("00090010", [CREATOR], vr="LO"),
        attribute(HOLDER_CODES, [m.code for m in members], vr="LO"),
        attribute(HOLDER_NAMES, [m.name for m in members], vr="LO"),
        attribute(HOLDER_STATES, states, vr="CS"),
    ]
    if conflict:
        private.append(attribute(CONFLICT, ["YES"], vr="CS"))
    return row | dict(private)


def root_of(listed: ListedStudy, base: str, *, ambiguous: bool) -> str:
    """The root under which the study is opened; its holder's own where other patients have the same UID.

    '' where there is no road to any holder: foreign sources that said none.
    """
    if not any(member is not None and member.shows_images for _, member in listed.holdings):
        return ""
    member = listed.holdings[0][1]
    return f"{base}/members/{member.code}" if ambiguous and member is not None else base


def study_row(listed: ListedStudy, root: str, shared: SharedRows) -> Attributes:
    """All that the index says of a study; ``shared`` is of the answer that it stands in."""
    record = listed.lead
    of_study = _accession(record)
    if root:
        of_study["RetrieveURL"] = f"{root}/studies/{record.study_uid}"
    row = attributes(
        SpecificCharacterSet="ISO_IR 192",
        StudyDate=record.time.date,
        StudyTime=record.time.time,
        TimezoneOffsetFromUTC=_zone(record.time),
        ModalitiesInStudy=record.modalities,
        SOPClassesInStudy=sorted({uid for series in record.series for uid, _ in series.sop_classes}),
        ReferringPhysicianName=record.referrer,
        StudyDescription=record.description,
        StudyInstanceUID=record.study_uid,
        StudyID=record.study_id,
        NumberOfStudyRelatedSeries=record.n_series or None,  # none: nobody has said it (D17)
        NumberOfStudyRelatedInstances=record.n_instances or None,
        **of_study,
    )
    row |= shared.patient(listed) | shared.holders(listed)
    return dict(sorted(row.items()))


def series_row(listed: ListedStudy, series: SeriesRecord, study: Attributes, root: str) -> Attributes:
    """One series with its study's attributes."""
    road = (
        {"RetrieveURL": f"{root}/studies/{listed.lead.study_uid}/series/{series.series_uid}"} if root else {}
    )
    row = attributes(
        Modality=series.modality,
        SeriesInstanceUID=series.series_uid,
        SeriesNumber=series.number,
        SeriesDescription=series.description,
        BodyPartExamined=series.body_site,
        Laterality=series.laterality,
        SeriesDate=series.time.date,
        SeriesTime=series.time.time,
        NumberOfSeriesRelatedInstances=series.n_instances,
        **road,
    )
    return dict(sorted((study | row).items()))


def all_series(listed: ListedStudy) -> list[SeriesRecord]:
    """Every series of any holder, each once as the first that has it says."""
    by_uid: dict[str, SeriesRecord] = {}
    for holding, _ in listed.holdings:
        for series in holding.record.series:
            by_uid.setdefault(series.series_uid, series)
    return list(by_uid.values())


#: What a row always keeps, beside what the query returns: who holds it and whose it is.
ALWAYS = (
    "00080052",
    "00080054",
    "00080056",
    "00080080",
    "00090010",
    HOLDER_CODES,
    HOLDER_NAMES,
    HOLDER_STATES,
    CONFLICT,
    "00100021",
    "00100024",
    "00101002",
)


def cut(row: Attributes, keep: frozenset[str] | None, always: Sequence[str] = ALWAYS) -> Attributes:
    """The attributes that the query returns (None: all) and those that a row always has."""
    return row if keep is None else {tag: body for tag, body in row.items() if tag in keep or tag in always}


class StudyRoots:
    """Where each study of these answers is had.

    At the holder alone where two people share a study UID, or copies do not agree.

    Args:
        named: The holder was named by who asks.
    """

    def __init__(self, answers: Sequence[Answer], base: str, *, named: bool = False) -> None:
        self._base, self._named = base, named
        self._whose: dict[str, set[int]] = {}
        for answer in answers:
            people = {record.key: person.key for person in answer.persons for record in person.records}
            for holding in answer.holdings:
                person_key = people.get(holding.whose, -holding.whose)
                self._whose.setdefault(holding.study_uid, set()).add(person_key)

    def of(self, listed: ListedStudy) -> str:
        """The root under which ``held`` is."""
        ambiguous = self._named or listed.alone or len(self._whose[listed.lead.study_uid]) > 1
        return root_of(listed, self._base, ambiguous=ambiguous)
