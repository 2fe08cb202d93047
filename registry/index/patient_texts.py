"""PatientTexts: what studies say of their patients, stored once for each patient record."""

from __future__ import annotations

from crosslight.runtime.db import Tx
from crosslight.standards.problem import StorageError
from crosslight.standards.study import Patient
from registry.index.read import Reader

MAX_TEXTS = 30_000  # different patient texts of one record


class PatientTexts:
    """The texts that one transaction's holdings need. ``new``: rows to write, known after :meth:`settle`."""

    def __init__(self, reader: Reader, tx: Tx) -> None:
        self._reader, self._tx = reader, tx
        self._numbers: dict[tuple[int, Patient], int] = {}
        self.new: list[tuple[int, int, bytes]] = []

    def number(self, record_key: int, patient: Patient) -> int:
        """The number of a patient's text among the record's.

        It is a negative stand-in until :meth:`settle` has read which texts are stored.
        """
        return self._numbers.setdefault((record_key, patient), -1 - len(self._numbers))

    def under(self, record_key: int) -> dict[int, Patient]:
        """Number -> text, of all that are stored under a record or wait to be."""
        stored = self._reader.patient_texts(self._tx, {record_key})
        texts = {number: text for (_, number), text in stored.items()}
        return texts | {number: text for (key, text), number in self._numbers.items() if key == record_key}

    def settle(self) -> dict[int, int]:
        """Stand-in -> number; texts that are new get theirs."""
        stored = self._reader.patient_texts(self._tx, {key for key, _ in self._numbers})
        known = {(key, text): number for (key, number), text in stored.items()}
        highest: dict[int, int] = {}
        for key, number in stored:
            highest[key] = max(number, highest.get(key, 0))
        settled = {}
        for (key, patient), stand_in in self._numbers.items():
            settled_number = known.get((key, patient))
            if settled_number is None:
                settled_number = highest[key] = highest.get(key, 0) + 1
                if settled_number > MAX_TEXTS:
                    raise StorageError(
                        "One patient record has too many different texts.", todo="Look at what feeds it."
                    )
                self.new.append((key, settled_number, self._reader.codec.encode_patient(patient)))
            settled[stand_in] = settled_number
        return settled
