"""Who may do what: principals, purposes, and the table of role x face x action (thin but real; D20, D21).

Pure: a decision is a function of its arguments. The registry asks it before it answers, the holder asks it
again before it releases a byte.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

#: Faces, as they stand in audit entries and in the table.
Face = Literal[
    "fhir",
    "xds",
    "dicomweb",
    "portal",
    "gateway",
    "rad69",
    "iti43",
    "dimse",
    "feed",
    "admin",
    "hl7",
    "join",
    "token",
]
#: Actions. ``search``/``read`` concern metadata of whom is named, ``export`` those of whoever there is,
#: ``retrieve`` images and manifests, ``store`` objects into an archive,
#: ``publish`` entries into the index and ``withdraw`` them, ``feed`` patient identities, ``operate`` the
#: service, ``list-for-order`` is a member's node that asks for the list of one patient with an order there;
#: ``verify`` is an object that a node found damaged or missing when it read it again, or whole once more;
#: ``announce`` is word between systems that objects are there, ``commit`` asks another to keep some for good;
#: ``hold`` keeps studies from being removed, and ``lift-hold`` ends that;
#: ``authenticate`` is what strangers tried whose credentials do not hold, many in one entry;
#: ``decide`` who is one person (``end-decision`` and ``unmerge`` take back). Releases before 0.3 wrote
#: sign-ins as ``read``
#: and what changes members as ``operate``, with the act in the query.
Action = Literal[
    "search",
    "read",
    "export",
    "retrieve",
    "store",
    "publish",
    "feed",
    "delete",
    "withdraw",
    "operate",
    "audit",
    "authenticate",
    "undelete",
    "import",
    "retry",
    "reread",
    "backup",
    "restore",
    "expire",
    "decide",
    "end-decision",
    "unmerge",
    "sign-in",
    "sign-out",
    "join",
    "invite",
    "suspend",
    "readmit",
    "agree-authority",
    "ask-authority",
    "withdraw-authority",
    "describe-source",
    "issue-certificate",
    "issue-token",
    "exchange-token",
    "grant",
    "end-credential",
    "list-for-order",
    "announce",
    "verify",
    "commit",
    "hold",
    "lift-hold",
]

#: What a person does about records, and what an operator does about members.
DECIDING: frozenset[Action] = frozenset({"decide", "end-decision", "unmerge"})
MEMBERSHIP: frozenset[Action] = frozenset(
    {
        "invite",
        "suspend",
        "readmit",
        "agree-authority",
        "withdraw-authority",
        "describe-source",
        "issue-certificate",
        "issue-token",
        "grant",
        "end-credential",
    }
)

#: HL7 v3 PurposeOfUse (2.16.840.1.113883.5.8) that this release knows.
PURPOSES = {"TREAT": "treatment", "ETREAT": "emergency treatment", "HOPERAT": "healthcare operations"}

ROLES = {
    "clinician": "Finds and opens any patient's imaging for their care.",
    "integrator": "An outside system or app: may do what it was granted, and nothing by itself.",
    "exporter": "Asks for many patients at once, for those whom the region has agreed to; opens no image.",
    "identity": "Sees disputed identities and resolves them.",
    "operator": (
        "Runs the region from its command line: members, health, disputed identities; no face shows it a"
        " patient."
    ),
    "ig": "Information governance: reads the audit.",
    "porter": "Signed in, and may see nothing.",
    "member": "A trust's own node.",
    "gateway": "The region's gateway, which acts only for a person or system named in its token.",
    "open": "The caller without credentials in an open demo: every role but the identity officer's.",
}

#: What may be granted to an outside system or an app beyond its role; nothing is granted by itself.
Capability = Literal["find", "open", "export", "store", "publish", "feed", "link"]
CAPABILITIES: dict[Capability, str] = {
    "find": "Search for the imaging of a patient who is named, and read what the index says of it.",
    "open": "Retrieve images and manifests.",
    "export": "Ask for many patients at once: questions that name nobody.",
    "store": "Store objects into the archive of one member, which the grant names.",
    "publish": "Register documents for the repositories that the grant names, and change its own.",
    "feed": "Feed patients of the assigning authorities that the grant names.",
    "link": "Merge national numbers: say that two of them are one person.",
}

#: The role of outside systems and apps.
INTEGRATOR = "integrator"
#: What it needs for each action of a face. What is not here it may never do.
NEEDS: dict[str, dict[str, Capability]] = {
    "fhir": {"search": "find", "read": "find"},
    "dicomweb": {"search": "find", "read": "find", "retrieve": "open", "store": "store"},
    "gateway": {"retrieve": "open"},
    "xds": {"search": "find", "publish": "publish", "delete": "publish"},
    "iti43": {"retrieve": "open"},
    "rad69": {"retrieve": "open"},
    "hl7": {"feed": "feed"},
    "dimse": {"search": "find", "retrieve": "open", "store": "store"},
}
#: How the region's operator grants a capability that is for some data only.
_SCOPED: dict[str, str] = {
    "store": "--stores-at CODE",
    "publish": "--publishes REPOSITORY",
    "feed": "--feeds AUTHORITY",
}

#: role -> face -> actions. What is not here is refused.
TABLE: dict[str, dict[str, frozenset[str]]] = {
    "clinician": {
        "portal": frozenset({"search", "read", "retrieve"}),
        "fhir": frozenset({"search", "read"}),
        "dicomweb": frozenset({"search", "read", "retrieve"}),
        "gateway": frozenset({"retrieve"}),
        "xds": frozenset({"search"}),
        "iti43": frozenset({"retrieve"}),
        "rad69": frozenset({"retrieve"}),
    },
    INTEGRATOR: {face: frozenset(actions) for face, actions in NEEDS.items()},
    "exporter": {
        "fhir": frozenset({"search", "read", "export"}),
        "dicomweb": frozenset({"search", "read", "export"}),
    },
    "identity": {"portal": frozenset({"search", "read"}) | DECIDING, "fhir": frozenset({"search", "read"})},
    "operator": {"admin": frozenset({"operate", "search", "read"}) | DECIDING | MEMBERSHIP},
    "ig": {"admin": frozenset({"audit"})},
    "porter": {},
    "member": {
        "feed": frozenset({"publish", "delete", "feed"}),
        "xds": frozenset({"search", "publish", "delete"}),  # search: its own entries, by their ids
        "hl7": frozenset({"feed"}),
        "fhir": frozenset({"list-for-order"}),  # of one patient, with the order's number (ADR 0060)
    },
    "gateway": {
        "dicomweb": frozenset({"search", "read", "retrieve"}),
        "rad69": frozenset({"retrieve"}),
        "iti43": frozenset({"retrieve"}),
    },
}

#: Of the open demo's caller, who sees what a clinician sees and decides nothing.
_EVERY_ACTION = frozenset(
    {"search", "read", "export", "retrieve", "store", "publish", "feed", "delete", "operate", "audit"}
)


#: In the place of an authority, a repository or a member: all of them.
ANY = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grants:
    """What one outside system or app was granted, and for whose data.

    ``authorities`` are OIDs whose patients it may feed, ``repositories`` repositoryUniqueIds that it may
    publish for, ``store_at`` the code of the one member that it may store into. :data:`ANY` in their place
    is whosever data: nobody can grant that, see :data:`BEFORE_GRANTS`.
    """

    capabilities: frozenset[str] = frozenset()
    authorities: frozenset[str] = frozenset()
    repositories: frozenset[str] = frozenset()
    store_at: str = ""

    def may(self, capability: str) -> bool:
        """Whether this was granted; who may ask for everybody may ask for one."""
        return capability in self.capabilities or (capability == "find" and "export" in self.capabilities)

    def feeds(self, authority: str) -> bool:
        """Whether patients of this authority may be fed."""
        return self.may("feed") and not self.authorities.isdisjoint((authority, ANY))

    def publishes(self, repository_unique_id: str) -> bool:
        """Whether documents of this repository may be registered."""
        return self.may("publish") and not self.repositories.isdisjoint((repository_unique_id, ANY))

    def stores_at(self, code: str) -> bool:
        """Whether objects may be stored into the archive of the member with this code."""
        return self.may("store") and self.store_at in (code, ANY)

    def plus(self, more: Grants) -> Grants:
        """These and more; of members to store into the newer one."""
        return Grants(
            capabilities=self.capabilities | more.capabilities,
            authorities=self.authorities | more.authorities,
            repositories=self.repositories | more.repositories,
            store_at=more.store_at or self.store_at,
        )

    def plain(self) -> dict[str, Any]:
        """As JSON-able data, without what is empty."""
        said = {
            "capabilities": sorted(self.capabilities),
            "authorities": sorted(self.authorities),
            "repositories": sorted(self.repositories),
            "store_at": self.store_at,
        }
        return {name: value for name, value in said.items() if value}

    @classmethod
    def from_plain(cls, said: Any) -> Self:
        """Read what :meth:`plain` wrote; what is none grants nothing."""
        if not isinstance(said, Mapping):
            return cls()
        names = ("capabilities", "authorities", "repositories")
        sets = {name: frozenset(map(str, said.get(name) or ())) for name in names}
        return cls(**sets, store_at=str(said.get("store_at") or ""))


#: What the role itself gave before there were grants (releases before 0.3). Systems that had a certificate
#: then keep it until they are granted something, or nothing; whoever calls a node that belongs to no region
#: has it too.
BEFORE_GRANTS = Grants(
    capabilities=frozenset({"find", "open", "export", "store", "publish", "feed"}),
    authorities=frozenset({ANY}),
    repositories=frozenset({ANY}),
    store_at=ANY,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who asks, for whom, and on what evidence.

    ``organisation`` is an ODS (or board) code; ``evidence`` says how we know (``session``, ``bearer``,
    ``certificate``, ``gateway-token``, ``open``, ``dimse``). ``member`` is set for a member's own node.
    ``grants`` is what a system or an app was granted. ``credential`` says which token, session or certificate
    it was, by a name that is no secret: ``token JTI``, ``session DIGEST``, ``certificate SERIAL``.
    """

    subject: str
    name: str = ""
    roles: frozenset[str] = frozenset()
    organisation: str = ""
    purpose: str = "TREAT"
    evidence: str = "bearer"
    member: int | None = None
    grants: Grants = Grants()
    claims: dict[str, Any] = field(default_factory=dict, compare=False)
    credential: str = field(default="", compare=False)

    def describe(self) -> dict[str, Any]:
        """For audit entries."""
        said = {
            "subject": self.subject,
            "name": self.name,
            "roles": sorted(self.roles),
            "organisation": self.organisation,
            "purpose": self.purpose,
            "evidence": self.evidence,
        }
        return said | ({"credential": self.credential} if self.credential else {})

    @classmethod
    def described(cls, said: Mapping[str, Any]) -> Self:
        """From :meth:`describe`, as far as it says."""
        return cls(
            subject=str(said.get("subject", "")),
            name=str(said.get("name", "")),
            roles=frozenset(map(str, said.get("roles", ()))),
            organisation=str(said.get("organisation", "")),
            purpose=str(said.get("purpose", "")),
            evidence=str(said.get("evidence", "")),
            credential=str(said.get("credential", "")),
        )


