"""Absence is proven, or it is not said: the one rule for every face (D4, D13, D19). Pure.

An empty answer says "there is none" only of somebody: a patient that is known here, or a national number that
is valid, while every member is current and counted, no identity is in doubt and nothing that the index holds
is unread. A name with a date of birth proves nothing, nor does a number that nobody can have, an issuer that
nothing here is numbered by, or a free text that matches nothing. What was not understood is said as such, in
each face's own form:

=========  ==========================================================================================
FHIR       400; with ``Prefer: handling=lenient`` 200, no entry, and an outcome that says it proves nothing
QIDO-RS    400
ITI-18     Success, no object, one Warning
page       "Check this number"
=========  ==========================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from crosslight.standards.ids import CHI_OID, NHS_NUMBER_OID, Identifier
from crosslight.standards.national import NATIONAL_CHECKS, is_mistyped, national_number, plain_number
from crosslight.standards.region import Region
from registry.ask.naming import Misread, Naming
from registry.ask.question import Answer
from registry.identity.model import PatientSelector, Person
from registry.members.model import KnownMembers

_NATIONAL_NAMES: dict[str, str] = {NHS_NUMBER_OID: "NHS number", CHI_OID: "CHI number"}
_NO_PROOF = "An empty list would look as if there were no imaging."


def proves_absence(answer: Answer) -> bool:
    """Whether an empty answer may be called "none": the whole rule."""
    return (
        answer.naming.certain
        and answer.unread == 0
        and not answer.disputed
        and answer.coverage.proves_absence
    )


def reason(answer: Answer) -> str:
    """Why an empty answer proves nothing; '' where that lies in the members' states.

    Said where it lies in the question, or in what the index cannot read.
    """
    if answer.naming.misread:
        return answer.naming.misread[0].what
    if answer.naming.standing == "unknown":
        return "No patient is known here under what was asked for."
    if answer.naming.standing == "named":
        return "A name with a date of birth may be written in another way where the imaging is."
    return unlisted(answer)


def unlisted(answer: Answer) -> str:
    """What the index holds and cannot list, empty list or not; '' where that is nothing."""
    if not answer.unread:
        return ""
    documents = "1 imaging document" if answer.unread == 1 else f"{answer.unread} imaging documents"
    whose = "" if answer.naming.standing == "nobody" else " of this patient"
    return f"The index holds {documents}{whose} whose study it does not know."


def beyond(sources: Sequence[str]) -> str:
    """What is never known of sources that are no members, beside "none at the members".

    '' where there are no such sources.
    """
    if not sources:
        return ""
    several = len(sources) > 1
    names = f"{', '.join(sources[:-1])} and {sources[-1]}" if several else sources[0]
    return (
        f"What {names} {'hold beyond what they' if several else 'holds beyond what it'} registered is not"
        " known."
    )


# --- numbers and issuers ------------------------------------------------------------------------------------


def national_name(region: Region, authority: str = "") -> str:
    """What numbers of a national authority are called; without one, those of the region's."""
    asked = (authority,) if authority else region.nationals
    names = dict.fromkeys(_NATIONAL_NAMES.get(oid, "national number") for oid in asked)
    return " or ".join(names) or "national number"


def mistyped(region: Region, authority: str = "") -> Misread:
    """A number that cannot be a national one. The words are the same on every face."""
    return Misread(
        "number",
        f"This is not a valid {national_name(region, authority)}.",
        "Its length, its range or its check digit is wrong, so that nobody can have it.",
        "Check the digits.",
    )


def unknown_issuer(part: Literal["issuer", "accession issuer"] = "issuer", known: str = "") -> Misread:
    """An issuer, or a system, that nothing here is numbered by.

    ``known`` names one that there is, as the face writes it.
    """
    if part == "accession issuer":
        what = "That issuer of accession numbers is not known here."
        why = "It is no member's, nor that of any study's number."
        return Misread(part, what, f"{why} {_NO_PROOF}", "Give a member's, or leave the issuer out.")
    what = "That issuer of patients' numbers is not known here."
    why = "It is no national one, no member's and no patient record's."
    todo = f"Give a national number's{f' ({known})' if known else ''} or a member's, or leave the issuer out."
    return Misread(part, what, f"{why} {_NO_PROOF}", todo)


