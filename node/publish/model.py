"""Publication as values (D15): what should be at a destination, what is there, and what became of an act."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from crosslight.standards.census import Census
from crosslight.standards.ids import Identifier, Version
from crosslight.standards.study import ManifestFacts, StudyRecord
from crosslight.standards.xds.model.publication import Source, Status

WantKind = Literal["publish", "deprecate", "withdraw"]
ActKind = Literal["fresh", "replace", "approve", "deprecate", "withdraw"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PublisherIdentity:
    """Who publishes: the member as its entries name it, and the secret of its derived ids (D9)."""

    source: Source
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Want:
    """What a study should be at a destination: an intent. ``digest`` and ``patient`` belong to a publish."""

    kind: WantKind
    version: Version
    digest: str = ""
    patient: Identifier = Identifier("")


@dataclass(frozen=True, slots=True, kw_only=True)
class Acked:
    """What a destination has acknowledged of a study.

    The current publication, and in ``chain`` every version since the fresh one. ``digest`` is the record's,
    '' where it is not known (learnt from the other side); ``sha1`` the manifest's.
    """

    version: Version
    digest: str
    sha1: str
    status: Status
    patient: Identifier
    chain: tuple[Version, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One message. ``version`` is its own; ``replaces`` the publication that a replacement points at."""

    kind: ActKind
    version: Version
    replaces: Version | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """One published version, fixed when it was made (D14).

    ``record`` is None once nothing can need it any more.
    """

    version: Version
    study_uid: str
    manifest: ManifestFacts
    submission_time: str
    digest: str
    patient: Identifier
    record: StudyRecord | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """An act to deliver. ``unsettled``: it may have been sent before, and its fate comes first.

    ``revision`` is what a fresh or replacing act publishes.
    """

    study_uid: str
    act: Delivery
    acked: Acked | None
    unsettled: bool
    attempts: int
    revision: Revision | None = None


# --- what became of a job -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Done:
    """Acknowledged, or found to have been applied.

    ``acked`` is the truth from now on (None: nothing is there).
    """

    acked: Acked | None


@dataclass(frozen=True, slots=True)
class Learnt:
    """Not applied; what is there was asked for and is known now, and the next act is built from it.

    ``refused``: the destination said no to the act; that counts towards parking, a lost message does not.
    """

    acked: Acked | None
    why: str = ""
    refused: bool = False


@dataclass(frozen=True, slots=True)
class Anew:
    """The version's own identifiers are burnt at this destination: a new revision is needed."""

    acked: Acked | None
    why: str


@dataclass(frozen=True, slots=True)
class DeliveryRefused:
    """Refused for good: parked and shown, until the study changes or an operator asks again."""

    code: str
    why: str


@dataclass(frozen=True, slots=True)
class Later:
    """Not now. ``sent``: the destination may have got it all the same. ``patience``: never park for this."""

    why: str
    sent: bool = False
    patience: bool = False


@dataclass(frozen=True, slots=True)
class Disagreement:
    """The destination knows more than we remember: compare before anything else.

    ``whole``: it is not about this study alone (another epoch).
    """

    why: str
    whole: bool = False


Result = Done | Learnt | Anew | DeliveryRefused | Later | Disagreement


@dataclass(frozen=True, slots=True, kw_only=True)
class Parked:
    """An intent that needs an operator."""

    study_uid: str
    code: str
    why: str
    since_unix: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishStatus:
    """For heartbeats and for ``status`` (membership.proto, Heartbeat)."""

    epoch: int
    acked_n: int
    waiting: int  # studies marked or in the outbox, not yet acknowledged
    parked: int
    filling: bool  # first fill or a reconciliation is under way
    indexed_from: str  # YYYYMMDD of the oldest study published, '' = none
    census: Census
    held_up: str = ""  # why nothing is sent now, '' = nothing holds it up
