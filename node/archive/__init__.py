"""Objects on disk and their index: ingest, quarantine, the bin, integrity."""
