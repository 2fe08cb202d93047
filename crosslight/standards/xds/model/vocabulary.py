"""Names of XDS metadata in ebRIM (ITI TF-3 4.2.5 and 4.3.1): schemes, types, statuses, slots. Tables only."""

from __future__ import annotations

OBJECT_TYPE = "urn:oasis:names:tc:ebxml-regrep:ObjectType:RegistryObject:"
STABLE = "urn:uuid:7edca82f-054d-47f2-a032-9b2a5b5186c1"
ON_DEMAND = "urn:uuid:34268e47-fdf5-41a6-ba33-82133c465248"
SUBMISSION_SET_NODE = "urn:uuid:a54d6aa5-d40d-43f9-88c5-b4633d873bdd"
FOLDER_NODE = "urn:uuid:d9d542f3-6cc4-48b6-8870-ea235fbc94c2"
#: Limited metadata (XDR and MHD only): not for a registry (ITI TF-3 Table 4.3.1-3, "X").
LIMITED_NODES = frozenset({
    "urn:uuid:ab9b591b-83ab-4d03-8f5d-f93b1fb92e85",
    "urn:uuid:5003a9db-8d8d-49e6-bf0c-990e34ac7707",
    "urn:uuid:2c144a76-29a9-4b7c-af54-b25409fe7d03",
})  # fmt: skip

STATUS = "urn:oasis:names:tc:ebxml-regrep:StatusType:"
APPROVED, DEPRECATED = STATUS + "Approved", STATUS + "Deprecated"

HAS_MEMBER = "urn:oasis:names:tc:ebxml-regrep:AssociationType:HasMember"
_ITI7, _ITI10 = "urn:ihe:iti:2007:AssociationType:", "urn:ihe:iti:2010:AssociationType:"
RPLC, APND, XFRM = _ITI7 + "RPLC", _ITI7 + "APND", _ITI7 + "XFRM"
XFRM_RPLC, SIGNS = _ITI7 + "XFRM_RPLC", _ITI7 + "signs"
IS_SNAPSHOT_OF = _ITI10 + "IsSnapshotOf"
#: documentAvailability (ITI TF-3 4.2.3.2.30); an entry that says nothing is online.
ONLINE, OFFLINE = (
    "urn:ihe:iti:2010:DocumentAvailability:Online",
    "urn:ihe:iti:2010:DocumentAvailability:Offline",
)
UPDATE_AVAILABILITY, SUBMIT_ASSOCIATION = _ITI10 + "UpdateAvailabilityStatus", _ITI10 + "SubmitAssociation"
RELATIONSHIPS = frozenset({RPLC, APND, XFRM, XFRM_RPLC, SIGNS, IS_SNAPSHOT_OF})
REPLACING = frozenset({RPLC, XFRM_RPLC})
#: Relationships whose target must be in the registry already; the others may stand in the same submission.
TARGET_IN_REGISTRY = frozenset({RPLC, XFRM_RPLC, IS_SNAPSHOT_OF})

#: Extra metadata of our own entries (ITI TF-3 4.2.3.1.6), while a study still grows: FHIR ``registered``
#: (D14).
PROGRESS_SLOT, ARRIVING = "urn:crosslight:progress", "arriving"

# classification schemes
DE_AUTHOR = "urn:uuid:93606bcf-9494-43ec-9b4e-a7748d1a838d"
SS_AUTHOR = "urn:uuid:a7058bb9-b4e4-4307-ba5b-e3f0ab85e12d"
CLASS_CODE = "urn:uuid:41a5887f-8865-4c09-adf7-e362475b143a"
CONFIDENTIALITY = "urn:uuid:f4f85eac-e6cb-4883-b524-f2705394840f"
EVENT_CODES = "urn:uuid:2c6b8cb7-8b2a-4051-b291-b1ae6a575ef4"
FORMAT_CODE = "urn:uuid:a09d5840-386c-46f2-b5ad-9c3699a4309d"
FACILITY_TYPE = "urn:uuid:f33fb8ac-18af-42cc-ae0e-ed0b0bdb91e1"
PRACTICE_SETTING = "urn:uuid:cccf5598-8b07-4b77-a05e-ae952c785ead"
TYPE_CODE = "urn:uuid:f0306f51-975f-434e-a61c-c59651d33983"
CONTENT_TYPE = "urn:uuid:aa543740-bdda-424e-8c96-df4873be8500"
FOLDER_CODES = "urn:uuid:1ba97051-7806-41a8-a48b-8fce7af683c5"
ASSOCIATION_DOCUMENTATION = "urn:uuid:abd807a3-4432-4053-87b4-fd82c643d1f3"

