"""What a caller may ask beyond the table of roles (ADR 0037).

*Exports*: a question that names nobody, or very many, is an action of its own. Those who may are counted by
    the hour, and told to wait beyond their share; those who may not are told what to add. Both are audited by
    whoever asks, counted for the metrics, and many of them are an alarm.
*Openings*: a study of a record whose identity is disputed is opened by its own name only by whom it was shown
    to under the number of its own holder, for some minutes.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any, Final

from crosslight.runtime.caller import Caller
from crosslight.runtime.clock import Clock
from crosslight.runtime.db import Tx
from crosslight.runtime.health import Gauge, Total
from crosslight.runtime.log import get_logger
from crosslight.runtime.rates import PerMinute
from crosslight.standards.access import Decision, Face, Principal
from crosslight.standards.asking import export_refused
from crosslight.standards.problem import CrosslightError, Forbidden, OverRate
from registry.ask.config import AskConfig
from registry.ask.permit_store import PermitStore
from registry.identity.model import PersonKey

log = get_logger("ask")

HOUR_S: Final = 3600


class Permits:
    """Exports and openings of one registry.

    Args:
        store: Their tables.
        config: How many, and for how long.
        clock: Time.
    """

    def __init__(self, store: PermitStore, config: AskConfig, clock: Clock) -> None:
        self.store, self.config, self._clock = store, config, clock
        self._alarm_ends: datetime | None = None
        self.search_rates = PerMinute("searches", config.searches_per_minute, clock)
        self.system_rates = PerMinute("searches", config.searches_per_minute_of_system, clock)
        self.order_rates = PerMinute("lists of patients with an order", config.order_lists_per_minute, clock)
        self._totals = {"answered": 0, "refused": 0, "limited": 0}

    async def open(self) -> None:
        """Create or upgrade the tables."""
        await self.store.open()

    # --- searches -------------------------------------------------------------------------------------------

    def search(self, caller: Caller) -> None:
        """One search more of a caller.

        Raises:
            OverRate: too many in a minute.
        """
        principal = caller.principal
        if principal.evidence != "open":  # everybody has that name: nobody is counted by it
            by_certificate = principal.evidence == "certificate"
            (self.system_rates if by_certificate else self.search_rates).take(principal.subject)

    def list_for_order(self, caller: Caller, decision: Decision) -> tuple[Decision, CrosslightError]:
        """Whether a member's node may have one list more because of an order, and what is said if not.

        ADR 0060. ``decision`` is what the table says.

        Raises:
            OverRate: too many in a minute.
        """
        self.order_rates.take(caller.principal.subject)
        refusal = Forbidden(
            "Lists for orders are not given to this member.",
            todo="The region's operator names its code in ask.order_lists.",
        )
        if decision.permit and caller.principal.organisation not in self.config.order_lists:
            decision = Decision(False, "the operator gives this member no lists for orders")
        return decision, refusal

    # --- exports --------------------------------------------------------------------------------------------

    async def export(
        self, caller: Caller, face: Face, decision: Decision
    ) -> tuple[Decision, CrosslightError]:
        """Whether this export may be answered, and what is said if not; it counts either way.

        Args:
            caller: Who asks.
            face: Where.
            decision: What the table says.
        """
        refusal: CrosslightError = export_refused(face)
        if caller.principal.evidence == "open":  # everybody has that name: nobody is counted by it
            return decision, refusal
        hour = int(self._clock.now().timestamp()) // HOUR_S
        answered, refused = await self.store.count_export(
            caller.principal.subject, hour, refused=not decision.permit
        )
        limit, outcome = self.config.exports_per_hour, "answered"
        if not decision.permit:
            outcome = "refused"
        elif answered > limit:
            outcome = "limited"
            decision = Decision(False, f"more than {limit} exports in an hour")
            refusal = OverRate(
                "You have asked for as much as you may in this hour.",
                why=f"Limit here: {limit} questions that name nobody.",
                todo="Go on with the next hour, or ask the region's operator.",
            )
        self._totals[outcome] += 1
        say = log.info if outcome == "answered" else log.warning
        say("export", outcome=outcome, face=face, correlation=caller.correlation)
        if outcome == "limited" or refused >= self.config.export_refusals:
            self._alarm(caller, outcome)
        return decision, refusal

    def _alarm(self, caller: Caller, outcome: str) -> None:
        if not self._alarmed():
            log.error("alarm: exports", outcome=outcome, correlation=caller.correlation)
        self._alarm_ends = self._clock.now() + timedelta(minutes=self.config.export_alarm_minutes)

    def _alarmed(self) -> bool:
        return self._alarm_ends is not None and self._clock.now() < self._alarm_ends

    def gauges(self) -> list[Gauge]:
        """Metrics."""
        totals: dict[tuple[str, ...], float] = {(name,): float(n) for name, n in self._totals.items()}
        return [
            Total(
                "crosslight_registry_exports",
                "Questions that name nobody, since the start, by what became of them.",
                totals,
                ("outcome",),
            ),
            Gauge(
                "crosslight_registry_export_alarm",
                "1 for a while after a caller exported, or tried to, more than they may.",
                float(self._alarmed()),
            ),
        ]

    def health(self) -> dict[str, Any]:
        """For ``/health/ready``."""
        return {"exports": {**self._totals, "alarm": self._alarmed()}}

    # --- openings -------------------------------------------------------------------------------------------

    async def keep(self, principal: Principal, persons: Collection[PersonKey]) -> None:
        """This caller is shown these persons of disputed identity, under the number of their own holder."""
        now = self._clock.now()
        ends = now + timedelta(minutes=self.config.disputed_minutes)
        await self.store.keep_openings(principal.subject, persons, now, ends)

    def opened_tx(self, tx: Tx, principal: Principal) -> frozenset[PersonKey]:
        """Persons of disputed identity whose studies this caller may open by their own names now."""
        return self.store.openings_tx(tx, principal.subject, self._clock.now())
