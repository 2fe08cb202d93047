"""Whose a study is: the identifiers that an audit entry carries, remembered until the study changes."""

from __future__ import annotations

import threading
from collections import OrderedDict

from crosslight.standards.ids import Identifier
from node.holdings import Holdings

_REMEMBERED = 4096


class PatientsOf:
    """Call it with a study's UID; () for one that is not held."""

    def __init__(self, holdings: Holdings) -> None:
        self._holdings = holdings
        self._known: OrderedDict[str, tuple[Identifier, ...]] = OrderedDict()
        self._changes = 0
        self._lock = threading.Lock()
        holdings.on_change(self._forget)

    def _forget(self, study_uid: str) -> None:
        with self._lock:
            self._changes += 1
            self._known.pop(study_uid, None)

    async def __call__(self, study_uid: str) -> tuple[Identifier, ...]:
        with self._lock:
            known, changes = self._known.get(study_uid), self._changes
        if known is not None:
            return known
        patients = await self._holdings.patients_of(study_uid)
        with self._lock:
            if patients and self._changes == changes:  # nothing moved while it was read
                self._known[study_uid] = patients
                while len(self._known) > _REMEMBERED:
                    self._known.popitem(last=False)
        return patients
