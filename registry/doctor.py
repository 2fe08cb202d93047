"""Checking a registry that runs, from outside.

It also says what is wrong with its members, as its database has it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from rich.console import Console

from crosslight.client.doctor import Finding, Target, examine
from crosslight.client.report import show
from crosslight.runtime.audit.keeping import is_protected
from crosslight.runtime.db import Db
from crosslight.standards.access import Grants
from crosslight.standards.problem import CrosslightError
from registry.access.demo_idp import BANNER, PREFIX
from registry.access.oidc import OidcClient, provider_context
from registry.access.provider_logout import LOGOUT_AT
from registry.commands import Offline, opened
from registry.members.ca import CertificateAuthority
from registry.members.model import Member, Presence
from registry.members.service import MemberService

AUTHORITY_WARN = timedelta(days=90)
FIND = Grants(capabilities=frozenset({"find"}))


async def doctor(folder: Path, console: Console) -> int:
    """Examine the running registry, with a certificate made for this."""
    async with opened(folder) as offline:
        listen, base = offline.config.listen, offline.people_url
        systems = f"{'http' if listen.open else 'https'}://{listen.public_host}:{listen.systems_port}"
        target = Target(
            name=offline.region.name,
            base=base,
            fhir=f"{base}/fhir",
            dicomweb=f"{base}/dicomweb",
            xds_registry=f"{systems}/xds/registry",
        )
        if not listen.open:
            files = await offline.members.systems.issue("doctor", folder / "systems", FIND)
            target = replace(target, ca=files.ca, cert=files.cert, key=files.key)
            # a registry that runs looks so often at who was let in
            await offline.ground.seams.clock.sleep(1.5 * offline.config.members.poll_s)
        findings = await examine(target)
        findings += members_found(offline.members)
        findings.append(authority_found(offline.members.ca, offline.ground.seams.clock.now()))
        findings.append(await audit_found(offline.audit_db))
        if not listen.open:
            findings.append(await sign_in_found(offline))
    return show(console, [(target.name, findings)])


async def audit_found(audit_db: Db) -> Finding:
    """Whether the service could change its own audit."""
    if await is_protected(audit_db):
        return Finding("audit", "ok", "The service may add to the audit and read it, nothing else.")
    return Finding(
        "audit",
        "warn",
        "The service's own user could change the audit: triggers stop statements, not the tables' owner.",
        "On PostgreSQL give the audit an owner of its own: operations.md, PostgreSQL.",
    )


async def sign_in_found(offline: Offline) -> Finding:
    """Whether the identity provider answers, and where it ends sessions."""
    check, access, base = "sign-in", offline.config.access, offline.people_url
    at, oidc = f"{base}{LOGOUT_AT}", access.oidc
    demo = access.demo.enabled and not oidc.issuer
    if not oidc.issuer and not demo:
        return Finding(check, "ok", "No identity provider: apps use tokens, and nobody signs in.")
    oidc = replace(oidc, issuer=base + PREFIX) if demo else oidc
    seams = offline.ground.seams
    trusted = provider_context(offline.members.ca.bundle if demo else None)
    async with seams.http.client(trusted, read_timeout_s=15) as session:
        client = OidcClient(oidc, lambda: session, f"{base}/signin/callback", seams.clock)
        try:
            provider = await client.provider()
        except CrosslightError as error:
            return Finding(check, "fail", f"{oidc.issuer}: {error.what}", error.todo or "access.oidc.issuer")
    if demo:
        return Finding(check, "warn", f"{BANNER} Its back-channel logout goes to {at}.", "access.oidc")
    if not provider.ends_sessions:
        return Finding(
            check,
            "warn",
            f"{oidc.issuer} does not say that it can end sessions here (back-channel logout).",
            f"Ask there for {at}; without it a leaver's session ends by `credentials end`, or within twice"
            " access.roles_minutes.",
        )
    return Finding(check, "ok", f"{oidc.issuer} answers. Register there for back-channel logout: {at}")


def authority_found(ca: CertificateAuthority, now: datetime) -> Finding:
    """Whether the region's authority goes on for a while."""
    ends, check = ca.certificate.not_valid_after_utc, "authority"
    if ends - now < AUTHORITY_WARN:
        return Finding(
            check,
            "warn",
            f"The region's authority ends on {ends:%Y-%m-%d}.",
            "See: ca request, sign, install.",
        )
    place = "under its root" if ca.under_root else "its own root, online (see: ca root)"
    return Finding(check, "ok", f"The region's authority is {place}; good until {ends:%Y-%m-%d}.")


def members_found(members: MemberService) -> list[Finding]:
    """What is not well with each active member; one line when all are."""
    active = [m for m in members.all() if m.status == "active"]
    findings = [finding for m in active if (finding := _member(m, members.presence(m.id))) is not None]
    if findings:
        return findings
    roads = Counter(members.presence(m.id).reach for m in active)
    called = f" Called directly: {roads['direct']}, through their tunnels: {roads['tunnel']}."
    return [Finding("members", "ok", f"{len(active)} linked, clocks agree, nothing refused.{called}")]


def _member(member: Member, presence: Presence) -> Finding | None:
    name, check = f"{member.name} ({member.code})", "members"
    if presence.never_linked:
        return Finding(
            check, "warn", f"{name} has never linked.", "Is its node running, and may it reach the gRPC port?"
        )
    if not presence.reachable:
        since = f" since {presence.since:%Y-%m-%d %H:%M:%S} UTC" if presence.since else ""
        return Finding(
            check, "warn", f"{name} is not linked{since}.", "Ask there: is the node running, and its network?"
        )
    if presence.clock_wrong:
        off = f"{presence.skew_ms / 1000:+.0f} s"
        return Finding(
            check,
            "fail",
            f"The clock of {name} is off by {off}: it gives out no images.",
            "NTP, there or here.",
        )
    if presence.parked:
        told = f"{presence.parked} studies of {name} were refused for good."
        return Finding(check, "warn", told, "`crosslight-node status` there shows why; then `retry`.")
    return None
