"""The FHIR face: R4 read and search of ImagingStudy, Patient, Endpoint and Organization.

Parses, asks ``registry.ask``, renders. Holds no rule and no SQL; the resources themselves are in
``crosslight.standards.fhir``.
"""
