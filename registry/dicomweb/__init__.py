"""The region-wide DICOMweb root."""
