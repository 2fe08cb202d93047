"""Tells systems that the configuration names of what lies here (PS3.4 R)."""
