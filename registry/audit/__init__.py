"""Who saw what. The store is :mod:`crosslight.runtime.audit`, the same as the nodes'; its forms are in its ``show``."""

from crosslight.runtime.audit.show import audit_lines, audit_table, parse_patient

__all__ = ["audit_lines", "audit_table", "parse_patient"]
