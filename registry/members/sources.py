"""Sources that are no members.

The region's operator says what they are called and where they answer (D17, ADR 0020).
"""

from __future__ import annotations

from dataclasses import replace

from crosslight.runtime.caller import Caller
from crosslight.standards.problem import Conflict, Invalid
from registry.members.audited_acts import MemberActs
from registry.members.model import Member
from registry.members.roster import Roster


class Sources:
    """Describing sources.

    Args:
        members: The copy that is read anew after each change.
        acts: Makes the act in the audit.
        plain: Whether an address without TLS will do.
    """

    def __init__(self, members: Roster, acts: MemberActs, *, plain: bool) -> None:
        self._members, self._acts = members, acts
        self._schemes = ("https://", "http://") if plain else ("https://",)

    async def describe(
        self,
        repository_unique_id: str,
        *,
        name: str = "",
        repository_url: str = "",
        dicomweb: str = "",
        by: Caller,
    ) -> Member:
        """Say of a source what it is called and where it answers; what is '' stays as it is.

        Args:
            repository_unique_id: Of its repository; it need not have registered anything yet.
            name: For people.
            repository_url: Where it answers ITI-43: its manifests are read there.
            dicomweb: Its DICOMweb root, where images are opened.
            by: Who says it.

        Raises:
            Invalid: no OID, or no address.
            Conflict: the repository is a member's.
        """
        members = self._members
        for address in (repository_url, dicomweb):
            if address and not address.startswith(self._schemes):
                raise Invalid(
                    "That is no address of a source.", todo="Give an https:// address.", where=address
                )
        known = await members.foreign_member(repository_unique_id, by.principal.subject)
        if known.status != "foreign":
            raise Conflict(
                f"This repository is {known.code}'s, a member's.", todo="A member says its addresses itself."
            )
        at = known.endpoints
        endpoints = replace(
            at,
            xds_repository=repository_url or at.xds_repository,
            dicomweb=dicomweb.rstrip("/") or at.dicomweb,
        )
        async with self._acts.act(by, "describe-source", known.code, repository=repository_unique_id):
            await members.foreign_rows.describe(known.id, name=name or known.name, endpoints=endpoints)
        await members.refresh()
        return members.by_repository(repository_unique_id) or known
