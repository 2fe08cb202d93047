"""From a QIDO-RS query to the question that bounds it; ``matching`` decides the rest on the rows."""

from __future__ import annotations

from dataclasses import replace

from crosslight.standards.dicom.web.json import attributes, keyword_of
from crosslight.standards.dicom.web.matching import Match, matches_row
from crosslight.standards.dicom.web.qido import QidoQuery
from crosslight.standards.hl7.adt import NATIONAL_NAMESPACES
from crosslight.standards.ids import Identifier, is_uid
from crosslight.standards.names import family_keys, pattern_matches, search_key
from crosslight.standards.problem import Invalid
from crosslight.standards.region import Region
from crosslight.standards.study import PersonName
from registry.ask.naming import Misread
from registry.ask.question import ByObject, ByPatient, ByPopulation, StudyFilter
from registry.dicomweb.rows import ListedStudy
from registry.identity.model import NameTest, PatientSelector
from registry.members.model import Directory

#: Keys that a question answers itself: the row shows the person's current id and the newest name, not those
#: asked by.
_WHO = frozenset({"PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate"})
#: Keys that name the person and nothing of their studies: then the index has the pages.
_NUMBERS = frozenset({"PatientID", "IssuerOfPatientID"})
#: Keys of which one, given whole, bounds a search.
_WHOLE = ("PatientID", "StudyInstanceUID", "AccessionNumber")
#: Keys by which the index narrows a search through the whole region.
_POPULATION = frozenset({"StudyDate", "ModalitiesInStudy", "StudyDescription"})
#: Attributes of a series that only its holder has (D7).
_HOLDERS = frozenset({"00400244", "00400245", "00400275"})
SLACK = 20  # holdings more than studies asked for: a study held twice is one row


class QidoPlanner:
    """Plans searches of the region."""

    def __init__(self, region: Region, directory: Directory) -> None:
        self._region, self._directory = region, directory

    def plan(self, query: QidoQuery) -> ByPatient | ByObject | ByPopulation:
        """The question of ``query``.

        Raises:
            Invalid: a patient named in part only, or a key by which nothing can be found in the whole region.
        """
        patient = self._patient(query)
        if patient is not None:
            question = ByPatient(patient=patient, filter=self._filter(query))
            by_number = all(match.kind == "any" or match.keyword in _NUMBERS for match in query.matches)
            paged = query.level == "study" and by_number
            return replace(question, limit=query.limit, offset=query.offset) if paged else question
        uids = query.equal_to("StudyInstanceUID")
        if uids is not None:
            return ByObject(study_uids=uids)
        accessions = query.equal_to("AccessionNumber")
        if accessions is not None:
            return ByObject(accessions=tuple(Identifier(value) for value in accessions))
        over = sorted(
            {keyword_of(m.tag) for m in query.matches if m.kind != "any" and not m.date} - _POPULATION
        )
        if over:
            raise Invalid(
                f"{', '.join(over)} cannot be searched through the whole region.",
                why="No index bounds it.",
                todo=_narrower(query),
                where=over[0],
            )
        return ByPopulation(filter=self._filter(query), limit=query.offset + query.limit + SLACK)

    def _patient(self, query: QidoQuery) -> PatientSelector | None:
        number, name = query.of("PatientID"), query.of("PatientName")
        if number is not None:
            if number.kind != "single":
                raise Invalid(
                    "PatientID must be one whole number.",
                    why="Wildcards would list people.",
                    where="PatientID",
                )
            return PatientSelector(identifiers=self._identifiers(number.values[0], query))
        if name is None:
            return None
        birth = query.of("PatientBirthDate")
        pn = PersonName(name.values[0])
        if birth is None or birth.kind != "single" or not search_key(pn.family):
            raise Invalid(
                "A name is searched with PatientBirthDate.",
                why="Anything wider would list people.",
                todo="Give the family name, or its beginning with *, and the date of birth; or PatientID.",
                where="PatientName",
            )
        if any(char in pn.family for char in "*?"):
            return PatientSelector(names=(NameTest("pattern", name.values[0]),), birth_date=birth.values[0])
        return PatientSelector(family=pn.family, birth_date=birth.values[0])

    def _identifiers(self, value: str, query: QidoQuery) -> tuple[Identifier, ...]:
        issuer = query.of("IssuerOfPatientID")
        if issuer is None:
            return (Identifier(value),)
        if issuer.kind != "single":
            raise Invalid("IssuerOfPatientID must be one value.", where="IssuerOfPatientID")
        name = issuer.values[0]
        member = self._directory.by_code(name)
        if is_uid(name):
            return (Identifier(value, name),)
        if member is not None:
            return tuple(
                Identifier(value, authority) for authority in (member.authority, *member.authorities)
            )
        national = NATIONAL_NAMESPACES.get(name.upper(), "")
        if national in self._region.nationals:
            return (Identifier(value, national),)
        return (Identifier(value, namespace=name),)  # as the record's own source names it

    def _filter(self, query: QidoQuery) -> StudyFilter:
        narrow = StudyFilter(study_date=query.interval("StudyDate"))
        modalities = query.of("ModalitiesInStudy")
        if modalities is not None and modalities.kind in ("single", "list"):
            narrow = replace(narrow, modalities=tuple(value.upper() for value in modalities.values))
        description = query.of("StudyDescription")
        if description is not None and description.kind in ("single", "wildcard"):
            narrow = replace(narrow, descriptions=description.values)
        return narrow