#: kind -> identification scheme -> (field, Name of the ExternalIdentifier)
IDENTIFIERS: dict[str, dict[str, tuple[str, str]]] = {
    "document": {
        "urn:uuid:58a6f841-87b3-4a3e-92fd-a8ffeff98427": ("patient_id", "XDSDocumentEntry.patientId"),
        "urn:uuid:2e82c1f6-a085-4c72-9da3-8640a32e42ab": ("unique_id", "XDSDocumentEntry.uniqueId"),
    },
    "submission": {
        "urn:uuid:6b5aea1a-874d-4603-a4bc-96a0a7b38446": ("patient_id", "XDSSubmissionSet.patientId"),
        "urn:uuid:554ac39e-e3fe-47fe-b233-965d2a147832": ("source_id", "XDSSubmissionSet.sourceId"),
        "urn:uuid:96fdda7c-d067-4183-912e-bf5ee74998a8": ("unique_id", "XDSSubmissionSet.uniqueId"),
    },
    "folder": {
        "urn:uuid:f64ffdf0-4b97-4e06-b79f-a52b38ec2f8a": ("patient_id", "XDSFolder.patientId"),
        "urn:uuid:75df8f67-9973-4fbe-a900-df66cefecc5a": ("unique_id", "XDSFolder.uniqueId"),
    },
    "association": {},
}

#: kind -> slot name -> field, slots with exactly one value
SINGLE_SLOTS: dict[str, dict[str, str]] = {
    "document": {
        "creationTime": "creation_time",
        "languageCode": "language_code",
        "serviceStartTime": "service_start_time",
        "serviceStopTime": "service_stop_time",
        "sourcePatientId": "source_patient_id",
        "hash": "hash",
        "size": "size",
        "repositoryUniqueId": "repository_unique_id",
        "legalAuthenticator": "legal_authenticator",
        "documentAvailability": "document_availability",
    },
    "submission": {"submissionTime": "submission_time"},
    "folder": {"lastUpdateTime": "last_update_time"},
    "association": {
        "SubmissionSetStatus": "submission_set_status",
        "PreviousVersion": "previous_version",
        "OriginalStatus": "original_status",
        "NewStatus": "new_status",
        "AssociationPropagation": "propagation",
    },
}
REFERENCE_IDS = "urn:ihe:iti:xds:2013:referenceIdList"
#: kind -> slot name -> field, slots with any number of values
MULTI_SLOTS: dict[str, dict[str, str]] = {
    "document": {"sourcePatientInfo": "source_patient_info", "URI": "uri", REFERENCE_IDS: "reference_ids"},
    "submission": {"intendedRecipient": "intended_recipients"},
    "folder": {},
    "association": {},
}
#: kind -> classification scheme -> (field, many)
CODES: dict[str, dict[str, tuple[str, bool]]] = {
    "document": {
        CLASS_CODE: ("class_code", False),
        TYPE_CODE: ("type_code", False),
        FORMAT_CODE: ("format_code", False),
        FACILITY_TYPE: ("healthcare_facility_type", False),
        PRACTICE_SETTING: ("practice_setting", False),
        CONFIDENTIALITY: ("confidentiality", True),
        EVENT_CODES: ("event_codes", True),
    },
    "submission": {CONTENT_TYPE: ("content_type", False)},
    "folder": {FOLDER_CODES: ("codes", True)},
    "association": {ASSOCIATION_DOCUMENTATION: ("documentation", False)},
}
AUTHOR_SCHEME = {"document": DE_AUTHOR, "submission": SS_AUTHOR}
AUTHOR_SLOTS = {
    "authorPerson": "persons",
    "authorInstitution": "institutions",
    "authorRole": "roles",
    "authorSpecialty": "specialties",
    "authorTelecommunication": "telecommunications",
}
