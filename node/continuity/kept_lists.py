"""The lists on disk: one private file a patient, removed in time, bounded in number and bytes.

No database and no backup has them: what is removed here is gone.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import orjson

from crosslight.runtime.clock import Clock
from crosslight.runtime.files import Files, private_folder
from crosslight.runtime.log import get_logger
from crosslight.standards.ids import Identifier
from node.continuity.config import ContinuityConfig

log = get_logger("continuity")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What is kept for one patient.

    ``order`` came at ``ordered``. ``said`` is when the region gave the list, None while there is none.
    """

    patient: Identifier
    order: str
    ordered: datetime
    said: datetime | None = None
    n_bytes: int = 0

    @property
    def wanting(self) -> bool:
        """Whether the region has not been asked since the order came."""
        return self.said is None or self.said < self.ordered


class KeptLists:
    """The lists of one node; all methods are short, and run on the event loop.

    Args:
        folder: Theirs alone.
        files: Durable files.
        clock: By which a list grows old.
        config: How long and how many.
    """

    def __init__(self, folder: Path, files: Files, clock: Clock, config: ContinuityConfig) -> None:
        self._folder, self._files, self._clock, self._config = folder, files, clock, config
        self._for = timedelta(hours=config.keep_hours)
        self._kept: dict[Identifier, Kept] = {}

    def open(self) -> None:
        """Read what is there; what cannot be read is removed."""
        private_folder(self._folder)
        for path in self._folder.iterdir():
            try:
                kept = _read(path.read_bytes())[0]
            except (ValueError, KeyError, TypeError, OSError):
                self._files.remove(path)
                continue
            self._kept[kept.patient] = kept
        self.purge()

    def order(self, patient: Identifier, number: str) -> None:
        """An order for ``patient`` is here: durable when this returns.

        A list that is there stays until the region has said a newer one.

        Raises:
            OSError: it cannot be kept.
        """
        before = self._kept.get(patient)
        bundle = self.bundle(patient)
        now = self._clock.now()
        kept = before or Kept(patient=patient, order=number, ordered=now)
        self._write(replace(kept, order=number, ordered=now), bundle)
        if len(self._kept) > self._config.max_patients:
            self.purge()

    def said(self, patient: Identifier, bundle: bytes) -> None:
        """What the region says of ``patient`` now; nothing if the order has gone meanwhile.

        Raises:
            OSError: it cannot be kept.
        """
        kept = self._kept.get(patient)
        if kept is not None:
            self._write(replace(kept, said=self._clock.now(), n_bytes=len(bundle)), bundle)

    def end(self, patient: Identifier, number: str) -> None:
        """The order is cancelled: what was kept for it is removed."""
        kept = self._kept.get(patient)
        if kept is not None and kept.order == number:
            self.remove(patient)

    def find(self, patient: Identifier) -> Kept | None:
        """What is kept for ``patient`` and is not too old."""
        self.purge()
        return self._kept.get(patient)

    def bundle(self, patient: Identifier) -> bytes:
        """The list as the region gave it; b'' where there is none."""
        kept = self._kept.get(patient)
        if kept is None or kept.said is None:
            return b""
        try:
            return _read(self._path(patient).read_bytes())[1]
        except (ValueError, KeyError, TypeError, OSError):
            log.warning("a kept list cannot be read and is removed")
            self.remove(patient)
            return b""

    def wanting(self) -> list[Kept]:
        """Those that the region is still to be asked for, the oldest order first."""
        self.purge()
        return sorted((kept for kept in self._kept.values() if kept.wanting), key=lambda kept: kept.ordered)

    def purge(self) -> None:
        """Remove what is too old, and what is beyond the bounds.

        A list whose time is in the future is removed too: the clock was set back, and its age is not known.
        """
        now = self._clock.now()
        for kept in list(self._kept.values()):
            listed = kept.said is not None and timedelta(0) <= now - kept.said < self._for
            if kept.said is not None and not listed and self._is_young(kept, now):
                self._forget_list(kept)
            elif not listed and not self._is_young(kept, now):
                self.remove(kept.patient)
        total = sum(kept.n_bytes for kept in self._kept.values())
        for kept in sorted(self._kept.values(), key=lambda kept: kept.ordered):
            if len(self._kept) <= self._config.max_patients and total <= self._config.max_bytes:
                break
            total -= kept.n_bytes
            self.remove(kept.patient)

    def _forget_list(self, kept: Kept) -> None:
        try:
            self._write(replace(kept, said=None, n_bytes=0), b"")
        except OSError:  # no room to write the order without its list: neither stays
            self.remove(kept.patient)

    def _is_young(self, kept: Kept, now: datetime) -> bool:
        return kept.wanting and timedelta(0) <= now - kept.ordered < self._for

    def remove(self, patient: Identifier) -> None:
        """Keep nothing for ``patient``."""
        self._kept.pop(patient, None)
        self._files.remove(self._path(patient))

    def figures(self) -> tuple[int, int, int, float]:
        """How many lists, how many wanted and not said yet, bytes, seconds since the oldest was said."""
        said = [kept.said for kept in self._kept.values() if kept.said is not None]
        oldest_s = (self._clock.now() - min(said)).total_seconds() if said else 0.0
        wanted = sum(kept.wanting for kept in self._kept.values())
        return len(said), wanted, sum(kept.n_bytes for kept in self._kept.values()), oldest_s

    def _path(self, patient: Identifier) -> Path:
        """A name that says nobody's number."""
        name = hashlib.sha256(f"{patient.authority}|{patient.value}".encode()).hexdigest()
        return self._folder / f"{name[:32]}.json"

    def _write(self, kept: Kept, bundle: bytes) -> None:
        said: dict[str, Any] = {
            "authority": kept.patient.authority,
            "value": kept.patient.value,
            "order": kept.order,
            "ordered": kept.ordered.isoformat(),
            "said": kept.said.isoformat() if kept.said else "",
        }
        self._files.write_atomic(self._path(kept.patient), orjson.dumps(said) + b"\n" + bundle)
        self._kept[kept.patient] = kept


def _read(data: bytes) -> tuple[Kept, bytes]:
    head, _, bundle = data.partition(b"\n")
    said = orjson.loads(head)
    return (
        Kept(
            patient=Identifier(said["value"], said["authority"]),
            order=said["order"],
            ordered=datetime.fromisoformat(said["ordered"]),
            said=datetime.fromisoformat(said["said"]) if said["said"] else None,
            n_bytes=len(bundle),
        ),
        bundle,
    )
