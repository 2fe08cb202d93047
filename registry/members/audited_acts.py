"""What is done to members, in the audit: each act is committed before it is done (D20)."""

from __future__ import annotations

from crosslight.runtime.audit import About, Act, AuditLog
from crosslight.runtime.audit.act import DENIED
from crosslight.runtime.caller import Caller, background, command_line
from crosslight.runtime.clock import Ids
from crosslight.standards.access import Action, Decision, Face, Principal
from crosslight.standards.problem import CrosslightError

#: The registry where nobody tells it to.
REGISTRY = Principal(
    subject="registry", name="registry", roles=frozenset({"operator"}), purpose="HOPERAT", evidence="local"
)


class MemberActs:
    """Makes acts on members."""

    def __init__(self, audit: AuditLog, ids: Ids) -> None:
        self._audit, self._ids = audit, ids

    def operator(self, by: Caller | None) -> Caller:
        """Who was said to act, or whoever runs a command here."""
        return by or command_line(self._ids)

    def registry(self) -> Caller:
        """The registry, which acts by itself."""
        return background(REGISTRY, self._ids)

    def act(
        self,
        by: Caller | None,
        action: Action,
        member: str,
        *,
        face: Face = "admin",
        decision: Decision | None = None,
        refusal: CrosslightError | str = DENIED,
        **query: str,
    ) -> Act:
        """An act on a member, to be done in its block.

        Args:
            by: Who does it; None: whoever runs a command here.
            action: What is done.
            member: The code of whom it is done to.
            face, decision, refusal: Where it is no command of the operator's, whom the table of access allows
            it.
            query: What else is said of it.
        """
        about = About(query={"member": member, **{name: value for name, value in query.items() if value}})
        return self._audit.act(self.operator(by), face, action, about, decision=decision, refusal=refusal)
