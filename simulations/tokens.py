"""Tokens that the demo's story and whoever reads its endpoints file ask with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from registry import commands as registry_commands
from registry.members.systems import NOTHING, asked_grants
from simulations.accounts import Account

TOKEN_HOURS = 12
#: A clinician of another trust than the first one's.
COLLEAGUE = "colleague"


async def issue_tokens(
    registry: Path, accounts: Sequence[Account], codes: Sequence[str]
) -> dict[str, dict[str, str]]:
    """For an app, two clinicians, and what stores at each trust; for twelve hours.

    Args:
        registry: The registry's folder.
        accounts: The demo's sign-ins; the first clinician is the story's, the last the colleague.
        codes: The members.

    Returns:
        Member's code ('' = the registry) -> role -> token.
    """
    clinicians = [account for account in accounts if account.role == "clinician"]
    users = {
        "integrator": ("demo-integrator", ""),
        "clinician": (clinicians[0].user, clinicians[0].organisation),
        COLLEAGUE: (clinicians[-1].user, clinicians[-1].organisation),
    }
    issued: dict[str, dict[str, str]] = {}
    for role, (user, organisation) in users.items():
        for audience in ("", *(codes if role != COLLEAGUE else ())):
            # what stores at a trust reads there; what asks the registry reads, and no more
            may = asked_grants(("find", "open"), stores_at=audience) if role == "integrator" else NOTHING
            issued.setdefault(audience, {})[role] = await registry_commands.issue_token(
                registry,
                role="clinician" if role == COLLEAGUE else role,
                user=user,
                organisation=organisation,
                hours=TOKEN_HOURS,
                member=audience,
                grants=may,
            )
    return issued
