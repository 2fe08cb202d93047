"""OperationOutcome: errors, and what an answer says of itself."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from crosslight.standards.fhir.wire import Resource, prune
from crosslight.standards.problem import CrosslightError

Severity = Literal["fatal", "error", "warning", "information"]

#: What of the tree has no FHIR code of its own, by HTTP status.
_BY_STATUS = {401: "login", 403: "forbidden", 404: "not-found", 405: "not-supported", 406: "not-supported", 413: "too-long"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Issue:
    """One issue. ``code`` is of http://hl7.org/fhir/issue-type."""

    severity: Severity
    code: str
    text: str
    diagnostics: str = ""
    expression: str = ""

    def to_resource(self) -> Resource:
        """As OperationOutcome.issue."""
        return prune({
            "severity": self.severity,
            "code": self.code,
            "details": {"text": self.text},
            "diagnostics": self.diagnostics,
            "expression": [self.expression] if self.expression else [],
        })  # fmt: skip


def operation_outcome(issues: Iterable[Issue], *, key: str = "") -> Resource:
    """The outcome with its issues."""
    return prune({"resourceType": "OperationOutcome", "id": key, "issue": [issue.to_resource() for issue in issues]})


def error_outcome(error: CrosslightError, *, correlation: str = "") -> Resource:
    """An error of ours: what in details, why and what to do in diagnostics, where as expression."""
    code = error.fhir_code
    if code == "exception":
        code = _BY_STATUS.get(error.http_status, code)
    told = " ".join(part for part in (error.why, error.todo) if part)
    if correlation and error.http_status >= 500:
        told = f"{told} Correlation: {correlation}.".strip()
    where = error.where if error.where and " " not in error.where else ""
    return operation_outcome([Issue(severity="error", code=code, text=error.what, diagnostics=told, expression=where)])
