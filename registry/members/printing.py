"""The members as the command shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from rich.table import Table
from rich.text import Text

from crosslight.runtime.terminal import counted, printable
from crosslight.standards.ids import MemberId
from registry.members.alarms import WORDS
from registry.members.model import Presence
from registry.members.service import MemberService
from registry.members.use_store import Alarm

SKEW_WARN_S = 2.0  # D22
REACHED = {"direct": ", called directly", "tunnel": ", called through its tunnel"}


def _time(moment: datetime | None) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S") if moment else ""


def members_table(
    members: MemberService,
    ends: Mapping[MemberId, datetime] | None = None,
    now: datetime | None = None,
    alarms: Mapping[MemberId, Sequence[Alarm]] | None = None,
) -> Table:
    """Every member with its state, its index and its machine; foreign repositories last.

    Readable in 80 columns.

    Args:
        members: The room.
        ends: When the newest certificate of each ends.
        now: For how long until then.
        alarms: What somebody should look at.
    """
    table = Table(caption="times in UTC", show_lines=True)
    table.add_column("member", overflow="fold")
    table.add_column("status and link", overflow="fold")
    table.add_column("index", overflow="fold")
    for m in sorted(members.everyone(), key=lambda m: (m.status == "foreign", m.code)):
        presence = members.presence(m.id)
        counts = m.status in ("active", "suspended")
        who = [m.code, m.name]
        state = [f"suspended: {m.status_reason}" if m.status == "suspended" and m.status_reason else m.status]
        state[0] += f" since {_time(m.status_since)}" if m.status_since else ""
        style = "red" if m.status == "suspended" else ""
        index: list[str] = []
        if counts:
            who += [presence.software] if presence.software else []
            state += [link_text(presence), *certificate_text((ends or {}).get(m.id), now)]
            sounded = [alarm_text(alarm) for alarm in (alarms or {}).get(m.id, ())]
            state += sounded
            index = index_lines(presence, m.epoch)
            style = "red" if sounded else style or ("" if presence.reachable else "yellow")
        table.add_row(*(Text("\n".join(map(printable, part))) for part in (who, state, index)), style=style)
    return table


def link_text(presence: Presence) -> str:
    """The link, and the clock where it is not right."""
    if presence.never_linked:
        return "never linked"
    if not presence.reachable:
        return f"lost {_time(presence.since)}" + (f": {presence.trouble}" if presence.trouble else "")
    skew_s, up = presence.skew_ms / 1000, f"up{REACHED.get(presence.reach, '')}"
    if abs(skew_s) < SKEW_WARN_S:
        return up
    return f"{up}, clock off by {skew_s:+.0f} s" + (
        ": its images are not opened" if presence.clock_wrong else ""
    )


def alarm_text(alarm: Alarm) -> str:
    """What somebody should look at; it stands until somebody says that they have."""
    times = f", {alarm.times} times since {_time(alarm.first)}" if alarm.times > 1 else ""
    return f"ALARM: {WORDS[alarm.kind]}, {_time(alarm.last)}: {alarm.detail}{times}"


def certificate_text(ends: datetime | None, now: datetime | None) -> list[str]:
    """When its certificate ends; it renews itself at two thirds of its life while it is linked."""
    if ends is None:
        return []
    over = now is not None and ends <= now
    return [f"certificate {'ENDED' if over else 'ends'} {_time(ends)}"]


def index_lines(presence: Presence, epoch: int) -> list[str]:
    """What is listed of it, how far behind, and since when that is known."""
    lines = [] if presence.studies is None else [counted(presence.studies, "study", "studies")]
    lines.append(
        f"waiting {presence.waiting}, refused {presence.parked}, in quarantine {presence.quarantined}"
    )
    if presence.filling:
        lines.append("filling")
    if presence.census_at is not None:
        equal = {True: "counted alike", False: "counts DIFFER", None: "not counted"}[presence.census_equal]
        lines.append(f"{equal} at {_time(presence.census_at)}")
    return [*lines, f"epoch {epoch}"]


def identifiers_table(members: MemberService) -> Table:
    """Every member's permanent OIDs (D11), one to a line so that they can be copied."""
    table = Table()
    table.add_column("code", no_wrap=True)
    table.add_column("what", no_wrap=True)
    table.add_column("OID", overflow="fold")
    for m in sorted(members.everyone(), key=lambda m: (m.status == "foreign", m.code)):
        for what, oid in (
            ("repositoryUniqueId", m.repository_unique_id),
            ("retrieveLocationUID", m.retrieve_location_uid),
        ):
            if oid:
                table.add_row(m.code, what, oid)
        if m.status != "foreign":
            for oid in (m.authority, *m.authorities):
                table.add_row(
                    m.code, "patient authority" + (" (allotted)" if oid == m.authority else ""), oid
                )
            for oid in m.asked:
                table.add_row(m.code, "asked for: authority --agree", oid, style="yellow")
    return table
