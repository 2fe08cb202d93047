"""Media types in which a resource of WADO-RS is given (PS3.18 8.7.3, 10.4): a list of what is let through.

What is none of these is not passed on, whoever says it: a relay that believed a holder's word would put the
holder's page on its own origin. Pure.
"""

from __future__ import annotations

import re
from typing import Literal

from crosslight.standards.dicom.web.accept import DICOM, FRAME_MEDIA_TYPES, OCTETS
from crosslight.standards.dicom.web.multipart import parameters

Resource = Literal["objects", "frames", "metadata", "pictures", "error"]

_WORD = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"  # RFC 9110 5.6.2
#: One media type with parameters, no list of them: a browser would take the last of a list.
#: Slashes outside quotes are taken: many write ``type=application/dicom`` so.
_ONE = re.compile(rf'{_WORD}/{_WORD}(?:\s*;\s*{_WORD}=(?:{_WORD}(?:/{_WORD})?|"[^"\\\r\n]*"))*\s*\Z')
_VIDEO = frozenset({"video/mpeg", "video/mp4", "video/h265"})
_FRAMES = frozenset({OCTETS, *FRAME_MEDIA_TYPES.values(), "image/jll", "image/jxl", *_VIDEO})
_PICTURES = frozenset({"image/jpeg", "image/png", "image/gif", "image/jp2", *_VIDEO})

#: Single part, and root of a multipart/related.
GIVEN: dict[Resource, tuple[frozenset[str], frozenset[str]]] = {
    "objects": (frozenset({DICOM, OCTETS}), frozenset({DICOM, *_FRAMES})),
    "frames": (_FRAMES, _FRAMES),
    "metadata": (
        frozenset({"application/dicom+json", "application/json"}),
        frozenset({"application/dicom+xml"}),
    ),
    "pictures": (_PICTURES, _PICTURES),
    "error": (
        frozenset({"application/problem+json", "application/json", "application/dicom+json", "text/plain"}),
        frozenset(),
    ),
}


def resource_of(path: str) -> Resource:
    """What a path below a DICOMweb root gives, by how it ends."""
    last = path.rstrip("/").rpartition("/")[2]
    if last in ("rendered", "thumbnail"):
        return "pictures"
    if last == "metadata":
        return "metadata"
    return "frames" if "/frames/" in path else "objects"


def may_be_given(resource: Resource, content_type: str) -> bool:
    """Whether a resource may come with this Content-Type."""
    if not content_type.isascii() or _ONE.match(content_type) is None:
        return False
    media, named = parameters(content_type)
    single, related = GIVEN[resource]
    if media == "multipart/related":
        return named.get("type", "").lower() in related
    return media in single
