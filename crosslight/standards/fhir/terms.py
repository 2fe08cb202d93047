"""Systems, codes and extension addresses of the FHIR face, each with its source.

And how authorities become systems.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

from crosslight.standards.ids import (
    CHI_OID,
    CHI_SYSTEM,
    NHS_NUMBER_OID,
    NHS_NUMBER_SYSTEM,
    Identifier,
    is_uid,
)
from crosslight.standards.region import Region

FHIR_VERSION = "4.0.1"
JSON_TYPE = "application/fhir+json"

DICOM_UID = "urn:dicom:uid"  # FHIR R4 ImagingStudy.identifier: "urn:dicom:uid" with value "urn:oid:..."
DCM = "http://dicom.nema.org/resources/ontology/DCM"  # PS3.16 annex D
V2_0203 = "http://terminology.hl7.org/CodeSystem/v2-0203"  # identifier types
SNOMED = "http://snomed.info/sct"
LOINC = "http://loinc.org"
RFC3986 = "urn:ietf:rfc:3986"
CONNECTION_TYPE = "http://terminology.hl7.org/CodeSystem/endpoint-connection-type"
PAYLOAD_TYPE = "http://terminology.hl7.org/CodeSystem/endpoint-payload-type"
DATA_ABSENT = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"
NAME_REPRESENTATION = "http://hl7.org/fhir/StructureDefinition/iso21090-EN-representation"  # ABC, IDE, SYL
SUBSETTED = {"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "SUBSETTED"}

# UK Core: NHS number verification status of Patient.identifier (fhir.hl7.org.uk, England's code system).
NHS_VERIFICATION = "https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-NHSNumberVerificationStatus"
NHS_VERIFICATION_CODES = "https://fhir.hl7.org.uk/CodeSystem/UKCore-NHSNumberVerificationStatusEngland"
NHS_VERIFIED = ("01", "Number present and verified")
NHS_NOT_TRACED = ("02", "Number present but not traced")

# Our own extensions; documented in docs/conformance/fhir.md.
OWN = "urn:crosslight:fhir:"
EXT_CUSTODIAN = OWN + "custodian"  # Reference(Organization): the member that holds the study
# boolean: the UID is held elsewhere with another patient, count or digest (D1)
EXT_CONFLICT = OWN + "holding-in-conflict"
EXT_DETAIL = OWN + "detail"  # code: entry | manifest, where less than full detail is known (D17)
EXT_LOCAL_TIME = OWN + "time-without-zone"  # string: TM as received, where no zone is known (D22)
# code, repeated: name | birthDate | gender differ among the records (D3)
EXT_DIFFERS = OWN + "demographics-differ"
EXT_TRACED = OWN + "number-traced"  # boolean: verification of a national number that is no NHS number
EXT_REPOSITORY = OWN + "repository-unique-id"  # oid (D11)
COMPLETENESS = OWN + "completeness"  # code system of Bundle.meta.tag: degraded | unproven | not-understood
EXT_RETRIEVE_LOCATION = OWN + "retrieve-location-uid"  # oid (D11)
NAMESPACE_SYSTEM = "urn:crosslight:issuer:"  # + percent-encoded local namespace of an issuer that has no OID
# + percent-encoded DICOM coding scheme designator without a known system
SCHEME_SYSTEM = "urn:crosslight:coding-scheme:"

#: DICOM coding scheme designators (PS3.16 table 8-1) and their FHIR systems (HL7 external code systems).
CODING_SCHEMES = {
    "SCT": SNOMED,
    "SRT": "http://snomed.info/srt",
    "DCM": DCM,
    "LN": LOINC,
    "UCUM": "http://unitsofmeasure.org",
    "NICIP": "https://nicip.nhs.uk",
    "RADLEX": "http://www.radlex.org",
    "I10": "http://hl7.org/fhir/sid/icd-10",
    "2.16.840.1.113883.6.96": SNOMED,
    "1.2.840.10008.2.16.4": DCM,
    "2.16.840.1.113883.6.1": LOINC,
}

#: DICOM laterality (PS3.3 C.7.3.1) as SNOMED CT, by PS3.16 CID 244.
LATERALITY = {"R": ("24028007", "Right"), "L": ("7771000", "Left"), "B": ("51440002", "Right and left")}

_KNOWN: dict[str, str] = {NHS_NUMBER_OID: NHS_NUMBER_SYSTEM, CHI_OID: CHI_SYSTEM}


@dataclass(frozen=True, slots=True)
class Systems:
    """Authorities and FHIR systems, both ways, for one region."""

    region: Region

    def system(self, authority: str, namespace: str = "") -> str:
        """The FHIR system of an authority, '' when nobody said who issued it."""
        if authority:
            if authority == self.region.national_authority and self.region.national_system:
                return self.region.national_system
            return _KNOWN.get(authority, f"urn:oid:{authority}")
        return NAMESPACE_SYSTEM + quote(namespace, safe="") if namespace else ""

    def issuer(self, system: str) -> tuple[str, str] | None:
        """(authority, namespace) of a system, or None for one that nothing here can be under."""
        if system == self.region.national_system and self.region.national_authority:
            return self.region.national_authority, ""
        for oid, uri in _KNOWN.items():
            if system == uri:
                return oid, ""
        if system.startswith("urn:oid:") and is_uid(system[8:]):
            return system[8:], ""
        if system.startswith(NAMESPACE_SYSTEM):
            return "", unquote(system[len(NAMESPACE_SYSTEM) :])
        return None

    def identifier(self, value: Identifier) -> dict[str, Any]:
        """``system`` and ``value`` alone."""
        system = self.system(value.authority, value.namespace)
        return {"system": system, "value": value.value} if system else {"value": value.value}

    def is_national(self, authority: str) -> bool:
        """Whether the authority is one of the region's national ones."""
        return authority in self.region.nationals


def coding_system(scheme: str) -> str:
    """The FHIR system of a coding scheme as its source gave it: designator, OID or URI."""
    if not scheme:
        return ""
    if scheme in CODING_SCHEMES:
        return CODING_SCHEMES[scheme]
    if is_uid(scheme) and "." in scheme:
        return f"urn:oid:{scheme}"
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:\S+\Z", scheme):
        return scheme
    return SCHEME_SYSTEM + quote(scheme, safe="")


def absent(reason: str = "unknown") -> dict[str, Any]:
    """An element whose value is not known."""
    return {"extension": [{"url": DATA_ABSENT, "valueCode": reason}]}
