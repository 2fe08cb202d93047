"""The affinity domain's value sets, as data, and whether metadata keep to them.

Sources: ``../tables/README.md``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from crosslight.standards.dicom.web.matching import wildcard_matches
from crosslight.standards.region import ProcedureCodes
from crosslight.standards.study import StudyRecord
from crosslight.standards.tables.dicom_codes import BODY_SITES, MODALITIES
from crosslight.standards.xds.model.metadata import Code, LocalText

DCM_OID = "1.2.840.10008.2.16.4"  # DICOM Controlled Terminology
DICOM_UIDS_OID = "1.2.840.10008.2.6.1"  # DICOM UID Registry; some sources write modalities under it
SNOMED_OID = "2.16.840.1.113883.6.96"
LOINC_OID = "2.16.840.1.113883.6.1"
CONFIDENTIALITY_OID = "2.16.840.1.113883.5.25"
_XDSI_CLASS_OID = "1.3.6.1.4.1.19376.1.2.6.1"
_IHE_FORMAT_OID = "1.3.6.1.4.1.19376.1.2.3"


def _code(value: str, scheme: str, display: str) -> Code:
    return Code(value, scheme, (LocalText(display),))


IMAGES = _code("IMAGES", _XDSI_CLASS_OID, "Images")
REPORTS = _code("REPORTS", _XDSI_CLASS_OID, "Reports")
IMAGING_STUDY = _code("18748-4", LOINC_OID, "Diagnostic imaging study")
KOS_FORMAT = _code("1.2.840.10008.5.1.4.1.1.88.59", DICOM_UIDS_OID, "Key Object Selection Document")
RADIOLOGY = _code("394914008", SNOMED_OID, "Radiology")
HOSPITAL = _code("22232009", SNOMED_OID, "Hospital")
NORMAL = _code("N", CONFIDENTIALITY_OID, "normal")
IMAGING = _code("363679005", SNOMED_OID, "Imaging")
LANGUAGE = "en-GB"
MANIFEST_MIME = "application/dicom"

#: attribute -> codes. ``event_codes`` is open-ended: see :meth:`ValueSets.allows`.
VALUE_SETS: dict[str, frozenset[tuple[str, str]]] = {
    "class_code": frozenset({IMAGES.key, REPORTS.key}),
    "type_code": frozenset({IMAGING_STUDY.key, ("11528-7", LOINC_OID), ("18782-3", LOINC_OID)}),
    "format_code": frozenset({
        KOS_FORMAT.key,
        ("urn:ihe:rad:TEXT", _IHE_FORMAT_OID),
        ("urn:ihe:rad:PDF", _IHE_FORMAT_OID),
        ("urn:ihe:rad:CDA:ImagingReportStructuredHeadings:2013", _IHE_FORMAT_OID),
    }),
    "practice_setting": frozenset({RADIOLOGY.key}),
    "healthcare_facility_type": frozenset({HOSPITAL.key}),
    "confidentiality": frozenset({(c, CONFIDENTIALITY_OID) for c in "NRVU"}),
    "content_type": frozenset({IMAGING.key}),
    "codes": frozenset({IMAGING.key}),
}  # fmt: skip
MIME_TYPES = frozenset(
    {MANIFEST_MIME, "application/pdf", "text/plain", "text/xml", "application/fhir+json", "image/jpeg"}
)
_MODALITY = re.compile(r"[A-Z][A-Z0-9_ ]{0,15}\Z")  # VR CS
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*\Z")


_CONFIDENTIALITY = {"N": NORMAL, "R": _code("R", CONFIDENTIALITY_OID, "restricted"),
                    "V": _code("V", CONFIDENTIALITY_OID, "very restricted"),
                    "U": _code("U", CONFIDENTIALITY_OID, "unrestricted")}  # fmt: skip


@lru_cache(maxsize=256)
def type_code(text: str) -> Code:
    """A typeCode of a table of procedures, ``code^display^scheme``."""
    value, display, scheme = text.split("^")
    return _code(value, scheme, display)


def codes_of(record: StudyRecord, table: Iterable[ProcedureCodes]) -> tuple[Code, Code]:
    """typeCode and confidentialityCode of a study.

    What its procedure says (RAD TF-3 4.68.4.1.2.3), else 18748-4 and N.
    """
    kind, confidentiality = "", ""
    for row in table:
        if _is_procedure(record, row.procedure):
            kind, confidentiality = kind or row.type_code, confidentiality or row.confidentiality
    return type_code(kind) if kind else IMAGING_STUDY, _CONFIDENTIALITY[confidentiality or "N"]


def _is_procedure(record: StudyRecord, procedure: str) -> bool:
    wanted = procedure.casefold()
    if not wanted.strip("*"):
        return True  # also a study that says nothing of its procedure
    texts = (
        record.description,
        *(text for code in record.procedure_codes for text in (code.value, code.meaning)),
    )
    return any(wildcard_matches(wanted, text.strip().casefold()) for text in texts if text.strip())


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueSets:
    """The sets that a registry checks against; ``check=False`` accepts any code (the open demo).

    ``type_codes`` are those of the region's own table of procedures.
    """

    check: bool = True
    type_codes: frozenset[tuple[str, str]] = frozenset()

    def allows(self, attribute: str, code: Code) -> bool:
        """Whether ``code`` may stand in ``attribute``; displays do not count (ITI TF-3 4.2.3.1.2)."""
        if not self.check:
            return True
        if attribute == "event_codes":
            return code.scheme == SNOMED_OID or modality_of(code) != ""
        if attribute == "type_code" and code.key in self.type_codes:
            return True
        allowed = VALUE_SETS.get(attribute)
        return allowed is None or code.key in allowed

    def allows_mime(self, mime_type: str) -> bool:
        """Whether documents of this type may be registered."""
        return not self.check or mime_type in MIME_TYPES

    def allows_language(self, language: str) -> bool:
        """Whether a language tag has the right form."""
        return not self.check or _LANGUAGE.match(language) is not None


_SITE_OF_CODE = {code: term for term, (code, _) in BODY_SITES.items()}


@lru_cache(maxsize=256)
def modality_code(modality: str) -> Code:
    """A modality as an eventCode (RAD TF-3 4.68.4.1.2.3); its own text as meaning where PS3.16 has none."""
    return _code(modality, DCM_OID, MODALITIES.get(modality, modality))


@lru_cache(maxsize=256)
def body_site_code(term: str) -> Code | None:
    """A BodyPartExamined term as an eventCode; None where it has no SNOMED code."""
    site = BODY_SITES.get(term.strip().upper())
    return None if site is None else _code(site[0], SNOMED_OID, site[1])


def modality_of(code: Code) -> str:
    """The modality of an eventCode, '' for another kind.

    A code string, which DCM's own codes (six digits) are not.
    """
    return code.value if code.scheme in (DCM_OID, DICOM_UIDS_OID) and _MODALITY.match(code.value) else ""


def body_site_of(code: Code) -> str:
    """The BodyPartExamined term of an eventCode, '' for another kind."""
    return _SITE_OF_CODE.get(code.value, "") if code.scheme == SNOMED_OID else ""
