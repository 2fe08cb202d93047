"""What a registry and a joining node say to each other, as values.

Invitation, facts given at joining, addresses.

Pure. Signing, pins and files are above; the link's messages are in protos/.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

from crosslight.standards.hosts import MAX_ADDRESS_CHARS, claimed_host_port, claimed_origin
from crosslight.standards.ids import Oid
from crosslight.standards.problem import Invalid, Malformed
from crosslight.standards.region import ProcedureCodes, Region

INVITATION_PREFIX = "crosslight-invitation:"
MAX_INVITATION_CHARS = 2000
_HEX_PIN = re.compile(r"[0-9a-f]{64}\Z")
MAX_TITLE_CHARS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Invitation:
    """One admission: where, to whom, and the shared secret.

    The pin makes the first contact safe in both directions.
    """

    url: str  # base of the registry's people listener
    pin: str  # SHA-256 of the CA's SubjectPublicKeyInfo, hex
    code: str  # organisation code of the invited member, for the reader
    secret: str = field(repr=False)

    def text(self) -> str:
        """As the one string that is handed over."""
        body = json.dumps(
            {"v": 1, "url": self.url, "pin": self.pin, "code": self.code, "secret": self.secret}
        )
        return INVITATION_PREFIX + base64.urlsafe_b64encode(body.encode()).decode().rstrip("=")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an invitation, with whatever white space a mail program put into it.

        Raises:
            Malformed: if it is none, or was cut.
        """
        text = "".join(text.split())
        body = text.removeprefix(INVITATION_PREFIX)
        if body == text or len(text) > MAX_INVITATION_CHARS:
            raise Malformed(
                "This is no invitation.", why=f"It starts with {INVITATION_PREFIX}", todo="Paste all of it."
            )
        try:
            data = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
            invitation = cls(url=data["url"], pin=data["pin"], code=data["code"], secret=data["secret"])
            version = data["v"]
        except (ValueError, binascii.Error, KeyError, TypeError):
            raise Malformed(
                "The invitation cannot be read.", todo="Paste all of it, or ask for a new one."
            ) from None
        texts = (invitation.url, invitation.pin, invitation.code, invitation.secret)
        if version != 1 or not all(isinstance(t, str) for t in texts) or not _HEX_PIN.match(invitation.pin):
            raise Malformed("The invitation is of another kind.", todo="Use the same release on both sides.")
        if not invitation.url.startswith(("https://", "http://")) or not invitation.secret:
            raise Malformed("The invitation names no registry.", todo="Ask for a new one.")
        return invitation


def known_keys(cls: type[Any], data: Any, what: str) -> dict[str, Any]:
    """The known keys of ``data`` that are present; unknown ones are left for later releases.

    Raises:
        Malformed: if it is no object; ``what`` is its name then.
    """
    if not isinstance(data, Mapping):
        raise Malformed(f"{what} is no object.")
    return {f.name: data[f.name] for f in fields(cls) if f.name in data}


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryAddresses:
    """Where the registry's faces are: bases without a trailing slash; ``grpc`` and ``mllp`` are host:port."""

    people: str = ""
    systems: str = ""
    grpc: str = ""
    mllp: str = ""

    @classmethod
    def from_plain(cls, data: Any) -> Self:
        """Read what :func:`dataclasses.asdict` wrote."""
        return cls(**{k: str(v) for k, v in known_keys(cls, data, "The registry's address list").items()})


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """Where a member's faces are, as others reach them; '' = there is none, or nobody knows it.

    The one definition: a node says it of itself (``Hello`` of membership.proto has the same fields), the
    registry keeps it as JSON and gives it on in the directory. A new face is a field here and one there.
    """

    # people and apps: HTTPS without client certificate; no trailing slash, as in all addresses
    base: str = ""
    systems: str = ""  # mutual TLS: the gateway's retrieves, RAD-69, ITI-43
    dicomweb: str = ""
    rad69: str = ""
    xds_repository: str = ""
    aet: str = ""  # AE title
    dimse: str = ""  # host:port

    def plain(self) -> dict[str, str]:
        """As JSON-able data, what is not known included."""
        return asdict(self)

    def known(self) -> dict[str, str]:
        """As JSON-able data, without what is not known."""
        return {name: value for name, value in asdict(self).items() if value}

    @classmethod
    def from_plain(cls, data: Any) -> Self:
        """Read what :meth:`plain` or :meth:`known` wrote; what a later release knows besides is left out.

        Raises:
            Malformed: if it is no object.
        """
        return cls(
            **{name: str(value) for name, value in known_keys(cls, data, "A list of endpoints").items()}
        )

    @classmethod
    def claimed(cls, said: Mapping[str, str], hosts: Collection[str], *, loopback: bool) -> ClaimedEndpoints:
        """What is believed of a node's own word about where it is.

        Origins over https alone, of hosts that its certificate names; the paths of its faces are ours. Who
        answers there is proven at each call.

        Args:
            said: What it says, by the fields' names.
            hosts: The plain hosts in its certificate.
            loopback: Whether members may be on this machine.
        """
        values, refused = dict[str, str](), list[str]()
        for name, check in _CLAIMS.items():
            if text := said.get(name, ""):
                try:
                    values[name] = check(text, hosts, loopback=loopback)
                except Invalid as error:
                    refused.append(f"{name}: {error.what}")
        systems = values.get("systems", "")
        faces = {name: f"{systems}{path}" for name, path in FACE_PATHS.items() if systems and said.get(name)}
        return ClaimedEndpoints(cls(**values, **faces, aet=_title(said.get("aet", ""))), tuple(refused))

    @classmethod
    def plain_claimed(cls, said: Mapping[str, str]) -> ClaimedEndpoints:
        """As :meth:`claimed` where all is open and on one machine: bounded, http(s) only."""
        values = {f.name: said.get(f.name, "") for f in fields(cls)}
        return ClaimedEndpoints(
            cls(
                **{
                    name: (_title if name in ("aet", "dimse") else _address)(text)
                    for name, text in values.items()
                }
            )
        )


