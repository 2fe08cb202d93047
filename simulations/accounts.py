"""The demo's people.

One clinician for each member, an operator, an information-governance lead, an identity clerk, a porter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from crosslight.runtime.clock import Ids
from simulations.topology import Topology


@dataclass(frozen=True, slots=True)
class Account:
    """Someone who can sign in at the demo's own provider."""

    user: str
    password: str
    role: str
    organisation: str
    name: str

    def as_values(self) -> dict[str, Any]:
        """For the registry's configuration."""
        return {
            "user": self.user,
            "password": self.password,
            "roles": [self.role],
            "organisation": self.organisation,
            "name": self.name,
        }

    def public(self) -> dict[str, str]:
        """For the endpoints file and the table."""
        return {
            "role": self.role,
            "user": self.user,
            "password": self.password,
            "organisation": self.organisation,
        }


def make_accounts(topology: Topology, ids: Ids) -> list[Account]:
    """Accounts with random passwords, new for each demo.

    The fourth member's clinician comes first: the story's.
    """
    codes = [topology.codes[3], *(c for i, c in enumerate(topology.codes) if i != 3)]

    def account(user: str, role: str, organisation: str, name: str) -> Account:
        return Account(user, ids.token_bytes(6).hex(), role, organisation, name)

    people = [account(f"clinician-{code.lower()}", "clinician", code, "Dr Demo") for code in codes]
    people.append(account("operator", "operator", codes[0], "Region's operator"))
    people.append(account("ig", "ig", codes[0], "Information governance"))
    people.append(account("identity", "identity", codes[0], "Identity clerk"))
    people.append(account("porter", "porter", codes[0], "Porter"))
    return people
