"""Credentials that were refused: counted, logged and audited, however many there are.

Whoever has no credentials that hold is a stranger, and writes nothing durable of their own: what is refused
in a minute is audited together, an entry for each network and reason, and no more entries than the
configuration says. Each is counted for the metrics; a line of the log is written for each address and reason
once a minute, and again with the count at the minute's end. Many of them in one minute raise an alarm.

Every listener tells :meth:`Refusals.note`, from whichever thread. What signed-in callers may not do is no
business of this module: that is audited as an act, denied.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address, ip_network
from typing import Any, Protocol

from crosslight.runtime.audit import About, AuditEntry, AuditLog, Outcome
from crosslight.runtime.caller import Caller
from crosslight.runtime.clock import Clock, Ids, instant
from crosslight.runtime.config import setting
from crosslight.runtime.health import Gauge, Total
from crosslight.runtime.log import get_logger
from crosslight.standards.access import Decision, Face, Principal
from crosslight.standards.problem import CrosslightError, StorageError

log = get_logger("refusals")

MINUTE_S = 60.0
MAX_REASONS = 64  # that are told apart; ours are constant sentences, some thirty
MAX_REASON_CHARS = 120
MAX_LINES = 60  # of the log, in a minute
OTHERS = "others"  # networks, or reasons, beyond what is told apart
#: Whoever shows no credentials that hold.
STRANGER = Principal(subject="stranger", evidence="none")


class Noted(Protocol):
    """Told of each refused credential."""

    def __call__(self, face: Face, why: CrosslightError | str, peer: str, claimed: str = "") -> None:
        """By which face, why, from which address; who they say they are."""
        ...


def noted_nowhere(face: Face, why: CrosslightError | str, peer: str, claimed: str = "") -> None:
    """Where nobody wants to know."""


@dataclass(frozen=True, slots=True)
class RefusalsConfig:
    """[refusals]: callers whose credentials do not hold."""

    alarm_per_minute: int = setting(
        120, "Refused credentials in one minute from which on health, metrics and log say so.", low=1
    )
    alarm_minutes: int = setting(15, "How long that is said after the last such minute.", low=1, high=1440)
    audit_per_minute: int = setting(
        30, "Entries of the audit in one minute: one for each network and reason, the last for all others.",
        low=1, high=1000,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, order=True)
class _Kind:
    """What is audited as one."""

    face: Face
    network: str
    reason: str


def network_of(peer: str) -> str:
    """The network of an address, as far as one owner may be guessed: /24 of IPv4, /64 of IPv6; '' of none."""
    try:
        address = ip_address(peer.partition("%")[0])
    except ValueError:
        return ""
    return str(ip_network((address, 24 if address.version == 4 else 64), strict=False))


class Refusals:
    """The refused credentials of one service.

    Args:
        audit: Where they are audited, once a minute.
        clock, ids: Time; correlation ids of the entries.
        config: Bounds, and when it is an alarm.
    """

    def __init__(self, audit: AuditLog, clock: Clock, ids: Ids, config: RefusalsConfig) -> None:
        self._audit, self._clock, self._ids, self._config = audit, clock, ids, config
        self._lock = threading.Lock()
        self._minute: Counter[_Kind] = Counter()
        self._lines: set[tuple[str, str, str]] = set()
        self._since: datetime = clock.now()
        self._alarm_ends: datetime | None = None
        self._reasons: set[str] = set()
        #: By face and reason, since the start.
        self.total: Counter[tuple[str, str]] = Counter()

    def note(self, face: Face, why: CrosslightError | str, peer: str, claimed: str = "") -> None:
        """A credential was refused. From any thread; never raises, waits for nothing.

        Args:
            face: Where.
            why: The refusal, whose first sentence is a constant of ours.
            peer: Address of the other end.
            claimed: Who they say they are, for the log: nobody's word.
        """
        reason, detail = (why.what, why.why) if isinstance(why, CrosslightError) else (why, "")
        with self._lock:
            reason = self._known(reason[:MAX_REASON_CHARS])
            self.total[face, reason] += 1
            self._minute[self._kind(face, network_of(peer), reason)] += 1
            first = (peer, reason, claimed) not in self._lines and len(self._lines) < MAX_LINES
            if first:
                self._lines.add((peer, reason, claimed))
            alarm = self._alarmed()
        if first:
            log.warning(
                "credentials refused", face=face, reason=reason, detail=detail, peer=peer, name=claimed[:64]
            )
        if alarm:
            log.error("ALARM: many credentials are refused", count=self._config.alarm_per_minute, peer=peer)

    def _known(self, reason: str) -> str:
        if reason not in self._reasons and len(self._reasons) >= MAX_REASONS:
            return OTHERS
        self._reasons.add(reason)
        return reason

    def _kind(self, face: Face, network: str, reason: str) -> _Kind:
        kind = _Kind(face, network, reason)
        if kind in self._minute or len(self._minute) < self._config.audit_per_minute - 1:
            return kind
        return next((known for known in self._minute if known.network == OTHERS), _Kind(face, OTHERS, OTHERS))

    def _alarmed(self) -> bool:
        """Whether an alarm begins with this one."""
        if self._minute.total() < self._config.alarm_per_minute:
            return False
        now = self._clock.now()
        begins = self._alarm_ends is None or self._alarm_ends <= now
        self._alarm_ends = now + timedelta(minutes=self._config.alarm_minutes)
        return begins

    @property
    def alarm(self) -> bool:
        """Whether there were too many in a minute of late."""
        return self._alarm_ends is not None and self._clock.now() < self._alarm_ends

    async def run(self) -> None:
        """Audit each minute's; until cancelled."""
        while True:
            await self._clock.sleep(MINUTE_S)
            await self.settle()

    async def settle(self) -> None:
        """Audit what was refused since the last time, together.

        What cannot be audited now is tried again with the next.
        """
        with self._lock:
            minute, self._minute = self._minute, Counter()
            since, self._since = self._since, self._clock.now()
            self._lines.clear()
        for kind, count in sorted(minute.items()):
            try:
                await self._audit.whole(self._entry(kind, count, since), _times(count))
            except StorageError as error:
                log.error("refused credentials could not be audited", error=type(error).__name__, count=count)
                with self._lock:
                    self._minute[self._kind(kind.face, kind.network, kind.reason)] += count
                continue
            if count > 1:
                log.warning(
                    "credentials refused", face=kind.face, reason=kind.reason, peer=kind.network, count=count
                )

    def _entry(self, kind: _Kind, count: int, since: datetime) -> AuditEntry:
        return AuditEntry(
            caller=Caller(principal=STRANGER, correlation=self._ids.uuid4().hex, peer=kind.network),
            face=kind.face,
            action="authenticate",
            decision=Decision(False, kind.reason),
            about=About(query={"times": count, "since": instant(since)}),
        )

    # --- what the service says of it ------------------------------------------------------------------------

    def health(self) -> dict[str, Any]:
        """For ``/health/ready``: nothing of who it was."""
        text = "ok"
        if self.alarm:
            text = f"ALARM: {self._config.alarm_per_minute} or more in a minute of late; see the audit"
        return {"refused_credentials": text}

    def gauges(self) -> list[Gauge]:
        """For ``/metrics``."""
        with self._lock:
            totals: dict[tuple[str, ...], float] = {key: float(count) for key, count in self.total.items()}
        return [
            Total(
                "crosslight_refused_credentials",
                "Refused credentials, by face and reason, since the start.",
                totals,
                ("face", "reason"),
            ),
            Gauge(
                "crosslight_refused_credentials_alarm",
                "1 while more were refused in a minute than the configuration allows.",
                float(self.alarm),
            ),
        ]


def _times(count: int) -> Outcome:
    return Outcome("denied", (("times", count),))
