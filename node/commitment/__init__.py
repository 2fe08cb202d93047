"""Asks other systems to keep studies for good, and keeps what they say (PS3.4 J, as SCU)."""
