"""One DICOMweb root for the whole region: QIDO-RS from the index, WADO-RS through the gateway, no store."""

from registry.dicomweb.config import DicomwebConfig
from registry.dicomweb.face import DicomwebFace, routes

__all__ = ["DicomwebConfig", "DicomwebFace", "routes"]
