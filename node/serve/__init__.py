"""DICOMweb, RAD-69 and ITI-43 of what this trust holds; everything leaves through release.py."""
