"""What a person decides of patient records.

The cases, and their decisions with a reason, checked and audited.
"""
