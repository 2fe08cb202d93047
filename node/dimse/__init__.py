"""DIMSE faces: C-ECHO and C-STORE."""
