"""The FHIR face: R4 read and search of ImagingStudy, Patient, Endpoint and Organization, all through
``registry.ask``.

Parses, asks, renders. Holds no rule and no SQL; the resources themselves are in
``crosslight.standards.fhir``.
"""
