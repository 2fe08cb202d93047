"""rs:RegistryResponse, written and read (ITI TF-3 4.2.4)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from crosslight.standards.problem import Malformed
from crosslight.standards.xds.model.xml import RS, Element, attribute, esc
from crosslight.standards.xds.rules.errors import RegistryError, Severity

SUCCESS = "urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:Success"
FAILURE = "urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:Failure"
PARTIAL = "urn:ihe:iti:2007:ResponseStatusType:PartialSuccess"
SEVERITY = "urn:oasis:names:tc:ebxml-regrep:ErrorSeverityType:"


@dataclass(frozen=True, slots=True)
class RegistryReply:
    """What a registry or repository said."""

    status: str
    errors: tuple[RegistryError, ...] = ()

    @property
    def success(self) -> bool:
        """Success, warnings allowed."""
        return self.status == SUCCESS

    @property
    def faults(self) -> tuple[RegistryError, ...]:
        """Errors without warnings."""
        return tuple(e for e in self.errors if e.severity == "Error")


def status_of(errors: Iterable[RegistryError], *, results: int = 0, partial: bool = False) -> str:
    """Success without errors (warnings allowed).

    Else Failure, or PartialSuccess where allowed and there are results.
    """
    if all(e.severity == "Warning" for e in errors):
        return SUCCESS
    return PARTIAL if partial and results > 0 else FAILURE


def render_error_list(errors: Sequence[RegistryError]) -> str:
    """rs:RegistryErrorList with its namespace as prefix ``rs`` declared outside; '' without errors."""
    if not errors:
        return ""
    worst = "Error" if any(e.severity == "Error" for e in errors) else "Warning"
    rows = "".join(
        f'<rs:RegistryError errorCode="{esc(e.code)}" codeContext="{esc(e.context)}"'
        f' severity="{SEVERITY}{e.severity}"' + (f' location="{esc(e.location)}"/>' if e.location else "/>")
        for e in errors
    )
    return f'<rs:RegistryErrorList highestSeverity="{SEVERITY}{worst}">{rows}</rs:RegistryErrorList>'


def render_registry_response(errors: Sequence[RegistryError] = (), *, status: str = "") -> bytes:
    """A RegistryResponse body: Success without errors (warnings allowed), else Failure.

    Unless ``status`` says otherwise.
    """
    status = status or status_of(errors)
    inner = render_error_list(errors)
    return f'<rs:RegistryResponse xmlns:rs="{RS}" status="{status}">{inner}</rs:RegistryResponse>'.encode()


def parse_error_list(element: Element) -> tuple[RegistryError, ...]:
    """The errors of any response element that has an rs:RegistryErrorList.

    Unknown severities count as errors.
    """
    errors = []
    for row in element.iterfind(f"{{{RS}}}RegistryErrorList/{{{RS}}}RegistryError"):
        severity: Severity = "Warning" if attribute(row, "severity").endswith(":Warning") else "Error"
        errors.append(
            RegistryError(
                attribute(row, "errorCode"),
                attribute(row, "codeContext"),
                attribute(row, "location"),
                severity,
            )
        )
    return tuple(errors)


def parse_registry_response(element: Element) -> RegistryReply:
    """Read a RegistryResponse (or any element with its attributes and error list, as AdhocQueryResponse has).

    A Failure without errors and a Success with errors are read as they stand: the status decides, errors stay
    visible.

    Raises:
        Malformed: no status that the standard knows.
    """
    status = attribute(element, "status")
    if status not in (SUCCESS, FAILURE, PARTIAL):
        raise Malformed("The answer has no status that XDS knows.", why="ITI TF-3 4.2.4.2.")
    return RegistryReply(status, parse_error_list(element))
