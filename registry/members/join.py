"""Joining, before the node has a certificate (D18).

One HTTPS request under the invitation's pin.

``GET /join`` gives the trust bundle, which the node holds against the pin; ``POST /join`` spends the
invitation.
"""

from __future__ import annotations

from datetime import timedelta

import orjson
from aiohttp import web

from crosslight.runtime.caller import Caller
from crosslight.runtime.credentials import principal_of
from crosslight.runtime.http import admit, read_limited, refuse
from crosslight.runtime.log import get_logger
from crosslight.runtime.shares import ShareLimits, Shares, peer_share
from crosslight.runtime.tls import Identity
from crosslight.standards.access import Decision, Principal
from crosslight.standards.membership import JoinReply, MembershipFacts, RegistryAddresses
from crosslight.standards.problem import CrosslightError, Malformed, TooLarge
from registry.members.authorities import MAX_AUTHORITIES
from registry.members.csr import csr_public_key
from registry.members.model import IndexFacts
from registry.members.service import MemberService
from registry.members.store import MemberRow

log = get_logger("members")
INVITED = Decision(True, "invitation")
MAX_JOIN_BYTES = 65536
TURNS = ShareLimits(total=8, each=2, waiting=64, waiting_each=8)  # of those that want to join, by address


class Join:
    """The ``/join`` endpoint of the people listener.

    Args:
        members: Who is invited.
        index: Says what a member published in an earlier life (D10).
        addresses: Where this registry's faces are, for the node.
    """

    def __init__(self, members: MemberService, index: IndexFacts, addresses: RegistryAddresses) -> None:
        self._members, self._index, self._addresses = members, index, addresses
        self.turns = Shares("requests to join", TURNS)

    def routes(self) -> list[web.RouteDef]:
        """For the people listener; both need no sign-in."""
        return [web.get("/join", self.bundle), web.post("/join", self.join)]

    async def bundle(self, request: web.Request) -> web.Response:
        """The trust bundle.

        Not secret, and nothing is trusted about it but that its pin is the invitation's.
        """
        body = {"region": self._members.region.name, "bundle_pem": self._members.ca.bundle.read_text()}
        return web.Response(
            body=orjson.dumps(body), content_type="application/json", headers={"Cache-Control": "no-store"}
        )

    async def join(self, request: web.Request) -> web.Response:
        """Spend an invitation.

        Raises:
            Malformed: a body or request that cannot be read. Invalid: an authority that cannot be a member's
                own.
            Unauthenticated: no such invitation. Conflict: used. Gone: expired. Forbidden: suspended.
            OverShare, Busy: too many ask at once, of this address or of all. OverRate: of this one, lately.
        """
        address = peer_share(request.remote or "")
        self._members.join_rates.take(address)
        async with self.turns.turn(address):
            return await self._join(request)

    async def _join(self, request: web.Request) -> web.Response:
        secret, csr, authorities = _read(await read_limited(request, MAX_JOIN_BYTES))
        csr_public_key(csr)  # a bad request must not cost the invitation
        try:
            invited = await self._members.store.invited_member(secret)
        except CrosslightError as error:
            refuse(
                request, error
            )  # spent, expired or none at all: a stranger, who writes nothing of their own
            raise
        caller = admit(request, _node(invited))
        await self._check(authorities, invited.member.code, caller)
        async with self._members.acts.act(caller, "join", invited.member.code, face="join", decision=INVITED):
            row = await self._admit(secret)
            await self._members.authorities.ask(row.member.id, authorities, by=caller)
            reply = await self._reply(row, csr)
        log.info("member joined", code=row.member.code, epoch=row.member.epoch)
        return web.Response(
            body=orjson.dumps(reply.plain()),
            content_type="application/json",
            headers={"Cache-Control": "no-store"},
        )

    async def _check(self, authorities: list[str], code: str, caller: Caller) -> None:
        """Refuse an authority that cannot be the invited member's own; that is audited."""
        try:
            for authority in authorities:
                self._members.authorities.check(authority, code)
        except CrosslightError as error:
            decision = Decision(False, type(error).__name__)
            async with self._members.acts.act(
                caller, "join", code, face="join", decision=decision, refusal=error
            ):
                raise

    async def _admit(self, secret: str) -> MemberRow:
        invited = await self._members.store.invited_member(secret)
        cursor = await self._index.cursor(invited.member.id)
        row = await self._members.store.use_invitation(secret, cursor.epoch if cursor else 0)
        await self._members.refresh()
        return row

    async def _reply(self, row: MemberRow, csr: bytes) -> JoinReply:
        member = self._members.by_id(row.member.id) or row.member
        chain = await issue_member(self._members, row, csr)
        return JoinReply(
            chain_pem=chain.decode(),
            bundle_pem=self._members.ca.bundle.read_text(),
            member=MembershipFacts(
                id=member.id,
                code=member.code,
                name=member.name,
                repository_unique_id=member.repository_unique_id,
                retrieve_location_uid=member.retrieve_location_uid,
                authority=member.authority,
                secret=member.secret,
                epoch=member.epoch,
                authorities=member.authorities,
                asked=member.asked,
            ),
            region=self._members.region,
            jwks=self._members.keys.jwks(),
            registry=self._addresses,
        )


async def issue_member(members: MemberService, row: MemberRow, csr: bytes) -> bytes:
    """A member's certificate chain, noted in the database."""
    member = row.member
    issued = members.ca.member(csr, member.code, row.hosts, timedelta(days=members.config.certificate_days))
    identity = Identity("member", member.code, members.region.home_community_id)
    await members.store.credentials.certificate(issued.serial, identity.uri, member.id, issued.expires)
    log.info("certificate issued", code=member.code, serial=issued.serial, expires=issued.expires.isoformat())
    return issued.chain_pem


def _read(body: bytes) -> tuple[str, bytes, list[str]]:
    try:
        data = orjson.loads(body)
        secret, csr = data["secret"], data["csr_pem"]
        authorities = data.get("authorities", [])
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        raise Malformed("A request to join has a secret and a csr_pem, as JSON.") from None
    if not isinstance(secret, str) or not isinstance(csr, str) or len(secret) > 200:
        raise Malformed("A request to join has a secret and a csr_pem, both text.")
    if not isinstance(authorities, list) or not all(isinstance(authority, str) for authority in authorities):
        raise Malformed("The authorities of a request to join are a list of OIDs.")
    if len(authorities) > MAX_AUTHORITIES:
        raise TooLarge("Too many patient authorities.", why=f"Limit here: {MAX_AUTHORITIES}.")
    return secret, csr.encode(), authorities


def _node(row: MemberRow) -> Principal:
    identity, member = Identity("member", row.member.code), row.member
    return principal_of(
        identity, name=member.name, number=member.id, evidence="invitation", purpose="HOPERAT"
    )
