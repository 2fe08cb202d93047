"""Instances whose objects lie elsewhere: rows without a file, described by the archive that has them.

Their rows are those of any instance, with no digest and no size: search, records, publication and marks need
no more. ``road`` is ``source`` and ``peer`` the source's name. An object that comes in here takes the place
of its description; a description never takes the place of an object, nor of another source's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from crosslight.runtime.clock import Clock
from crosslight.runtime.db import EmbeddedDb, Tx
from crosslight.standards.dicom.file.header import Header
from crosslight.standards.problem import Unavailable
from node.archive.metadata_rows import DICTIONARY, PACKED, Expander
from node.archive.store import ArchiveStore, Facts, attribute_blobs
from node.holdings import Opened, Received, StoredObject

ROAD: Final = "source"
NO_DIGEST: Final = b""


class GivesObjects(Protocol):
    """A source, as far as it gives out objects."""

    async def open(self, stored: StoredObject) -> Opened:
        """The bytes of one of its objects.

        Raises:
            CrosslightError: they cannot be had now.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """What became of descriptions: how many were new, changed, as before, or not taken."""

    new: int = 0
    changed: int = 0
    same: int = 0
    passed_over: int = 0  # an object lies here, or another source was first


class ObjectsElsewhere:
    """Describes and forgets such instances, and opens them.

    Args:
        db, store: The archive's.
        clock: Time.
        tell: Called with each study that changed.
    """

    def __init__(
        self, db: EmbeddedDb, store: ArchiveStore, clock: Clock, tell: Callable[[str], None]
    ) -> None:
        self._db, self._store, self._clock, self._tell = db, store, clock, tell
        self.sources: Mapping[str, GivesObjects] = {}
        self.behind: Callable[[], bool] = lambda: False  # whether a source may have what is not known here

    async def describe(self, headers: Sequence[Header], source: str) -> Described:
        """Take in descriptions of instances at a source, in one commit."""
        now_unix = self._clock.now().timestamp()
        counts, studies = await self._db.write(
            "describe", lambda tx: self._describe_tx(tx, headers, source, now_unix)
        )
        for study_uid in studies:
            self._tell(study_uid)
        return counts

    async def known(self, study_uid: str, source: str) -> set[str]:
        """SOP Instance UIDs of a study that this source describes."""
        sql = (
            "SELECT sop_uid FROM instance WHERE study_uid = ? AND binned = 0 AND sha256 = x'' AND road = ?"
            " AND peer = ?"
        )
        rows = await self._db.read("described", lambda tx: tx.rows(sql, (study_uid, ROAD, source)))
        return {row[0] for row in rows}

    async def forget(self, study_uid: str, sop_uids: Sequence[str], source: str) -> int:
        """The source has them no longer; how many rows that was."""
        now_unix = self._clock.now().timestamp()

        def write(tx: Tx) -> int:
            gone = 0
            for sop_uid in sop_uids:
                known = described_tx(tx, sop_uid)
                if known is not None and known[1] == source:
                    self._store.forget_described_tx(tx, known[0])
                    gone += 1
            if gone:
                self._store.refresh_tx(tx, study_uid)
                self._store.marks.touch_tx(tx, study_uid, now_unix)
            return gone

        gone = await self._db.write("forget", write)
        if gone:
            self._tell(study_uid)
        return gone

    async def learn_syntax(self, series_uid: str, said: str, real: str, source: str) -> None:
        """Objects of a series were said to be in the transfer syntax ``said``, and are in ``real``."""
        now_unix = self._clock.now().timestamp()

        def write(tx: Tx) -> list[str]:
            where = (
                "series_uid = ? AND transfer_syntax_uid = ? AND binned = 0 AND sha256 = x'' AND road = ?"
                " AND peer = ?"
            )
            values = (series_uid, said, ROAD, source)
            studies = [
                row[0] for row in tx.rows(f"SELECT DISTINCT study_uid FROM instance WHERE {where}", values)
            ]
            tx.execute(f"UPDATE instance SET transfer_syntax_uid = ? WHERE {where}", (real, *values))
            for study_uid in studies:
                self._store.marks.touch_tx(tx, study_uid, now_unix)
            return studies

        for study_uid in await self._db.write("learn_syntax", write):
            self._tell(study_uid)

    async def open(self, stored: StoredObject) -> Opened:
        """The bytes of an object that lies elsewhere.

        Raises:
            Unavailable: its source is not configured any more, or gives nothing now.
        """
        known = await self._db.read("source_of", lambda tx: described_tx(tx, stored.ref.sop_uid))
        source = self.sources.get(known[1]) if known is not None else None
        if source is None:
            raise Unavailable(
                "The archive that has this object is not configured here.", todo="Look at [[sources]]."
            )
        return await source.open(stored)

    def _describe_tx(
        self, tx: Tx, headers: Sequence[Header], source: str, now_unix: float
    ) -> tuple[Described, list[str]]:
        counted, fresh, refreshed = [0, 0, 0, 0], [], dict[str, None]()
        for header in headers:
            arrived = (header, _facts(header, source, now_unix))
            row = tx.row(
                "SELECT id, sha256, peer FROM instance WHERE sop_uid = ? AND binned = 0", (header.sop_uid,)
            )
            if row is None:
                counted[0] += 1
            elif row[1] != NO_DIGEST or row[2] != source:
                counted[3] += 1
                continue
            elif _metadata_tx(tx, row[0]) == header.metadata:
                counted[2] += 1
                continue
            else:
                counted[1] += 1
                self._store.forget_described_tx(tx, row[0])
                refreshed[header.study_uid] = None
            fresh.append(arrived)
        for study_uid in refreshed:
            self._store.refresh_tx(tx, study_uid)
        outcomes = self._store.ingest_many_tx(tx, fresh) if fresh else []
        studies = dict.fromkeys(uid for outcome in outcomes for uid in outcome.changed)
        new, changed, same, passed_over = counted
        return Described(new=new, changed=changed, same=same, passed_over=passed_over), list(studies)


def described_tx(tx: Tx, sop_uid: str) -> tuple[int, str] | None:
    """Row and source of an instance that lies elsewhere; None for one that is here, or not known."""
    sql = "SELECT id, peer FROM instance WHERE sop_uid = ? AND binned = 0 AND sha256 = x''"
    row = tx.row(sql, (sop_uid,))
    return (int(row[0]), str(row[1])) if row is not None else None


def _metadata_tx(tx: Tx, number: int) -> bytes:
    row = tx.row(f"SELECT {PACKED} FROM metadata m {DICTIONARY} WHERE m.id = ?", (number,))
    return Expander().expand(*row) if row is not None else b""


def _facts(header: Header, source: str, now_unix: float) -> Facts:
    study_json, series_json = attribute_blobs(header)
    return Facts(
        sha256=NO_DIGEST,
        size_bytes=0,
        dataset_offset=0,
        pixel_offset=0,
        pixel_length=0,
        tiff_preamble=False,
        received=Received(road=ROAD, peer=source),
        received_unix=now_unix,
        study_json=study_json,
        series_json=series_json,
    )
