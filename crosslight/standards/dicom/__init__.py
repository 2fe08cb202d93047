"""DICOM headers, manifests, JSON, the QIDO grammar, multipart (PS3.3, PS3.5, PS3.10, PS3.18)."""
