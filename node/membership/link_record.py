"""What the running node last knew of its link, kept beside its database.

The ``status`` command, which is another process, reads it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

import orjson

from crosslight.runtime.files import Files
from crosslight.runtime.terminal import printable
from node.membership.model import LinkStatus

FILE = "link.json"
SKEW_WARN_S = 2  # D22


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenLink:
    """The link as an operator is told of it. No field holds patient data."""

    connected: bool = False
    since: str = ""  # ISO 8601, UTC
    suspended: str | None = None  # the reason
    refused: str = ""
    skew_s: int = 0
    reach: str = ""  # how the registry calls this node: direct or tunnel

    @classmethod
    def of(cls, status: LinkStatus) -> SeenLink:
        """The link as it is now.

        The clocks' difference is in whole seconds, so that the file is not written at each heartbeat.
        """
        return cls(
            connected=status.connected,
            since=_utc(status.since),
            suspended=status.suspended,
            refused=status.refused,
            skew_s=round(status.skew_ms / 1000),
            reach=status.reach,
        )


def _utc(moment: datetime | None) -> str:
    return moment.isoformat(timespec="seconds") if moment is not None else ""


def write_seen(folder: Path, seen: SeenLink, files: Files) -> None:
    """Keep it in the node's folder."""
    files.write_atomic(folder / FILE, orjson.dumps(asdict(seen)))


def read_seen(folder: Path) -> SeenLink | None:
    """What was kept; None when nothing was, or it cannot be read."""
    try:
        data = orjson.loads((folder / FILE).read_bytes())
        return SeenLink(**{name: data[name] for name in SeenLink.__dataclass_fields__ if name in data})
    except (OSError, orjson.JSONDecodeError, TypeError):
        return None


def link_text(seen: SeenLink | None, *, serving: bool) -> str:
    """The link in one line."""
    if seen is None:
        return "never linked" + (", trying" if serving else "")
    since = seen.since[:16].replace("T", " ") + " UTC" if seen.since else "an unknown time"
    if seen.suspended is not None:
        said = printable(seen.suspended).strip() or "Ask its operator."
        return f"SUSPENDED by the region since {since}: {said}"
    if not serving:
        last = "linked" if seen.connected else "not linked"
        return f"none: the node does not run (last known: {last} since {since})"
    if seen.connected:
        return f"linked since {since}"
    why = f": {printable(seen.refused)}" if seen.refused else ""
    return f"NOT linked since {since}{why}. See: crosslight-node doctor"


def skew_text(seen: SeenLink) -> str:
    """What there is to say of the clock; '' = it is right."""
    if abs(seen.skew_s) < SKEW_WARN_S:
        return ""
    return f"{seen.skew_s:+d} s from the registry's: set up NTP; above 60 s nothing is released"


def reach_text(seen: SeenLink) -> str:
    """How the region gets at this node's images; '' = the registry has not said."""
    return {
        "direct": "directly, at its listener for systems",
        "tunnel": "through the link (tunnel): nothing is let in for it",
    }.get(seen.reach, "")
