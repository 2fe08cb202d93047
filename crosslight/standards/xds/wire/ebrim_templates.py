"""DocumentEntries written in bulk: what entries of one shape have in common is written once.

A specimen of the shape, with marks in the place of what differs, is written by the ordinary writer
(``ebrim_write``) and cut at the marks; for an entry the pieces are joined with its own texts, escaped. So
there is no second writer: the bytes are the ordinary one's, whatever it writes.
"""

from __future__ import annotations

import re
from dataclasses import fields, replace
from functools import lru_cache
from operator import attrgetter, itemgetter
from typing import Any

from crosslight.standards.xds.model.metadata import DocumentEntry, RegistryObject, as_text, plain_text
from crosslight.standards.xds.model.xml import esc, esc_all
from crosslight.standards.xds.wire.ebrim_write import PartIds, render_object

#: What differs from entry to entry. One that is empty is not written at all.
_OWN = (
    "entry_uuid",
    "logical_id",
    "unique_id",
    "creation_time",
    "service_start_time",
    "service_stop_time",
    "hash",
    "size",
)
_OF_PATIENT = ("patient_id", "source_patient_id")  # and source_patient_info, a list as reference_ids
_TEXTS = (*_OWN, *_OF_PATIENT)
#: What sources of other makes say, each in its own way: no shape that comes again.
_SELDOM = ("comments", "classifications", "external_ids")
_FILLED = frozenset({*_TEXTS, *_SELDOM, "title", "source_patient_info", "reference_ids"})
#: All else, which makes the shape: codes, authors, whose repository, status.
_SHAPE = tuple(field.name for field in fields(DocumentEntry) if field.name not in _FILLED)
_own, _of_patient, _seldom = attrgetter(*_OWN), attrgetter(*_OF_PATIENT), attrgetter(*_SELDOM)
_shape = attrgetter(*_SHAPE)
_MARK = "\ue000"  # of the private use area: it is written as it is
_MARKED = re.compile(f"{_MARK}([0-9]+){_MARK}(?:\\.([0-9]+))?")  # a value, or the id of a part of the entry
_kept_esc = lru_cache(maxsize=512)(esc)  # many entries of an answer say the same patient


def write_object(member: RegistryObject) -> str:
    """What :func:`ebrim_write.render_object` writes, the same bytes; quick for an entry of a known shape."""
    if not isinstance(member, DocumentEntry) or any(_seldom(member)):
        return render_object(member)
    title = plain_text(member.title)
    if member.title != as_text(title) or not (member.entry_uuid and member.unique_id):  # as few are
        return render_object(member)
    own, patient = _own(member), _of_patient(member)
    info, references = member.source_patient_info, member.reference_ids
    there = (*map(bool, own), *map(bool, patient), bool(title))
    template = _template(_shape(member), there, len(info), len(references))
    if template is None:
        return render_object(member)
    values = [*esc_all(own), *map(_kept_esc, patient), esc(title)]
    values += map(_kept_esc, info)
    values += map(esc, references)
    return template.filled(values, PartIds(member.entry_uuid))


class EntryTemplate:
    """What entries of one shape have in common; between its pieces stands what differs.

    Args:
        specimen: An entry of the shape, written with a mark in the place of each value; of two at the least.
        n_values: How many values an entry has.
    """

    __slots__ = ("_n_ids", "_pick", "_pieces")

    def __init__(self, specimen: str, n_values: int) -> None:
        self._pieces: list[str] = []
        places: list[int] = []
        at = self._n_ids = 0
        for mark in _MARKED.finditer(specimen):
            value, part = int(mark[1]), int(mark[2] or 0)
            self._pieces += (specimen[at : mark.start()], "")
            places.append(n_values + part - 1 if part else value)  # ids of parts follow the values
            self._n_ids, at = max(self._n_ids, part), mark.end()
        self._pieces.append(specimen[at:])
        self._pick: Any = itemgetter(*places)

    def filled(self, values: list[str], ids: PartIds) -> str:
        """The entry of these values, which are escaped, and of the ids of its parts."""
        values += [ids.next() for _ in range(self._n_ids)]
        pieces = self._pieces.copy()
        pieces[1::2] = self._pick(values)
        return "".join(pieces)


@lru_cache(maxsize=1024)
def _template(
    shape: tuple[Any, ...], there: tuple[bool, ...], n_info: int, n_references: int
) -> EntryTemplate | None:
    """The template of a shape; None where the shape's own texts have our mark."""
    bare = DocumentEntry(entry_uuid="", **dict(zip(_SHAPE, shape, strict=True)))
    if _MARK in render_object(bare):
        return None
    marks = [f"{_MARK}{n}{_MARK}" for n in range(len(there) + n_info + n_references)]
    *texts, title = [mark if is_there else "" for mark, is_there in zip(marks, there, strict=False)]
    lists = marks[len(there) :]
    marked: dict[str, Any] = dict(zip(_TEXTS, texts, strict=True))
    specimen = replace(
        bare,
        **marked,
        title=as_text(title),
        source_patient_info=tuple(lists[:n_info]),
        reference_ids=tuple(lists[n_info:]),
    )
    return EntryTemplate(render_object(specimen), len(marks))
