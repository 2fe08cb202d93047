"""What a node says of the care of its archive: to the audit, to health and to metrics."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from crosslight.runtime.audit import About, AuditLog
from crosslight.runtime.caller import background
from crosslight.runtime.health import Gauge, Total
from crosslight.runtime.log import get_logger
from crosslight.runtime.seams import Seams
from crosslight.runtime.terminal import counted
from crosslight.standards.access import Decision, Principal
from crosslight.standards.problem import Conflict, NotFound
from node.archive.archive import Archive
from node.archive.config import ArchiveConfig
from node.archive.model import Fault
from node.archive.mover import FOLDERS
from node.archive.retention import DueStudy

log = get_logger("node")

NODE: Final = Principal(
    subject="node", name="node", roles=frozenset({"operator"}), purpose="HOPERAT", evidence="local"
)
BY_ITSELF: Final = Decision(True, "the node by itself")
NEVER: Final = datetime.min.replace(tzinfo=UTC)
A_DAY: Final = timedelta(hours=23)  # it is looked whether it is time every six hours


class ArchiveCare:
    """Audits what the care of an archive finds, and sums it up.

    Args:
        archive: Whose care it is.
        audit: Where what is found, and what is whole again, is committed.
        seams: Time and random names.
        config: What the rules are, and whether the node applies them by itself.
    """

    def __init__(self, archive: Archive, audit: AuditLog, seams: Seams, config: ArchiveConfig) -> None:
        self._archive, self._audit, self._config = archive, audit, config
        self._ids, self._clock = seams.ids, seams.clock
        self._applied = NEVER
        self.deleted = 0  # studies, by retention, since the start
        archive.care.told = self.told

    async def told(self, found: list[Fault], healed: list[Fault]) -> None:
        """Objects were set apart, or are whole again: an act each."""
        for fault, state in (*((f, f.kind) for f in found), *((f, "whole again") for f in healed)):
            about = About(
                patients=await self._archive.patients_of(fault.study_uid),
                studies=(fault.study_uid,),
                query={"instance": fault.sop_uid, "object": state},
            )
            caller = background(NODE, self._ids)
            async with self._audit.act(caller, "admin", "verify", about, decision=BY_ITSELF) as act:
                act.done("ok" if state == "whole again" else "failed", objects=1)

    async def apply_retention(self) -> None:
        """Once a day, where the configuration says so: put what is due into the bin, up to a bound."""
        config, now = self._config, self._clock.now()
        if not (config.retention_daily and config.retention) or now - self._applied < A_DAY:
            return
        self._applied, gone = now, 0
        async for due in self._archive.retention.due():
            if gone >= config.retention_most:
                log.warning("retention stopped for today", count=gone, reason="archive.retention_most")
                break
            gone += await self._let_go(due)
        self.deleted += gone
        if gone:
            log.info("retention applied", count=gone)

    async def _let_go(self, due: DueStudy) -> bool:
        study_uid = due.study.study_uid
        about = About(
            patients=await self._archive.patients_of(study_uid),
            studies=(study_uid,),
            query={"reason": due.reason, "rule": due.rule.name},
        )
        try:
            async with self._audit.act(
                background(NODE, self._ids), "admin", "delete", about, decision=BY_ITSELF
            ) as act:
                act.done(instances=await self._archive.retention.delete(due))
        except (Conflict, NotFound):  # held, or changed, since it was looked at
            return False
        return True

    async def health(self) -> dict[str, str]:
        """``ok``, or what somebody should look at."""
        state = await self._archive.care.state()
        if state.standing:
            alarm = f"{counted(state.standing, 'object is', 'objects are')} damaged or missing"
            return {"archive_care": alarm}
        archive = self._archive
        trouble = archive.care.trouble or archive.mover.trouble or archive.carrier.trouble
        return {"archive_care": trouble or "ok"}

    async def gauges(self) -> list[Gauge]:
        """Metrics."""
        care, state = self._archive.care, await self._archive.care.state()
        holds, moving = len(await self._archive.holds.all()), await self._archive.mover.state()
        share = moving.folders / FOLDERS if moving is not None else 1.0
        carried, fetcher = await self._archive.carrier.state(), self._archive.fetcher
        return [
            Gauge("crosslight_node_move_share", "Part of a move to another disk that is done.", share),
            Gauge(
                "crosslight_node_carry_waiting", "Objects that wait for the object store.", carried.waiting
            ),
            Gauge("crosslight_node_carry_waiting_bytes", "Bytes of them.", carried.waiting_bytes),
            Gauge("crosslight_node_carried_objects", "Objects in the object store.", carried.objects),
            Gauge("crosslight_node_carried_bytes", "Bytes of them.", carried.bytes),
            Gauge("crosslight_node_carried_here_bytes", "Bytes of them on the disk too.", carried.here_bytes),
            Total("crosslight_node_fetched_objects", "Objects fetched from there.", fetcher.objects),
            Total("crosslight_node_fetched_bytes", "Bytes fetched from there.", fetcher.bytes),
            Gauge("crosslight_node_holds", "Legal holds that stand.", holds),
            Total("crosslight_node_retention_deleted", "Studies deleted by retention rules.", self.deleted),
            Gauge("crosslight_node_damaged", "Objects that are damaged or missing now.", state.standing),
            Total("crosslight_node_verified_objects", "Objects read again and compared.", care.objects),
            Total("crosslight_node_verified_bytes", "Bytes read again and compared.", care.bytes),
            Gauge("crosslight_node_verified_share", "Part of the archive read, of this time.", state.share),
            Gauge(
                "crosslight_node_verified_whole_timestamp_seconds",
                "When all objects had been read last, in Unix time; 0 = never.",
                state.whole_unix,
            ),
        ]
