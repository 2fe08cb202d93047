"""What somebody should look at: signs that a member's key has a second holder (ADR 0035).

An alarm is logged each time; it is audited and kept once a minute for each member and kind, so that two
holders who take the link from each other fill nothing. `members` shows it until somebody says that they have
seen it.
"""

from __future__ import annotations

from collections import Counter

from crosslight.runtime.clock import Clock
from crosslight.runtime.log import get_logger
from crosslight.standards.ids import MemberId
from crosslight.standards.problem import CrosslightError
from registry.members.audited_acts import MemberActs
from registry.members.model import Member
from registry.members.use_store import Alarm, AlarmKind, UseStore

log = get_logger("members")

KEPT_EVERY_S = 60.0
WORDS: dict[AlarmKind, str] = {
    "two-holders": "two holders of its key are linked at once",
    "superseded": "a certificate that was superseded asks to be renewed",
    "renewals": "too many certificates are asked for",
}


class Alarms:
    """Sounds alarms, and keeps them."""

    def __init__(self, store: UseStore, clock: Clock, acts: MemberActs) -> None:
        self._store, self._clock, self._acts = store, clock, acts
        self._kept_s: dict[tuple[MemberId, AlarmKind], float] = {}
        self._unkept: Counter[tuple[MemberId, AlarmKind]] = Counter()
        #: Since the start, by member's code and kind.
        self.sounded: Counter[tuple[str, str]] = Counter()

    async def sound(self, member: Member, kind: AlarmKind, detail: str) -> None:
        """Something is wrong with a member's key; ``detail`` says what was seen."""
        key, now_s = (member.id, kind), self._clock.monotonic_s()
        self.sounded[member.code, kind] += 1
        self._unkept[key] += 1
        log.error("alarm", code=member.code, kind=kind, reason=WORDS[kind], detail=detail)
        if now_s - self._kept_s.get(key, float("-inf")) < KEPT_EVERY_S:
            return
        self._kept_s[key], times = now_s, self._unkept.pop(key)
        try:
            async with self._acts.act(
                self._acts.registry(), "operate", member.code, alarm=kind, detail=detail
            ):
                await self._store.alarm(member.id, kind, detail, times)
        except CrosslightError as error:
            log.error("an alarm cannot be kept", code=member.code, reason=error.what)

    async def standing(self) -> dict[MemberId, list[Alarm]]:
        """Those that nobody has seen to."""
        by_member: dict[MemberId, list[Alarm]] = {}
        for alarm in await self._store.alarms():
            by_member.setdefault(alarm.member, []).append(alarm)
        return by_member

    async def seen(self, member: Member) -> int:
        """Somebody has seen to a member's alarms; how many there were."""
        return await self._store.alarms_seen(member.id)
