"""Doors into the index: ITI-42, ITI-57, ITI-62, the gRPC feed; all end in accept.py."""
