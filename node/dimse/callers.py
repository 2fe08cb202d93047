"""Who may call: systems that the configuration names, by AE title and address. Pure.

DICOM without TLS knows no other check; with ``tls_client_ca`` the caller's certificate was verified before
this is asked.
"""

from __future__ import annotations

from dataclasses import dataclass

from crosslight.runtime.credentials import device
from crosslight.standards.access import ANY, Grants, Principal
from node.dimse.config import ANY_TITLE, MAY, DimseConfig, KnownCaller

UNKNOWN = "caller not configured"
_TESTS_MAY = ("store",)  # where the configuration admits whoever calls


@dataclass(frozen=True, slots=True)
class Calling:
    """A system that calls, and by which rule it may; '' = it may not."""

    principal: Principal
    address: str
    rule: str
    moves_to: frozenset[str] = frozenset()  # AE titles that objects may be sent to for it
    notifies: frozenset[str] = frozenset()  # names of sources of whose instances it may tell

    @property
    def admitted(self) -> bool:
        """Whether the system may call."""
        return self.rule != UNKNOWN

    def may_move_to(self, ae_title: str) -> bool:
        """Whether it may have objects sent there: to itself, and where the configuration says."""
        return ae_title == self.principal.name or not self.moves_to.isdisjoint((ae_title, ANY_TITLE))


class Callers:
    """The systems that may call one node.

    Args:
        config: The ``[dimse]`` section.
        organisation: This node's organisation code; its AE title unless the configuration says another.
        anybody: Accept every caller, as an open demo does.
    """

    def __init__(self, config: DimseConfig, organisation: str, *, anybody: bool = False) -> None:
        self._config, self._organisation = config, organisation
        self._open = anybody
        self._anybody = anybody or config.accept_any_caller
        self.ae_title = (config.ae_title or organisation).strip()[:16]

    def calling(self, ae_title: str, address: str) -> Calling:
        """The system that calls with this AE title from this address."""
        for known in self._config.callers:
            if known.matches(ae_title, address):
                return self._known(known, address)
        if not self._anybody:
            return Calling(device(ae_title, self._organisation), address, UNKNOWN)
        may = MAY if self._open else _TESTS_MAY
        principal = device(ae_title, self._organisation, _granted(may))
        return Calling(principal, address, "any caller", frozenset({ANY_TITLE}))

    def _known(self, known: KnownCaller, address: str) -> Calling:
        title = known.ae_title.strip()
        principal = device(title, self._organisation, _granted(known.may))
        return Calling(
            principal, address, f"caller {title}", frozenset(known.moves_to), frozenset(known.notifies)
        )


def _granted(may: tuple[str, ...]) -> Grants:
    return Grants(capabilities=frozenset(may), store_at=ANY)
