"""DICOM objects to store: one CT study as bytes that can be renamed in place, and many tiny studies."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path

from simulations.images import StudyPlan, make_study
from simulations.people import SyntheticPatient, make_patients

NATIONAL = "2.16.840.1.113883.2.1.4.1"
# Followed by six digits of the copy, two of the kind, twenty of the object: every copy is equally long.
_ROOT = "2.25.1"
_PIXELS = 8  # different slices; the rest repeat them


def _uid(copy: int, kind: int, number: int) -> str:
    return f"{_ROOT}{copy:06d}{kind:02d}{number:020d}"


def _marker(copy: int) -> bytes:
    return f"{_ROOT}{copy:06d}".encode()


@dataclass(frozen=True, slots=True)
class Names:
    """UIDs of one copy."""

    study: str
    series: str
    instances: tuple[str, ...]


class CtStudy:
    """A CT series of ``slices`` 512 x 512 slices of 16 bits.

    Args:
        slices: How many instances.
        code: Of the organisation that acquired it.
        size: Rows and columns.
    """

    def __init__(
        self, slices: int, code: str, *, size: int = 512, patient: SyntheticPatient | None = None
    ) -> None:
        self.slices, self._code, self._size = slices, code, size
        self._patient = patient or make_patients(1, (code,), seed=11, national=True)[0]

    @cached_property
    def _files(self) -> list[bytes]:
        plan = StudyPlan(
            patient=self._patient,
            code=self._code,
            institution="Bench",
            modality="CT",
            when=datetime(2025, 6, 2, 9, 30),
            seed=7,
            instances=min(_PIXELS, self.slices),
            national_authority=NATIONAL,
            size=self._size,
        )
        made = list(make_study(plan))
        files = []
        for number in range(self.slices):
            ds = made[number % len(made)]
            ds.StudyInstanceUID, ds.SeriesInstanceUID = _uid(0, 1, 0), _uid(0, 2, 0)
            ds.FrameOfReferenceUID, ds.SOPInstanceUID = _uid(0, 3, 0), _uid(0, 4, number)
            ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
            ds.InstanceNumber, ds.ImagePositionPatient = number + 1, [-175.0, -175.0, float(number)]
            ds.AccessionNumber = "B000000"
            out = io.BytesIO()
            ds.save_as(out, enforce_file_format=True)
            files.append(out.getvalue())
        return files

    @property
    def bytes_each(self) -> int:
        """Size of one instance's file."""
        return len(self._files[0])

    def names(self, copy: int) -> Names:
        """UIDs of copy ``copy``."""
        return Names(_uid(copy, 1, 0), _uid(copy, 2, 0), tuple(_uid(copy, 4, n) for n in range(self.slices)))

    def copy(self, copy: int) -> list[bytes]:
        """The same study under UIDs of its own."""
        old, new = _marker(0), _marker(copy)
        accession = b"B%06d" % copy
        return [
            data[:4096].replace(old, new).replace(b"B000000", accession) + data[4096:] for data in self._files
        ]

    def write(self, copy: int, folders: Sequence[Path]) -> None:
        """The copy's files, dealt out to ``folders``."""
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
        for number, data in enumerate(self.copy(copy)):
            (folders[number % len(folders)] / f"{number:05d}.dcm").write_bytes(data)


def tiny_studies(count: int, code: str) -> tuple[list[bytes], list[str]]:
    """``count`` studies of one 16 x 16 slice each, and their patients' numbers: one for every two studies."""
    people = make_patients(max(1, count // 2), (code,), seed=23, national=True)
    template = CtStudy(1, code, size=16, patient=people[0])
    local, national = (people[0].local_ids[code].encode(), people[0].national.encode())
    files = []
    for number in range(count):
        person = people[number % len(people)]
        data = template.copy(500_000 + number)[0]  # numbers of one organisation all have the same length
        files.append(
            data.replace(local, person.local_ids[code].encode()).replace(national, person.national.encode())
        )
    return files, list(dict.fromkeys(person.local_ids[code] for person in people))
