"""The members as the command shows them."""

from __future__ import annotations

from datetime import datetime

from rich.table import Table

from registry.members.service import MemberService


def _time(moment: datetime | None) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S") if moment else ""


def members_table(members: MemberService) -> Table:
    """Every member with its state; foreign repositories last."""
    table = Table(caption="times in UTC")
    for column in ("code", "name", "status", "since", "link", "waiting", "parked", "epoch"):
        table.add_column(column, overflow="fold", no_wrap=column in ("code", "since", "waiting", "parked", "epoch"))
    everyone = sorted(members.everyone(), key=lambda m: (m.status == "foreign", m.code))
    for m in everyone:
        presence = members.presence(m.id)
        counted = m.status in ("active", "suspended")
        link = "never linked" if presence.never_linked else "up" if presence.reachable else f"lost {_time(presence.since)}"
        if presence.reachable and presence.clock_wrong:
            link = f"up, clock off by {presence.skew_ms / 1000:+.0f} s"
        status = f"suspended: {m.status_reason}" if m.status == "suspended" and m.status_reason else m.status
        table.add_row(
            m.code, m.name, status, _time(m.status_since), link if counted else "", str(presence.waiting) if counted else "",
            str(presence.parked) if counted else "", str(m.epoch) if counted else "",
            style="red" if m.status == "suspended" else "yellow" if counted and not presence.reachable else None,
        )  # fmt: skip
    return table


def identifiers_table(members: MemberService) -> Table:
    """Every member's permanent OIDs (D11), one to a line so that they can be copied."""
    table = Table()
    table.add_column("code", no_wrap=True)
    table.add_column("what", no_wrap=True)
    table.add_column("OID", overflow="fold")
    for m in sorted(members.everyone(), key=lambda m: (m.status == "foreign", m.code)):
        for what, oid in (("repositoryUniqueId", m.repository_unique_id), ("retrieveLocationUID", m.retrieve_location_uid)):
            if oid:
                table.add_row(m.code, what, oid)
        if m.status != "foreign":
            for oid in (m.authority, *m.authorities):
                table.add_row(m.code, "patient authority" + (" (allotted)" if oid == m.authority else ""), oid)
            for oid in m.asked:
                table.add_row(m.code, "asked for: authority --agree", oid, style="yellow")
    return table