#: The key that each part which was not understood stands in.
_KEYS = {
    "number": "PatientID",
    "issuer": "IssuerOfPatientID",
    "accession issuer": "IssuerOfAccessionNumberSequence",
}


def understood(misread: tuple[Misread, ...]) -> None:
    """Go on only if the whole query was understood.

    Raises:
        Invalid: naming the key.
    """
    for wrong in misread:
        raise wrong.refusal(_KEYS.get(wrong.part, wrong.part))


def _narrower(query: QidoQuery) -> str:
    """What to add, or to give whole where it was given in part."""
    partly = [name for name in _WHOLE if query.of(name) is not None]
    whole = f"Give {' and '.join(partly)} whole, without * and ?, or add " if partly else "Add "
    return whole + " or ".join(name for name in _WHOLE if name not in partly) + "."


def known_to_holders(query: QidoQuery) -> list[str]:
    """The keys of a search for series that the index cannot decide."""
    return sorted(m.keyword for m in query.matches if m.kind != "any" and m.path[0] in _HOLDERS)


def decided(query: QidoQuery, question: ByPatient | ByObject | ByPopulation) -> tuple[Match, ...]:
    """The matches that rows must still meet."""
    by_person = isinstance(question, ByPatient)
    return tuple(
        m for m in query.matches if not (by_person and len(m.path) == 1 and keyword_of(m.tag) in _WHO)
    )


def person_matches(query: QidoQuery, listed: ListedStudy) -> bool:
    """Whether any record of the person bears the name and the date of birth asked for.

    Names are compared in the one normal form (PS3.4 C.2.2.2.1 leaves case and diacritics to us), with
    wildcards as PS3.4 C.2.2.2.4 says. Of a name that found its person the family name alone is enough; beside
    a PatientID it is the whole name.
    """
    name, birth = query.of("PatientName"), query.of("PatientBirthDate")
    records = listed.person.records if listed.person is not None else ()
    patients = [listed.lead.patient, *(record.patient for record in records)]
    born = (attributes(PatientBirthDate=patient.birth_date) for patient in patients)
    if birth is not None and not any(matches_row(birth, row) for row in born):
        return False
    if name is None or name.kind == "any" or any(pattern_matches(p.name, name.values[0]) for p in patients):
        return True
    found_by_name = query.of("PatientID") is None and name.kind == "single"
    return found_by_name and any(_written_alike(PersonName(name.values[0]), p.name) for p in patients)


def _written_alike(asked: PersonName, name: PersonName) -> bool:
    if search_key(asked.family) not in family_keys(name):
        return False
    return all(
        search_key(wanted) in ("", search_key(written))
        for wanted, written in ((asked.given, name.given), (asked.middle, name.middle))
    )
