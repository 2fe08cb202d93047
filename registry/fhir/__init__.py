"""The FHIR face: R4 read and search of ImagingStudy, Patient, Endpoint and Organization, all through ``registry.ask``.

Parses, asks, renders. Holds no rule and no SQL; the resources themselves are in ``crosslight.standards.fhir``.
"""

from registry.fhir.config import FhirConfig
from registry.fhir.errors import render_error
from registry.fhir.face import FhirFace
from registry.fhir.routes import routes

__all__ = ["FhirConfig", "FhirFace", "render_error", "routes"]
