"""One DICOMweb root for the whole region: QIDO-RS from the index, WADO-RS through the gateway, no store."""
