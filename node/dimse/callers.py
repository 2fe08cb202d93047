"""Who may call: systems that the configuration names, by AE title and address. Pure.

DICOM without TLS knows no other check; with ``tls_client_ca`` the caller's certificate was verified before
this is asked.
"""

from __future__ import annotations

from dataclasses import dataclass

from crosslight.runtime.credentials import device
from crosslight.standards.access import Principal
from node.dimse.config import DimseConfig

UNKNOWN = "caller not configured"


@dataclass(frozen=True, slots=True)
class Calling:
    """A system that calls, and by which rule it may; '' = it may not."""

    principal: Principal
    address: str
    rule: str

    @property
    def admitted(self) -> bool:
        """Whether the system may call."""
        return self.rule != UNKNOWN


class Callers:
    """The systems that may call one node.

    Args:
        config: The ``[dimse]`` section.
        organisation: This node's organisation code; its AE title unless the configuration says another.
        anybody: Accept every caller, as an open demo does.
    """

    def __init__(self, config: DimseConfig, organisation: str, *, anybody: bool = False) -> None:
        self._config, self._organisation = config, organisation
        self._anybody = anybody or config.accept_any_caller
        self.ae_title = (config.ae_title or organisation).strip()[:16]

    def calling(self, ae_title: str, address: str) -> Calling:
        """The system that calls with this AE title from this address."""
        return Calling(
            device(ae_title, self._organisation), address, self._rule(ae_title, address) or UNKNOWN
        )

    def _rule(self, ae_title: str, address: str) -> str:
        for known in self._config.callers:
            if known.matches(ae_title, address):
                return f"caller {known.ae_title.strip()}"
        return "any caller" if self._anybody else ""
