"""This implementation, as it names itself in file meta and in associations (PS3.10 7.1, PS3.7 D.3.3.2)."""

from __future__ import annotations

IMPLEMENTATION_CLASS_UID = "2.25.244957265117311826393471239421057226793"  # ours, from a UUID
IMPLEMENTATION_VERSION = "CROSSLIGHT"
