"""What a running registry says of itself: whether it is ready, and its metrics.

Of members only, never of patients.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from crosslight import __version__
from crosslight.runtime.health import Gauge, Total
from crosslight.runtime.log import get_logger
from registry.index.model import Change
from registry.parts import Parts

log = get_logger("registry")

READY_S = 3.0  # how long a database may take to say that it is there


class Health:
    """Asked by ``/health/ready`` and ``/metrics``."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._changes = 0
        parts.waists.changed.add(self._changed)

    def _changed(self, changes: Sequence[Change]) -> None:
        self._changes += len(changes)

    async def ready(self) -> tuple[bool, dict[str, Any]]:
        """Whether questions can be answered and submissions taken now: both need their databases."""
        waists = self._parts.waists
        coverage, answers = waists.ask.coverage(), await self._databases_answer()
        return answers, {
            "version": __version__,
            "children": str(self._parts.ground.seams.workers.confinement or "not started yet"),
            "databases": answers,
            "incarnation": waists.index.incarnation,
            "members": {m.code: list(m.states) for m in coverage.members},
            "waiting": sum(m.waiting for m in coverage.members),
            "parked": sum(m.parked for m in coverage.members),
            **self._parts.ground.refusals.health(),
            "audit": "ok" if self._parts.audit_protected else "not protected: this service could change it",
            **(outside.health() if (outside := self._parts.ground.people_certificate) is not None else {}),
            **waists.ask.permits.health(),
        }

    async def _databases_answer(self) -> bool:
        try:
            async with asyncio.timeout(READY_S):
                for db in (self._parts.ground.db, self._parts.audit_db):
                    await db.read("ready", lambda tx: tx.row("SELECT 1"))
        except Exception as error:  # noqa: BLE001 - whatever it is, nothing can be asked now
            log.error("a database does not answer", error=type(error).__name__)
            return False
        return True

    async def gauges(self) -> list[Gauge]:
        """Metrics."""
        identity = self._parts.waists.identity
        waiting = float(await identity.waiting_count())
        return [
            *self._of_members(),
            *self._of_ways(),
            *self._parts.ground.refusals.gauges(),
            *(outside.gauges() if (outside := self._parts.ground.people_certificate) is not None else ()),
            *self._parts.waists.ask.permits.gauges(),
            self._over_rate(),
            Gauge(
                "crosslight_registry_identity_waiting", "Disputes and doubts that wait for a person.", waiting
            ),
            Total(
                "crosslight_registry_numbers_claimed_by_two",
                "Members' records that claim a number held by another, since the start.",
                float(identity.alarms["number claimed by two"]),
            ),
            Total(
                "crosslight_registry_submission_alarms",
                "Submissions that an operator must look at, since the start.",
                {(kind,): float(n) for kind, n in self._parts.waists.acceptor.alarms.items()},
                ("kind",),
            ),
            Total(
                "crosslight_registry_member_alarms",
                "Signs that a member's key has a second holder, since the start.",
                {key: float(n) for key, n in self._parts.members.alarms.sounded.items()},
                ("member", "kind"),
            ),
            Total("crosslight_registry_changes", "Holdings changed since the start.", float(self._changes)),
        ]

    def _over_rate(self) -> Total:
        parts = self._parts
        permits, access = parts.waists.ask.permits, parts.access
        searches = permits.search_rates.refused + permits.system_rates.refused + permits.order_rates.refused
        each = {
            rates.name: rates.refused
            for rates in (
                parts.members.join_rates,
                access.signin_rates,
                access.logout_rates,
                access.exchange_rates,
            )
        }
        return Total(
            "crosslight_registry_over_rate",
            "Requests refused because one caller or address asked too often in a minute, since the start.",
            {(what,): float(n) for what, n in {**each, "searches": searches}.items()},
            ("what",),
        )

    def _of_ways(self) -> list[Gauge]:
        """By which road members' images come, and how often it broke."""
        retrieves, directory = self._parts.retrieves, self._parts.members
        tunnelled: dict[tuple[str, ...], float] = {
            (member.code,): float(retrieves.tunnels.road(member.id) == "tunnel")
            for member in directory.all()
            if retrieves.tunnels.has(member.id)
        }
        return [
            Gauge(
                "crosslight_member_tunnelled",
                "1 while a member with a tunnel is called through it.",
                tunnelled,
                ("member",),
            ),
            Total(
                "crosslight_member_streams_resumed",
                "Answers of a member that broke off and went on.",
                {(code,): float(n) for code, n in retrieves.gateway.unbroken.resumed.items()},
                ("member",),
            ),
        ]

    def _of_members(self) -> list[Gauge]:
        members, label = self._parts.waists.ask.coverage().members, ("member",)

        def each(value: str) -> dict[tuple[str, ...], float]:
            return {(m.code,): float(getattr(m, value)) for m in members}

        now = self._parts.ground.seams.clock.now()
        ages: dict[tuple[str, ...], float] = {
            (m.code,): (now - m.as_of).total_seconds() for m in members if m.as_of is not None
        }
        skew: dict[tuple[str, ...], float] = {(m.code,): m.skew_ms / 1000 for m in members}
        unread = self._parts.waists.acceptor.unread + self._parts.waists.patients.unread
        unreadable: dict[tuple[str, ...], float] = {(code,): float(n) for code, n in unread.items()}
        return [
            Gauge(
                "crosslight_registry_numbers_unreadable",
                "Studies and feeds with a national number that is none.",
                unreadable,
                label,
            ),
            Gauge(
                "crosslight_member_reachable", "1 while a member's node is linked.", each("reachable"), label
            ),
            Gauge("crosslight_member_suspended", "1 while a member is suspended.", each("suspended"), label),
            Gauge(
                "crosslight_member_waiting",
                "Studies that a member has yet to publish.",
                each("waiting"),
                label,
            ),
            Gauge("crosslight_member_parked", "Studies of a member refused for good.", each("parked"), label),
            Gauge(
                "crosslight_member_quarantined",
                "Objects in a member's quarantine.",
                each("quarantined"),
                label,
            ),
            Gauge(
                "crosslight_member_index_age_seconds",
                "Since when the index of a member is current.",
                ages,
                label,
            ),
            Gauge("crosslight_member_clock_skew_seconds", "A member's clock minus ours.", skew, label),
        ]
