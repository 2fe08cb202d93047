"""DICOMweb messages: accept, JSON, multipart, QIDO matching."""
