"""What a person decides of patient records: the cases, and their decisions with a reason, checked and
audited.
"""
