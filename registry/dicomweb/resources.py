"""Addresses below a study (PS3.18 10.4): which of them are resources, decided as a node decides. Pure."""

from __future__ import annotations

import re

from crosslight.standards.ids import is_uid
from crosslight.standards.problem import Invalid, NotFound

#: What may be asked below a study (PS3.18 10.4): the only paths that are passed on to a holder.
RETRIEVE = re.compile(
    r"(?:series/(?P<series>[^/]+)(?:/instances/(?P<instance>[^/]+)(?:/frames/(?P<frames>[^/]+))?)?)?"
    r"(?:(?:^|/)(?:metadata|rendered|thumbnail))?\Z",
    re.ASCII,
)
_FRAMES = re.compile(r"[0-9]{1,10}(,[0-9]{1,10}){0,999}\Z", re.ASCII)


def no_such() -> NotFound:
    """The error for an address that nothing answers."""
    return NotFound(
        "There is no such resource.",
        why="PS3.18 10.4.1, 10.6.1.",
        todo="Here are studies, series and instances, to search and to retrieve.",
        where="path",
    )


def plain_uid(text: str, where: str) -> str:
    """A UID of an address, without padding: it goes into the holder's address as it is.

    Raises:
        Invalid: for anything else.
    """
    if not is_uid(text):
        raise Invalid(f"{where} is not a UID.", why="PS3.5 9.1: digits and dots, at most 64.", where=where)
    return text


def check_resource(study: str, tail: str) -> None:
    """Refuses what is no resource below a study as a node does.

    Raises:
        NotFound: an address that is none of WADO-RS.
        Invalid: one with a UID or frame number that is none.
    """
    address = RETRIEVE.match(tail)
    if address is None:
        raise no_such()
    for name, text in (("study", study), ("series", address["series"]), ("instance", address["instance"])):
        if text:
            plain_uid(text, name)
    if address["frames"] and not _FRAMES.match(address["frames"]):
        raise Invalid(
            "frames is not a list of frame numbers.",
            why="PS3.18 10.4.1.1.6: from 1, separated by commas.",
            where="frames",
        )
