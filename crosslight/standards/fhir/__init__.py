"""FHIR R4: StudyRecord to ImagingStudy, Patient, Endpoint, Organization; the search grammar."""
