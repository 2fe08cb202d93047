"""Code lists as data; README.md says source, edition and how each was made."""
