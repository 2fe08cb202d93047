"""Tells peers of studies that settled here, by N-CREATE (PS3.4 R), until they take it.

What is told of a study is all of it that lies here, again whenever that is something else than before; and,
once, what the peer was told of and cannot be had any more: deleted, rejected or purged. A word that may have
been taken, and whose answer was lost, is said again under the same SOP Instance UID.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Final, Protocol

from crosslight.runtime.audit import About, AuditLog
from crosslight.runtime.caller import background
from crosslight.runtime.credentials import device
from crosslight.runtime.health import Gauge
from crosslight.runtime.log import get_logger
from crosslight.runtime.seams import Seams
from crosslight.standards.access import Decision
from crosslight.standards.dicom.query.availability import NOTIFICATION, NotifiedInstance, notification
from crosslight.standards.dicom.query.identifier import IDENTIFIER_SYNTAXES, write_identifier
from crosslight.standards.problem import CrosslightError, Unavailable
from node.announce.store import AnnounceStore, DueWord, TakenWord
from node.dimse.command import AFFECTED_CLASS, AFFECTED_INSTANCE, FIELD, N_CREATE_RQ, SUCCESS, Values
from node.dimse.outgoing import CalledSystem, Channel, Proposal
from node.holdings import Holdings

log = get_logger("announce")

LOOK_EVERY_S: Final = 1.0
MOST_INSTANCES: Final = 2_000  # of one notification: some 600 kB
_GROWING: Final = 10  # a study that goes on growing is told of after so many times of quiet
_AT_ONCE: Final = 50  # studies on one association
_FIRST_S, _LONGEST_S = 5.0, 600.0  # before a retry; doubled each time
_DUPLICATE: Final = 0x0111  # PS3.7 Annex C: it has this very notification


class OpensChannel(Protocol):
    """Opens an association (:func:`node.dimse.outgoing.associate`)."""

    def __call__(
        self, peer: CalledSystem, proposals: Sequence[Proposal], /
    ) -> AbstractContextManager[Channel]:
        """As that says.

        Raises:
            Unavailable: it cannot be had.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """What is said of one study: notifications, each with its SOP Instance UID, and what lies here then."""

    study_uid: str
    parts: tuple[tuple[str, tuple[NotifiedInstance, ...]], ...]
    here: TakenWord


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnouncedAs:
    """As whom it is said, and when.

    Attributes:
        organisation: This node's code.
        ae_title: Where the objects can be had: our own.
        quiet_s: After so long without a change.
    """

    organisation: str
    ae_title: str
    quiet_s: float


