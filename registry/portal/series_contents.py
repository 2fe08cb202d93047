"""What a series holds, in words: images, images of many frames, objects without a picture (PS3.4 B.5). Pure.

The index knows how many objects of which SOP class a series has, not how many frames: an image of a class
that is made for many is called so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache

from pydicom.uid import UID

from crosslight.standards.study import SECONDARY_MODALITIES, SeriesRecord
from registry.portal import wording as words

_PICTURES = (
    "Image Storage",
    "Segmentation Storage",
    "Parametric Map Storage",
    "RT Dose Storage",
    "US Volume Storage",
)
_FRAMES = (
    "Multi-frame",
    "Enhanced",
    "Video",
    "US Volume",
    "Segmentation",
    "Tomography Image",
    "Slide Microscopy",
)
#: A part of a SOP class' name, and what a clinician calls such an object; the first that fits.
_WORDS = (
    ("ECG Waveform", "ECG"),
    ("Waveform", "waveform"),
    ("Key Object", "key object note"),
    ("CAD SR", "CAD result"),
    ("Dose SR", "dose report"),
    (" SR ", "structured report"),
    ("Presentation State", "presentation state"),
    ("Encapsulated PDF", "PDF document"),
    ("Encapsulated", "document"),
    ("RT Structure Set", "RT structure set"),
    ("RT Plan", "RT plan"),
    ("RT Ion Plan", "RT plan"),
    ("Treatment Record", "RT treatment record"),
    ("Registration", "registration"),
)
_BY_MODALITY = {
    "SR": "structured report",
    "KO": "key object note",
    "PR": "presentation state",
    "DOC": "document",
    "ECG": "ECG",
    "HD": "waveform",
    "EPS": "waveform",
    "RESP": "waveform",
    "AU": "waveform",
    "RTSTRUCT": "RT structure set",
    "RTPLAN": "RT plan",
    "RTRECORD": "RT treatment record",
    "REG": "registration",
}
_SECONDARY = SECONDARY_MODALITIES - {"SEG"}
IMAGE, MULTI_FRAME, OBJECT = "image", "multi-frame image", "object without a picture"


@lru_cache(maxsize=1024)
def kind_of(sop_class_uid: str) -> str:
    """What an object of this SOP class is called.

    An unknown one is taken for an image, as private ones mostly are.
    """
    uid = UID(sop_class_uid)
    name = uid.name
    if name == uid or (any(term in name for term in _PICTURES) and "Surface" not in name):
        return MULTI_FRAME if name != uid and any(term in name for term in _FRAMES) else IMAGE
    return next((word for term, word in _WORDS if term in name), OBJECT)


def contents_of(series: SeriesRecord) -> dict[str, int]:
    """How many of what a series holds; by its modality where its SOP classes are not known."""
    contents = dict[str, int]()
    unknown = series.n_instances
    for uid, n in series.sop_classes:
        kind = kind_of(uid)
        contents[kind] = contents.get(kind, 0) + n
        unknown -= n
    if unknown > 0:
        secondary = series.modality in _SECONDARY
        kind = _BY_MODALITY.get(series.modality, OBJECT if secondary else IMAGE)
        contents[kind] = contents.get(kind, 0) + unknown
    return contents


def has_pictures(contents: Mapping[str, int]) -> bool:
    """Whether there is something to look at."""
    return bool(contents.get(IMAGE) or contents.get(MULTI_FRAME))


def in_words(contents: Mapping[str, int]) -> str:
    """``40 images and 1 structured report``: pictures first."""
    order = sorted(contents, key=lambda kind: (kind not in (IMAGE, MULTI_FRAME), kind))
    return words.listing([_count(contents[kind], kind) for kind in order if contents[kind]]) or "no images"


def nothing_to_show(contents: Mapping[str, int]) -> str:
    """Why a series without pictures shows none."""
    return f"This series holds {in_words(contents)}: no picture."


def total(each: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """The contents of several series together."""
    whole = dict[str, int]()
    for contents in each:
        for kind, n in contents.items():
            whole[kind] = whole.get(kind, 0) + n
    return whole


def _count(n: int, kind: str) -> str:
    return words.count(n, kind, "objects without a picture" if kind == OBJECT else "")
