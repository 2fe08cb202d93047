"""Append-only audit, the same at registry and node: a pair of entries for each act (D20).

Who, why and what is committed before the first byte of an answer leaves, or before anything is changed; the
outcome after. An act without an outcome was cut off. ``log`` is the store, ``act`` one act while it happens,
``outcome`` what became of it; ``select``, ``show`` and ``command`` are how people read it.
"""

from __future__ import annotations

from crosslight.runtime.audit.act import DENIED, About, Act, AuditEntry
from crosslight.runtime.audit.log import SCHEMA, AuditLog
from crosslight.runtime.audit.outcome import Outcome, OutcomeKind
from crosslight.runtime.audit.rows import Audited

__all__ = ["DENIED", "SCHEMA", "About", "Act", "AuditEntry", "AuditLog", "Audited", "Outcome", "OutcomeKind"]