class Announcer:
    """Tells each peer, until cancelled.

    Args:
        store: What waits.
        holdings: What lies here.
        audit: Where each word is written down before it is said.
        seams: Threads, time, ids.
        announced_as: As whom.
        peers: Who is told.
        opening: Opens an association; blocking.
    """

    def __init__(
        self,
        store: AnnounceStore,
        holdings: Holdings,
        audit: AuditLog,
        seams: Seams,
        announced_as: AnnouncedAs,
        peers: Sequence[CalledSystem],
        opening: OpensChannel,
    ) -> None:
        self._store, self._holdings, self._audit, self._seams = store, holdings, audit, seams
        self._as, self._peers, self._opening = announced_as, peers, opening
        #: By peer: failures in a row, and when it may be called again on the clock that never steps.
        self._away: dict[str, tuple[int, float]] = {}

    async def open(self) -> None:
        """Make the tables ready."""
        await self._store.open([peer.ae_title for peer in self._peers])

    async def run(self) -> None:
        """Tell, for ever; what fails is tried again."""
        while True:
            for peer in self._peers:
                try:
                    await self._tell(peer)
                except CrosslightError as error:
                    self._fail(peer, error)
                except Exception:
                    log.exception("announce")
                    self._fail(peer, None)
            await self._seams.clock.sleep(LOOK_EVERY_S)

    def _fail(self, peer: CalledSystem, error: CrosslightError | None) -> None:
        failures, _ = self._away.get(peer.ae_title, (0, 0.0))
        self._away[peer.ae_title] = (failures + 1, self._seams.clock.monotonic_s() + _pause_s(failures))
        if error is not None:
            log.warning("a peer was not told", peer=peer.ae_title, reason=f"{error.what} {error.why}".strip())

    async def _tell(self, peer: CalledSystem) -> None:
        title, quiet_s, clock = peer.ae_title, self._as.quiet_s, self._seams.clock
        await self._store.follow(title)
        if self._away.get(title, (0, 0.0))[1] > clock.monotonic_s():
            return
        now_unix = clock.now().timestamp()
        due = await self._store.due(title, now_unix, quiet_s, quiet_s * _GROWING, _AT_ONCE)
        words: list[tuple[DueWord, Word]] = []
        for one in due:
            told = await self._store.told(title, one.study_uid)
            word = await self._word(peer, one, told)
            if not word.parts or word.here.digest == told.digest:
                await self._store.done(title, one, word.here)
            else:
                words.append((one, word))
        if not words:
            return
        for _, word in words:
            await self._note(peer, word)
        taken = await self._seams.workers.run(self._say, peer, [word for _, word in words])
        self._away.pop(title, None)
        for (one, word), status in zip(words, taken, strict=True):
            if status == SUCCESS:
                await self._store.done(title, one, word.here)
                continue
            log.warning("word of a study was not taken", peer=title, study_uid=one.study_uid, status=status)
            await self._store.put_off(title, one, clock.now().timestamp() + _pause_s(one.tries))

    async def _word(self, peer: CalledSystem, due: DueWord, told: TakenWord) -> Word:
        """What lies here of it, now, and what does no more; not what another archive has."""
        refs = [stored.ref for stored in await self._holdings.objects(due.study_uid) if stored.ref.sha256]
        said = hashlib.blake2b(digest_size=16)
        for ref in sorted(refs, key=lambda one: one.sop_uid):
            said.update(f"{ref.sop_uid} {ref.sop_class_uid} {ref.series_uid}\n".encode())
        here = tuple(
            NotifiedInstance(series_uid=r.series_uid, sop_class_uid=r.sop_class_uid, sop_uid=r.sop_uid)
            for r in refs
        )
        uids = {one.sop_uid for one in here}
        gone = (replace(one, online=False) for one in told.instances if one.sop_uid not in uids)
        saying = (*here, *gone)
        parts = [saying[start : start + MOST_INSTANCES] for start in range(0, len(saying), MOST_INSTANCES)]
        about = f"{peer.ae_title} {due.study_uid} {due.change}"
        return Word(
            study_uid=due.study_uid,
            parts=tuple((_uid(about, number), part) for number, part in enumerate(parts)),
            here=TakenWord(digest=said.digest(), instances=here),
        )

    async def _note(self, peer: CalledSystem, word: Word) -> None:
        """In the audit, before it is said."""
        caller = background(device(peer.ae_title, self._as.organisation), self._seams.ids, peer=peer.host)
        patients = await self._holdings.patients_of(word.study_uid)
        about = About(patients=patients, studies=(word.study_uid,))
        decision = Decision(True, f"destination {peer.ae_title} is notified")
        async with self._audit.act(caller, "dimse", "announce", about, decision=decision) as act:
            act.done(instances=sum(len(part) for _, part in word.parts))

    def _say(self, peer: CalledSystem, words: Sequence[Word]) -> list[int]:
        """The status of each, on one association; in a thread.

        Raises:
            Unavailable: the peer cannot be reached, or takes no notifications.
        """
        with self._opening(peer, [Proposal(NOTIFICATION, IDENTIFIER_SYNTAXES)]) as channel:
            context = next(iter(channel.contexts), None)
            if context is None:
                raise Unavailable(f"{peer.ae_title} takes no notifications.")
            statuses = []
            for word in words:
                status = SUCCESS
                for uid, refs in word.parts:
                    said = notification(word.study_uid, refs, self._as.ae_title)
                    values: Values = {
                        FIELD: N_CREATE_RQ,
                        AFFECTED_CLASS: NOTIFICATION,
                        AFFECTED_INSTANCE: uid,
                    }
                    data = write_identifier(said, context.transfer_syntax_uid)
                    answered = channel.ask(context.id, values, [data]).status
                    if answered not in (SUCCESS, _DUPLICATE):
                        status = answered
                statuses.append(status)
            return statuses

    async def gauges(self) -> list[Gauge]:
        """Metrics."""
        waiting: dict[tuple[str, ...], float] = {
            (peer,): float(n) for peer, n in (await self._store.waiting()).items()
        }
        return [
            Gauge(
                "crosslight_node_announce_waiting",
                "Studies that a peer is still to be told of.",
                waiting,
                ("peer",),
            )
        ]


def _pause_s(failures: int) -> float:
    return min(_LONGEST_S, _FIRST_S * 2.0 ** min(failures, 10))


def _uid(about: str, number: int) -> str:
    """The SOP Instance UID of a notification: the same one for the same word."""
    digest = hashlib.blake2b(f"{about} {number}".encode(), digest_size=16).digest()
    return f"2.25.{int.from_bytes(digest, 'big')}"
