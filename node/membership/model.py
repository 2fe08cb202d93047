"""What the node's rooms tell the link and hear from it, as values."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from crosslight.standards.census import Census
from crosslight.standards.concern import Concern
from crosslight.standards.ids import Identifier
from crosslight.standards.study import Patient

if TYPE_CHECKING:
    import grpc.aio


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
class EpochGrant:
    """The registry's Welcome: publish under ``epoch``; with ``reconcile``, compare and re-send first."""

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
    reach: str = ""  # how the registry reaches this node's faces: direct or tunnel; '' = it has not said


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """The gRPC feed to a registry of ours.

    Attributes:
        channel: To be asked anew for each call: a renewal of the certificate replaces it.
        metadata: What every call carries.
        hello_again: Greet the registry anew: what is remembered has changed.
    """

    channel: Callable[[], grpc.aio.Channel]
    metadata: tuple[tuple[str, str], ...]
    hello_again: Callable[[], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryRoads:
    """How the registry is reached with what is published (D18).

    Attributes:
        url: Of its Registry actor (ITI-42 and its like).
        mllp: host:port of its patient identity feed (ITI-8); ``mllp_name`` is what an error calls it.
        tls: For both; None for plain connections.
        patient: Under which id it knows a patient; None where there is none, and the study waits.
        proxy: The HTTP proxy on the way to a host:port; '' = none.
        feed: Where it is ours: it takes studies by gRPC too, says what it holds, and grants epochs (D10).
    """

    url: Callable[[], str]
    mllp: str
    mllp_name: str
    tls: Callable[[], ssl.SSLContext | None]
    patient: Callable[[Patient], Identifier | None]
    proxy: Callable[[str], str] = lambda address: ""
    feed: Feed | None = None


def own_authority(patient: Patient) -> Identifier:
    """At our registry every member's own authority is one of the affinity domain's (D4)."""
    return patient.local


def in_authority(authority: str) -> Callable[[Patient], Identifier | None]:
    """Finds a patient's id in the one authority that a foreign registry knows.

    It finds None where there is none; the study then waits.
    """

    def find(patient: Patient) -> Identifier | None:
        numbers = (patient.local, *patient.others)
        return next((number for number in numbers if number.authority == authority), None)

    return find