#: Where a node's faces are below its listener for systems.
FACE_PATHS = {"dicomweb": "/dicomweb", "rad69": "/rad69", "xds_repository": "/xds/repository"}
_CLAIMS = {"base": claimed_origin, "systems": claimed_origin, "dimse": claimed_host_port}


@dataclass(frozen=True, slots=True)
class ClaimedEndpoints:
    """What is believed of a node's own word, and for whoever operates the region what is not, and why."""

    endpoints: Endpoints
    refused: tuple[str, ...] = ()


def _address(text: str) -> str:
    good = len(text) <= MAX_ADDRESS_CHARS and text.startswith(("https://", "http://"))
    return text.rstrip("/") if good and text.isascii() and text.isprintable() else ""


def _title(text: str) -> str:
    return text if len(text) <= MAX_TITLE_CHARS and text.isascii() and text.isprintable() else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MembershipFacts:
    """What a member keeps of itself for good (D9, D11).

    ``id`` never changes; ``secret`` makes its derived ids.
    """

    id: int
    code: str
    name: str
    repository_unique_id: Oid
    retrieve_location_uid: Oid
    authority: Oid
    secret: bytes = field(repr=False)
    epoch: int
    # patient authorities of its own beside the allotted one, as agreed (ADR 0023)
    authorities: tuple[Oid, ...] = ()
    asked: tuple[Oid, ...] = ()  # those that it asked for and nobody has agreed to yet

    def plain(self) -> dict[str, Any]:
        """As JSON-able data; holds the secret."""
        return {**asdict(self), "secret": self.secret.hex()}

    @classmethod
    def from_plain(cls, data: Any) -> Self:
        """Read what :meth:`plain` wrote.

        Raises:
            Malformed: if something is missing.
        """
        values = known_keys(cls, data, "The member's facts")
        try:
            return cls(
                **{
                    **values,
                    **oid_lists(values),
                    "secret": bytes.fromhex(values["secret"]),
                    "id": int(values["id"]),
                    "epoch": int(values["epoch"]),
                }
            )
        except (KeyError, TypeError, ValueError):
            raise Malformed("The member's facts are not complete.") from None


def oid_lists(values: Mapping[str, Any]) -> dict[str, tuple[Oid, ...]]:
    """The lists of authorities in ``values``; an older release says none."""
    return {name: tuple(Oid(str(oid)) for oid in values.get(name, ())) for name in ("authorities", "asked")}


def region_plain(region: Region) -> dict[str, Any]:
    """A region as JSON-able data."""
    return asdict(region)


def region_from_plain(data: Any) -> Region:
    """Read what :func:`region_plain` wrote.

    Raises:
        Malformed: if something is missing.
    """
    values = known_keys(Region, data, "The region")
    try:
        codes = tuple(ProcedureCodes(**row) for row in values.get("procedure_codes", ()))
        others = tuple(values.get("other_nationals", ()))
        return Region(**{**values, "other_nationals": others, "procedure_codes": codes})
    except TypeError:
        raise Malformed("The region is not complete.") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinReply:
    """What joining gives a node: who it is, its certificate, whom to trust, and the region."""

    chain_pem: str
    bundle_pem: str
    member: MembershipFacts
    region: Region
    jwks: dict[str, Any]
    registry: RegistryAddresses

    def plain(self) -> dict[str, Any]:
        """As JSON-able data; holds the member's secret."""
        return {
            "chain_pem": self.chain_pem,
            "bundle_pem": self.bundle_pem,
            "member": self.member.plain(),
            "region": region_plain(self.region),
            "jwks": self.jwks,
            "registry": asdict(self.registry),
        }

    @classmethod
    def from_plain(cls, data: Any) -> Self:
        """Read what :meth:`plain` wrote.

        Raises:
            Malformed: if something is missing.
        """
        values = known_keys(cls, data, "The registry's answer")
        try:
            return cls(
                chain_pem=str(values["chain_pem"]),
                bundle_pem=str(values["bundle_pem"]),
                member=MembershipFacts.from_plain(values["member"]),
                region=region_from_plain(values["region"]),
                jwks=dict(values["jwks"]),
                registry=RegistryAddresses.from_plain(values["registry"]),
            )
        except (KeyError, ValueError, TypeError):
            raise Malformed("The registry's answer is not complete.") from None
