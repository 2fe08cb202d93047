"""Accept negotiation of DICOMweb (PS3.18 8.7): what a client can take, against what can be given.

A liberal reader: unquoted ``type=``, parameters of any case, several headers, ``*/*``, unknown ranges beside
known ones are all taken, because viewers send them; nothing is refused as long as one listed range can be
given. When a client names no transfer syntax it gets the stored one: the data set is served as it was
received (D23), although 8.7.3.5.2 would have it re-encoded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from crosslight.standards.problem import NotAcceptable

MAX_ACCEPT_CHARS = 8192
MAX_RANGES = 100

#: Single frames and bulk data of encapsulated transfer syntaxes (PS3.18 Tables 8.7.3-5 and 8.7.3-4).
FRAME_MEDIA_TYPES = {
    "1.2.840.10008.1.2.4.50": "image/jpeg",  # JPEG Baseline
    "1.2.840.10008.1.2.4.51": "image/jpeg",  # JPEG Extended
    "1.2.840.10008.1.2.4.57": "image/jpeg",  # JPEG Lossless
    "1.2.840.10008.1.2.4.70": "image/jpeg",  # JPEG Lossless, first-order prediction
    "1.2.840.10008.1.2.4.80": "image/jls",  # JPEG-LS Lossless
    "1.2.840.10008.1.2.4.81": "image/jls",  # JPEG-LS Near-lossless
    "1.2.840.10008.1.2.4.90": "image/jp2",  # JPEG 2000 Lossless
    "1.2.840.10008.1.2.4.91": "image/jp2",  # JPEG 2000
    "1.2.840.10008.1.2.4.92": "image/jpx",  # JPEG 2000 Part 2, lossless
    "1.2.840.10008.1.2.4.93": "image/jpx",  # JPEG 2000 Part 2
    "1.2.840.10008.1.2.4.201": "image/jphc",  # HTJ2K Lossless
    "1.2.840.10008.1.2.4.202": "image/jphc",  # HTJ2K RPCL
    "1.2.840.10008.1.2.4.203": "image/jphc",  # HTJ2K
    "1.2.840.10008.1.2.5": "image/dicom-rle",  # RLE Lossless
}
#: What an image/* range without a transfer syntax means for frames (Table 8.7.3-5, the column of defaults).
OCTETS = "application/octet-stream"
DICOM = "application/dicom"
EXPLICIT_LE = "1.2.840.10008.1.2.1"


@dataclass(frozen=True, slots=True)
class MediaRange:
    """One element of an Accept header. For multipart/related ``media`` is its ``type`` parameter."""

    media: str  # lower case; may be */* or image/*
    related: bool = False
    transfer_syntax: str = ""  # a UID, '*', or '' when none was named
    q: float = 1.0

    def takes(self, offer: Offer) -> int:
        """How closely this range names ``offer``; 0 = not at all."""
        if self.media == "*/*" and not self.related:
            closeness = 1
        elif self.related != offer.related:
            return 0
        elif self.media == "*/*":
            closeness = 2
        elif self.media.endswith("/*"):
            closeness = 3 if offer.media.startswith(self.media[:-1]) else 0
        else:
            closeness = 4 if offer.media == self.media else 0
        if not closeness or not self.transfer_syntax or not offer.transfer_syntax:
            return closeness
        if self.transfer_syntax == "*":
            return closeness
        return closeness + 4 if self.transfer_syntax == offer.transfer_syntax else 0


@dataclass(frozen=True, slots=True)
class Offer:
    """A representation that can be given."""

    media: str
    related: bool = False
    transfer_syntax: str = ""


ANYTHING = (MediaRange("*/*"),)


def parse_accept(headers: Iterable[str], query: str = "") -> tuple[MediaRange, ...]:
    """The media ranges of Accept headers, and first of the ``accept`` query parameter (8.3.3.1).

    Elements that cannot be read are left out; nothing readable at all means that anything is welcome.
    """
    texts = [query] if query.strip() else list(headers)
    ranges: list[MediaRange] = []
    for text in texts:
        ranges += _ranges(text[:MAX_ACCEPT_CHARS])[: MAX_RANGES - len(ranges)]
    return tuple(ranges) or ANYTHING


@lru_cache(maxsize=256)
def _ranges(text: str) -> tuple[MediaRange, ...]:
    """The readable ranges of one header; clients send the same few all day."""
    return tuple(entry for element in _split(text, ",") if (entry := _range(element)) is not None)[
        :MAX_RANGES
    ]


def _split(text: str, separator: str) -> list[str]:
    """``text`` at separators outside quotes."""
    parts, start, quoted = [], 0, False
    for i, char in enumerate(text):
        if char == '"':
            quoted = not quoted
        elif char == separator and not quoted:
            parts.append(text[start:i])
            start = i + 1
    return [*parts, text[start:]]


def _range(element: str) -> MediaRange | None:
    media, *rest = (part.strip() for part in _split(element, ";"))
    media = media.lower()
    params: dict[str, str] = {}
    for part in rest:
        name, equals, value = part.partition("=")
        if equals:
            params.setdefault(name.strip().lower(), value.strip().strip('"').strip())
    if media == "*":
        media = "*/*"
    related = media == "multipart/related" or media == "multipart/*"
    if related:
        media = params.get("type", "*/*").lower()
    if not re.fullmatch(r"[^\s/]+/[^\s/]+", media):
        return None
    try:
        q = min(1.0, max(0.0, float(params.get("q", "1"))))
    except ValueError:
        q = 1.0
    return MediaRange(media, related, params.get("transfer-syntax", ""), 0.0 if q != q else q)


def quality(ranges: Sequence[MediaRange], offer: Offer) -> float:
    """The q of the range that names ``offer`` most closely; 0 when none takes it."""
    best, best_q = 0, 0.0
    for entry in ranges:
        closeness = entry.takes(offer)
        if closeness > best or (closeness == best and closeness and entry.q > best_q):
            best, best_q = closeness, entry.q
    return best_q


def choose(ranges: Sequence[MediaRange], offers: Sequence[Offer]) -> Offer | None:
    """The offer that the client likes best; among equals the first of ``offers``. None when it takes none."""
    ranked = [(quality(ranges, offer), -i) for i, offer in enumerate(offers)]
    if not ranked:
        return None
    best, at = max(ranked)
    return offers[-at] if best > 0 else None


def require(ranges: Sequence[MediaRange], offers: Sequence[Offer]) -> Offer:
    """As :func:`choose`.

    Raises:
        NotAcceptable: naming what could be had.
    """
    chosen = choose(ranges, offers)
    if chosen is None:
        raise not_acceptable(offers)
    return chosen


def not_acceptable(offers: Sequence[Offer]) -> NotAcceptable:
    """406 that says what can be had."""
    able = ", ".join(dict.fromkeys(describe(offer) for offer in offers))
    return NotAcceptable(
        "None of the media types asked for can be given.",
        why="PS3.18 8.7.",
        todo=f"Accept: {able}" if able else "",
        where="Accept",
    )


def describe(offer: Offer) -> str:
    """An offer as a client would ask for it."""
    syntax = f"; transfer-syntax={offer.transfer_syntax}" if offer.transfer_syntax else ""
    return f'multipart/related; type="{offer.media}"{syntax}' if offer.related else offer.media + syntax


def frame_media_type(transfer_syntax: str) -> str:
    """The media type of one encapsulated frame; octets where the standard names none (video, deflated)."""
    return FRAME_MEDIA_TYPES.get(transfer_syntax, OCTETS)
