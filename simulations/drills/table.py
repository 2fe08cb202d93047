"""The drills: a line here and a file with its play."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from simulations.drills import cut_off, poison, site_loss, slow_line, wrong_clock
from simulations.drills.scene import Scene


@dataclass(frozen=True, slots=True)
class Drill:
    """One drill.

    Attributes:
        name: As it is typed.
        title: As a heading.
        line: What it is, in one line.
        about: What it does and what for, as whoever reads the protocol wants it told.
        play: Does it.
    """

    name: str
    title: str
    line: str
    about: str
    play: Callable[[Scene], Awaitable[None]]


DRILLS = (
    Drill(
        "site-loss",
        "A trust is lost",
        "A node is killed in the moment it has acknowledged images; the others go on; it comes back.",
        site_loss.ABOUT,
        site_loss.play,
    ),
    Drill(
        "slow-link",
        "A trust's line is slow, then dead",
        "All of a trust's traffic goes over 1 Mbit/s, then nowhere; then the line is mended.",
        slow_line.ABOUT,
        slow_line.play,
    ),
    Drill(
        "poison",
        "Poisoned objects",
        "Hostile objects and bytes by C-STORE, STOW-RS and on the bare port, decoder bombs among them.",
        poison.ABOUT,
        poison.play,
    ),
    Drill(
        "clock",
        "A trust's clock is wrong",
        "A node runs twenty minutes fast, then slow, then right.",
        wrong_clock.ABOUT,
        wrong_clock.play,
    ),
    Drill(
        "cut-off",
        "A trust is suspended and readmitted",
        "The operator suspends a member: its certificate and connections must be dead within five seconds.",
        cut_off.ABOUT,
        cut_off.play,
    ),
)
