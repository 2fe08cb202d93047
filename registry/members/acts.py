"""Acts on members in the audit: the pair at once, as each act is one transaction."""

from __future__ import annotations

from typing import Protocol

from crosslight.runtime.audit import AuditEntry, AuditLog
from crosslight.runtime.clock import Ids
from crosslight.standards.access import Principal


class Note(Protocol):
    """Notes one act on a member."""

    async def __call__(self, by: Principal, what: str, whom: str, reason: str = "", *, refused: str = "") -> None:
        """``by`` did ``what`` to the member ``whom``, or was ``refused`` (why)."""
        ...


class MemberActs:
    """Notes acts on members."""

    def __init__(self, audit: AuditLog, ids: Ids) -> None:
        self._audit, self._ids = audit, ids

    async def note(self, by: Principal, what: str, whom: str, reason: str = "", *, refused: str = "") -> None:
        """Audit an act on a member: the pair at once, as the act is one transaction."""
        entry = AuditEntry(
            principal=by,
            face="admin",
            action="operate",
            decision="deny" if refused else "permit",
            rule=refused or "operator of the region",
            correlation=self._ids.uuid4().hex,
            query={"act": what, "member": whom, **({"reason": reason} if reason else {})},
        )
        await self._audit.begin(entry)
        await self._audit.end(entry, f"refused: {refused}" if refused else "ok")