def unknown_holder(part: Literal["custodian", "endpoint"]) -> Misread:
    """A custodian or an endpoint that is nobody's here."""
    todo = "See /fhir/Organization and /fhir/Endpoint for those that there are."
    return Misread(part, f"No member or source of this region is that {part}.", _NO_PROOF, todo)


def naming(
    selector: PatientSelector,
    persons: Collection[Person],
    region: Region,
    directory: KnownMembers,
    used: Callable[[str], bool],
) -> Naming:
    """Whom ``selector`` names.

    Args:
        selector: As asked.
        persons: Whom it found, those included who may not be shown.
        region: Whose national numbers count.
        directory: Members and sources, whose own numbers count.
        used: Whether any patient record is, or number was, under an authority.
    """
    if not selector.identifiers and not selector.fhir_id:
        return Naming("named")
    if persons and len(selector.identifiers) <= 1:
        return Naming("known")
    judge = _Judge(region, directory, used, {value for person in persons for value in _values(person)})
    verdicts = [judge.of(identifier) for identifier in selector.identifiers]
    misread = tuple(dict.fromkeys(v for v in verdicts if isinstance(v, Misread)))
    if persons and "unknown" not in verdicts:
        return Naming("known", misread)
    return Naming("valid" if verdicts and all(v == "valid" for v in verdicts) else "unknown", misread)


def _values(person: Person) -> Iterable[str]:
    yield person.domain_id.value
    for record in person.records:
        yield record.patient.local.value


@dataclass(frozen=True, slots=True)
class _Judge:
    region: Region
    directory: KnownMembers
    used: Callable[[str], bool]
    known_ids: Collection[str]  # of those who were found

    def of(self, identifier: Identifier) -> Misread | Literal["known", "valid", "unknown"]:
        if identifier.authority in NATIONAL_CHECKS and identifier.authority in self.region.nationals:
            valid = self._valid(identifier.value, identifier.authority)
            return "valid" if valid else mistyped(self.region, identifier.authority)
        if identifier.value.strip() in self.known_ids:
            return "known"
        if identifier.authority:
            return "unknown" if self._issues(identifier.authority) else unknown_issuer()
        if identifier.namespace:
            return "unknown" if self._is_code(identifier.namespace) else unknown_issuer()
        checked = [authority for authority in self.region.nationals if authority in NATIONAL_CHECKS]
        if any(self._valid(identifier.value, authority) for authority in checked):
            return "valid"
        return mistyped(self.region) if checked and is_mistyped(identifier.value) else "unknown"

    def _valid(self, value: str, authority: str) -> bool:
        return national_number(authority, value, allow_test=self.region.allow_test_numbers) is not None

    def _issues(self, authority: str) -> bool:
        own = (self.region.authority, *self.region.nationals)
        return authority in own or self.directory.by_authority(authority) is not None or self.used(authority)

    def _is_code(self, name: str) -> bool:
        return self.directory.by_code(name) is not None or self.directory.by_code(name.upper()) is not None


def accession_naming(
    asked: Iterable[Identifier],
    recorded: Collection[Identifier],
    region: Region,
    directory: KnownMembers,
    used: Callable[[str], bool],
) -> Naming:
    """What of a question by accession numbers was not understood: issuers that nothing here knows.

    Known are the region's, a member's, and those of any study's number.

    ``used``: whether any study was held with an accession number of an issuer.
    """
    names = {number.namespace.casefold() for number in recorded}

    def known(number: Identifier) -> bool:
        issuer, name = number.authority, number.namespace
        if issuer:
            own = (region.authority, *region.nationals)
            return issuer in own or directory.by_authority(issuer) is not None or used(issuer)
        return not name or name.casefold() in names or directory.by_code(name) is not None

    misread = () if all(known(number) for number in asked) else (unknown_issuer("accession issuer"),)
    return Naming("nobody", misread)


def not_an_id(text: str) -> Misread | None:
    """What is wrong with the id of a Patient that is a number of theirs; None where it may be an id."""
    digits = plain_number(text)
    if "|" not in text and not (6 <= len(digits) <= 12 and digits.isascii() and digits.isdecimal()):
        return None
    return Misread(
        "patient",
        "A patient's number stands where the id of a Patient belongs.",
        _NO_PROOF,
        "Ask with patient.identifier=SYSTEM|NUMBER.",
    )
