"""The DICOM listener: associations (PS3.8), messages (PS3.7), and services that register by command field."""
