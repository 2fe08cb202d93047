"""DICOM headers, manifests, DICOM JSON, the QIDO grammar and multipart bodies (PS3.3, PS3.5, PS3.10,
PS3.18)."""
