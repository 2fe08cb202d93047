"""The XDS face: one file per transaction."""
