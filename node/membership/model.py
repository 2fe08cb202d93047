"""What the node's rooms tell the link and hear from it, as values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from crosslight.standards.census import Census
from crosslight.standards.concern import Concern


@dataclass(frozen=True, slots=True, kw_only=True)
class HelloFacts:
    """What the publisher remembers (D10). ``epoch`` 0: none granted yet."""

    epoch: int = 0
    acked_n: int = 0  # highest n of that epoch that was acknowledged
    made_n: int = 0  # highest n of that epoch that was given to a version
    incarnation: str = ""  # of the registry that acknowledged it
    state_id: str = ""  # random id of the node's database, new at restore


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStatus:
    """What a heartbeat says."""

    epoch: int = 0
    acked_n: int = 0
    waiting: int = 0
    parked: int = 0
    quarantined: int = 0
    filling: bool = False
    indexed_from: str = ""  # YYYYMMDD
    census: Census | None = None  # of what the node has published (D19)
    census_at: datetime | None = None  # when it was taken; said with it
    concern: Concern | None = None  # whom the studies concern that are not listed


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """The registry's Welcome: publish under ``epoch``, after comparing and re-sending where ``reconcile`` says so."""

    epoch: int
    reconcile: bool
    incarnation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkStatus:
    """The link as an operator sees it."""

    connected: bool = False
    since: datetime | None = None  # since when it is so
    suspended: str | None = None  # the reason, when the region has suspended this node
    refused: str = ""  # why the registry does not let it in (certificate ended, not known)
    skew_ms: int = 0  # this node's clock minus the registry's
    epoch: int = 0
    incarnation: str = ""
