"""FHIR R4 (4.0.1): our facts as resources, and the search grammar. Pure: no IO, no clock, no model classes.

Resources are built as plain dicts and written with orjson; ``fhir.resources`` only proves them in tests (its
cost would be a hundredfold on every answer).
"""
