"""What if: changes to a region's description, in a file of their own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from crosslight.runtime.config import load, setting
from crosslight.standards.problem import ConfigError
from simulations.topology import LinkPlan, MemberPlan, Topology


@dataclass(frozen=True, slots=True)
class LostPlan:
    """A line or a place that is lost for some hours of a working day."""

    name: str = setting(help="The line as A-B, a network, or registry.")
    hours: float = setting(8.0, "How long.", low=0)


@dataclass(frozen=True, slots=True)
class MovePlan:
    """A member that sets up its node anew."""

    member: str = setting(help="Its code.")
    studies: int = setting(0, "What it holds; 0: what it makes in eight years.", low=0)
    per_second: float = setting(25.0, "How many it publishes each second.", low=0.01)


@dataclass(frozen=True, slots=True)
class WhatIf:
    """Changes to a region."""

    use_factor: float = setting(1.0, "Everything that is made and asked, so many times.", low=0, high=1000)
    members: tuple[MemberPlan, ...] = setting([], "Members that join.")
    links: tuple[LinkPlan, ...] = setting(
        [], "Lines that are new, or take the place of those with the same ends."
    )
    lost: tuple[LostPlan, ...] = setting([], "Lines or places that are lost.")
    moves: tuple[MovePlan, ...] = setting([], "Members that move.")

    def applied(self, topology: Topology) -> Topology:
        """The region with these changes.

        Raises:
            ConfigError: for a move of no member.
        """
        unknown = [move.member for move in self.moves if move.member not in topology.codes]
        if unknown:
            raise ConfigError(f"There is no member {unknown[0]} to move.", where="moves")
        ends = {frozenset((link.a, link.b)) for link in self.links}
        kept = tuple(link for link in topology.links if frozenset((link.a, link.b)) not in ends)
        members = (*topology.members, *self.members)
        return replace(
            topology,
            members=tuple(
                replace(m, exams_per_year=round(m.exams_per_year * self.use_factor)) for m in members
            ),
            links=(*kept, *self.links),
        )


def read_what_if(path: Path) -> WhatIf:
    """Read the file.

    Raises:
        ConfigError: naming the key at fault.
    """
    return load(WhatIf, path)
