"""UIDs that an object was listed with, written into a copy that came with others."""

from __future__ import annotations

import hashlib
import mmap
import os
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from crosslight.standards.dicom.file.gate import META_SOP_CLASS, meta_text, read_meta
from crosslight.standards.dicom.file.part10_head import part10_head
from crosslight.standards.dicom.file.syntaxes import DEFLATED_LE, EXPLICIT_BE, IMPLICIT_LE
from crosslight.standards.dicom.file.verdict import Refused
from crosslight.standards.dicom.file.walk import walk
from crosslight.standards.problem import Unavailable
from node.dimse.landing import Landed

_TAGS: Final = (0x0020000D, 0x0020000E, 0x00080018)
_BLOCK: Final = 1 << 20


def give_uids(path: Path, landed: Landed, uids: tuple[str, str, str]) -> Landed:
    """Write study, series and instance UID into a Part 10 file; what refers to others stays. Blocking.

    The file is made anew beside its old self. An object that has these UIDs already is left as it is.

    Raises:
        Unavailable: it cannot be read as an object.
    """
    syntax = landed.transfer_syntax_uid
    if syntax in (DEFLATED_LE, EXPLICIT_BE):
        raise Unavailable("An object with UIDs of its own cannot be put right in this form.", why=syntax)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            meta, start = read_meta(data[: 1 << 16])
            parsed = walk(data, syntax, offset=start)
        except Refused as error:
            raise Unavailable("The archive sends what cannot be read.", why=error.what) from None
        wanted = dict(zip(_TAGS, uids, strict=True))
        if all(parsed.text(tag) == uid for tag, uid in wanted.items()):
            return landed
        pieces = [part10_head(meta_text(meta, META_SOP_CLASS), uids[2], syntax)]
        cuts: list[tuple[int, int, bytes]] = []
        for tag, uid in wanted.items():
            element = parsed.by_tag.get(tag)
            if element is None:
                raise Unavailable("The archive sends an object without its UIDs.")
            head = 4 if syntax == IMPLICIT_LE else 2  # the length stands before the value
            value = uid.encode("ascii") + b"\0" * (len(uid) % 2)
            length = struct.pack("<I" if head == 4 else "<H", len(value))
            cuts.append((element[2] - head, element[2] + element[3], length + value))
        size, digest = 0, hashlib.sha256()
        target = path.with_suffix(".given")
        try:
            with target.open("xb") as out:
                for piece in (*pieces, *_spliced(data, start, sorted(cuts))):
                    out.write(piece)
                    digest.update(piece)
                    size += len(piece)
            os.replace(target, path)
        except BaseException:
            target.unlink(missing_ok=True)
            raise
    return replace(landed, sop_uid=uids[2], size=size, sha256=digest.hexdigest())


def _spliced(data: mmap.mmap, start: int, cuts: list[tuple[int, int, bytes]]) -> Iterator[bytes]:
    at = start
    for begin, end, instead in (*cuts, (len(data), len(data), b"")):
        for offset in range(at, begin, _BLOCK):
            yield data[offset : min(offset + _BLOCK, begin)]
        yield instead
        at = end
