"""What the FHIR face offers: one table for routes, search and the CapabilityStatement."""

from __future__ import annotations

from crosslight.standards.fhir.imaging_study import MANDATORY
from crosslight.standards.fhir.resource_spec import ParamSpec, ResourceSpec

_NOT = frozenset({"not"})
_TEXT = frozenset({"exact", "contains"})
_PERSON = ("Patient",)

IMAGING_STUDY = ResourceSpec(
    type="ImagingStudy",
    doc=(
        "One for each member that holds the study, with that member's Endpoint and custodian. Series, never"
        " instances."
    ),
    sorts=("started", "_lastUpdated", "_id"),
    default_sort=("-started",),
    includes={
        "ImagingStudy:patient": "Patient",
        "ImagingStudy:subject": "Patient",
        "ImagingStudy:endpoint": "Endpoint",
        "ImagingStudy:custodian": "Organization",
    },
    mandatory=MANDATORY,
    params=(
        ParamSpec(name="_id", type="token", doc="Logical id."),
        ParamSpec(name="_lastUpdated", type="date", doc="When the index last changed it."),
        ParamSpec(
            name="identifier",
            type="token",
            doc="Study Instance UID (urn:dicom:uid, with or without urn:oid:) or accession.",
        ),
        ParamSpec(name="patient", type="reference", targets=_PERSON, doc="The patient: one at a time."),
        ParamSpec(name="subject", type="reference", targets=_PERSON, doc="Same as patient."),
        ParamSpec(
            name="started",
            type="date",
            doc="When the study began; days are the region's. Undated studies match always, last.",
        ),
        ParamSpec(
            name="modality", type="token", modifiers=_NOT, doc="Modality of the study or of any series."
        ),
        ParamSpec(
            name="status",
            type="token",
            modifiers=_NOT,
            doc="registered while it is arriving, then available.",
        ),
        ParamSpec(
            name="endpoint", type="reference", targets=("Endpoint",), doc="Where its images are opened."
        ),
        ParamSpec(name="series", type="token", doc="Series Instance UID."),
        ParamSpec(
            name="description",
            type="string",
            modifiers=_TEXT,
            own=True,
            doc="Study description; begins with.",
        ),
        ParamSpec(
            name="accession",
            type="token",
            own=True,
            doc="Accession number, with its issuer's system or of any issuer.",
        ),
        ParamSpec(
            name="custodian",
            type="token",
            own=True,
            doc="Who holds it: organisation code, Organization id or repository OID.",
        ),
        ParamSpec(name="study-instance-uid", type="token", own=True, doc="Study Instance UID."),
        ParamSpec(
            name="bodysite",
            type="token",
            modifiers=_NOT,
            doc="Body part examined: its DICOM term (no system), or the SNOMED CT code that answers show.",
        ),
    ),
)

PATIENT = ResourceSpec(
    type="Patient",
    doc=(
        "A person as the region knows them: every linked record's identifiers. Names are searched only with a"
        " date of birth."
    ),
    params=(
        ParamSpec(name="_id", type="token", doc="Logical id."),
        ParamSpec(name="identifier", type="token", doc="National number or a member's local number."),
        ParamSpec(
            name="family",
            type="string",
            modifiers=frozenset({"exact"}),
            doc="Begins a family name; with birthdate only.",
        ),
        ParamSpec(
            name="given",
            type="string",
            modifiers=frozenset({"exact"}),
            doc="Begins a given name; with birthdate only.",
        ),
        ParamSpec(
            name="name",
            type="string",
            modifiers=frozenset({"exact"}),
            doc="Begins any part; with birthdate only.",
        ),
        ParamSpec(name="birthdate", type="date", doc="A whole date; with family, given or name."),
        ParamSpec(name="gender", type="token", modifiers=_NOT, doc="Narrows another search."),
    ),
)

ENDPOINT = ResourceSpec(
    type="Endpoint",
    doc="DICOMweb roots: the region's gateway, and each member's own.",
    includes={"Endpoint:organization": "Organization"},
    mandatory=frozenset({"status", "connectionType", "payloadType", "address"}),
    params=(
        ParamSpec(name="_id", type="token", doc="Logical id."),
        ParamSpec(name="organization", type="reference", targets=("Organization",), doc="Who manages it."),
        ParamSpec(name="connection-type", type="token", doc="dicom-wado-rs."),
        ParamSpec(name="status", type="token", doc="active; error while unreachable; suspended."),
    ),
)

ORGANIZATION = ResourceSpec(
    type="Organization",
    doc="The region and its members, under their organisation codes.",
    includes={"Organization:endpoint": "Endpoint"},
    params=(
        ParamSpec(name="_id", type="token", doc="Logical id."),
        ParamSpec(name="identifier", type="token", doc="Organisation code."),
        ParamSpec(name="name", type="string", modifiers=_TEXT, doc="Name; begins with."),
        ParamSpec(name="active", type="token", doc="false while suspended."),
    ),
)

SPECS = (IMAGING_STUDY, PATIENT, ENDPOINT, ORGANIZATION)
