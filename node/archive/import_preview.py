"""What an import of some files would bring, without taking anything in.

The command ``crosslight-node import --dry-run``.
"""

from __future__ import annotations

import mmap
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from crosslight.standards.dicom.file import bare_data_set as bare
from crosslight.standards.dicom.file import gate, header
from crosslight.standards.dicom.file.header import Attributes
from crosslight.standards.dicom.file.limits import Limits
from crosslight.standards.problem import CrosslightError
from node.archive.importer import files_below, look
from node.archive.staging import file_meta
from node.holdings import Received

MAX_NAMED = 20  # refused files that are named


@dataclass(slots=True)
class Preview:
    """What was found in files. Of each study only the distinct sets of patient attributes are kept."""

    files: int = 0
    objects: int = 0
    other: int = 0  # no DICOM, or a DICOMDIR
    refused: list[tuple[Path, str]] = field(default_factory=list)
    more_refused: int = 0
    studies: dict[str, Counter[bytes]] = field(default_factory=dict)

    def refuse(self, path: Path, why: str) -> None:
        """Count a file that would be refused; the first are named."""
        if len(self.refused) < MAX_NAMED:
            self.refused.append((path, why))
        else:
            self.more_refused += 1

    def patients(self) -> Iterator[tuple[str, Attributes]]:
        """Each study with the patient attributes that most of its objects carry."""
        for study_uid, sets in self.studies.items():
            attributes: Attributes = orjson.loads(
                max(sets, key=lambda attributes_json: (sets[attributes_json], attributes_json))
            )
            yield study_uid, attributes


def preview_paths(
    paths: Iterable[Path], limits: Limits, progress: Callable[[int], None] | None = None
) -> Preview:
    """Read all files of ``paths``. Blocking: for a worker."""
    preview = Preview()
    for path in files_below(paths):
        preview.files += 1
        try:
            _one(path, limits, preview)
        except gate.Refused as error:
            preview.refuse(path, str(error))
        except CrosslightError as error:
            preview.refuse(path, error.what)
        except OSError as error:
            preview.refuse(path, error.strerror or "cannot be read")
        if progress is not None:
            progress(preview.files)
    return preview


def _one(path: Path, limits: Limits, preview: Preview) -> None:
    if not path.is_file() or path.name.upper() == "DICOMDIR" or not path.stat().st_size:
        preview.other += 1
        return
    with path.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as data:
        seen = look(data[: bare.HEAD_BYTES], path.name)
        if seen.what == "other":
            preview.other += 1
            return
        if seen.what == "unread":
            preview.refuse(path, seen.why)
            return
        received = Received(road="import", peer="", transfer_syntax_uid=seen.syntax)
        lacking = file_meta(received) if seen.syntax else gate.missing_head(data[: bare.HEAD_BYTES])
        content: gate.Buffer = lacking + data[:] if lacking else data
        read = header.read(gate.examine(content, limits=limits))
    preview.objects += 1
    patient = orjson.dumps({tag: body for tag, body in read.study.items() if tag.startswith("0010")})
    preview.studies.setdefault(read.study_uid, Counter())[patient] += 1