#: The caller without credentials under ``--open``: every role, purpose treatment, audited as such.
OPEN = Principal(subject="open", name="open demo", roles=frozenset({"open"}), evidence="open")


@dataclass(frozen=True, slots=True)
class Decision:
    """Permit or deny, and the rule that said so."""

    permit: bool
    rule: str


def decide(principal: Principal, face: Face, action: Action) -> Decision:
    """Deny unless a role's row permits ``action`` on ``face`` for a known purpose."""
    if principal.purpose not in PURPOSES:
        return Decision(False, "unknown purpose of use")
    if "open" in principal.roles and action in _EVERY_ACTION:
        return Decision(True, "open demo")
    if action == "export" and "export" in principal.grants.capabilities:
        granted = decide(principal, face, "search")  # what it may not search it may not export
        return Decision(granted.permit, f"granted: {face} export" if granted.permit else granted.rule)
    missing = ""
    for role in sorted(principal.roles):
        if action not in TABLE.get(role, {}).get(face, frozenset()):
            continue
        needed = NEEDS[face][action] if role == INTEGRATOR else ""
        if not needed or principal.grants.may(needed):
            return Decision(True, f"{role}: {face} {action}")
        missing = needed
    if missing:
        return Decision(False, not_granted(principal, missing))
    return Decision(False, f"no role of {sorted(principal.roles)} may {action} on {face}")


def not_granted(principal: Principal, capability: str, whose: str = "") -> str:
    """Why a system or an app is refused, and how it is granted.

    By a command of the region's operator; to a device, known by its AE title, in its node's configuration.

    Args:
        principal: Who is refused.
        capability: What it would need.
        whose: The authority, repository or member whose data it is about, where that alone was not granted.
    """
    if principal.evidence == "dimse":
        return f"{capability!r} was not granted: dimse.callers, may of {principal.name}"
    option = _SCOPED.get(capability, f"--may {capability}")
    option = f"{option.split()[0]} {whose}" if whose else option
    named = principal.subject.removeprefix("system:")
    system = named != principal.subject
    command = f"system {named}" if system else f"token --role {INTEGRATOR} --user …"
    for_whom = f" for {whose}" if whose else ""
    return f"{capability!r} was not granted{for_whom}: crosslight-registry {command} {option}"
