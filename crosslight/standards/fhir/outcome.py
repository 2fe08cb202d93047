"""OperationOutcome: errors, and what an answer says of itself."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from crosslight.standards.fhir.wire import Resource, prune
from crosslight.standards.problem import CrosslightError

_PATH = re.compile(r"[A-Z][A-Za-z]*(\.[a-z][A-Za-z]*)+\Z")  # FHIRPath into a resource
_PARAMETER = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]*\Z")
Severity = Literal["fatal", "error", "warning", "information"]

#: What of the tree has no FHIR code of its own, by HTTP status.
_BY_STATUS = {
    401: "login",
    403: "forbidden",
    404: "not-found",
    405: "not-supported",
    406: "not-supported",
    413: "too-long",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Issue:
    """One issue. ``code`` is of http://hl7.org/fhir/issue-type."""

    severity: Severity
    code: str
    text: str
    diagnostics: str = ""
    expression: str = ""  # FHIRPath
    location: str = ""  # http.NAME of a parameter or header (R4 OperationOutcome.issue.location)

    def to_resource(self) -> Resource:
        """The issue as it stands in ``OperationOutcome.issue``."""
        return prune(
            {
                "severity": self.severity,
                "code": self.code,
                "details": {"text": self.text},
                "diagnostics": self.diagnostics,
                "location": [self.location] if self.location else [],
                "expression": [self.expression] if self.expression else [],
            }
        )


def operation_outcome(issues: Iterable[Issue], *, key: str = "") -> Resource:
    """The outcome with its issues."""
    return prune(
        {"resourceType": "OperationOutcome", "id": key, "issue": [issue.to_resource() for issue in issues]}
    )


def error_outcome(error: CrosslightError, *, correlation: str = "") -> Resource:
    """An error of ours as OperationOutcome.

    What in details, why and what to do in diagnostics, where as expression or location.
    """
    code = error.fhir_code
    if code == "exception":
        code = _BY_STATUS.get(error.http_status, code)
    told = " ".join(part for part in (error.why, error.todo) if part)
    if correlation and error.http_status >= 500:
        told = f"{told} Correlation: {correlation}.".strip()
    where = {"expression": error.where} if _PATH.match(error.where) else {}
    if not where and 400 <= error.http_status < 500:  # elsewhere it names a member, a part of ours
        where = {"location": of_parameter(error.where)}
    return operation_outcome([Issue(severity="error", code=code, text=error.what, diagnostics=told, **where)])


def of_parameter(name: str) -> str:
    """``http.NAME`` of a parameter or header; '' for what is neither. A value after ``=`` is left out."""
    bare = name.partition("=")[0]
    return f"http.{bare}" if _PARAMETER.match(bare) else ""
