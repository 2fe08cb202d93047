"""Who calls a gRPC method on the members' port, and how a call under way ends when its member is suspended.

The peer's certificate says who it is; on the plain links of the open demo the metadata ``crosslight-member``
does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import unquote

import grpc
import grpc.aio

from crosslight.runtime.caller import Caller
from crosslight.runtime.clock import Ids
from crosslight.runtime.credentials import principal_of
from crosslight.runtime.peers import PeerCertificate, grpc_peer, named_peer
from crosslight.runtime.refusals import Noted, noted_nowhere
from crosslight.runtime.tls import Identity
from crosslight.standards.problem import CrosslightError, Forbidden, Unauthenticated
from registry.members.model import Member
from registry.members.service import MemberService

MEMBER_METADATA = "crosslight-member"
REFUSALS: dict[type[CrosslightError], grpc.StatusCode] = {
    Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    Forbidden: grpc.StatusCode.PERMISSION_DENIED,
}


def refusal_of(error: CrosslightError) -> grpc.StatusCode:
    """How gRPC says that somebody is not let in, or no longer."""
    return REFUSALS.get(type(error), grpc.StatusCode.UNAUTHENTICATED)


def grpc_caller(context: Any, member: Member, ids: Ids, *, open_mode: bool) -> Caller:
    """A member's own node as it calls: the one maker of the members' port.

    Args:
        context: Of the call, for the address.
        member: Whose node it is (:meth:`Callers.member`).
        ids: For the correlation id.
        open_mode: It named itself, on a plain link.
    """
    serial = "" if open_mode else grpc_peer(context.auth_context()).serial
    identity = Identity("member", member.code, serial=serial)
    evidence = "open" if open_mode else "certificate"
    principal = principal_of(identity, name=member.name, number=int(member.id), evidence=evidence)
    return Caller(principal=principal, correlation=ids.uuid4().hex, peer=_address(str(context.peer())))


def _address(peer: str) -> str:
    """The address in gRPC's name of a peer; '' where there is none.

    Such names are ``ipv4:10.0.0.1:50000`` and ``ipv6:%5B::1%5D:50000``.
    """
    kind, _, rest = peer.partition(":")
    return unquote(rest).rpartition(":")[0].strip("[]") if kind in ("ipv4", "ipv6") else ""


class Callers:
    """Who calls a gRPC method; for every servicer on the members' port.

    ``noted`` is told of who is refused, ``called`` of each call's connection, ``linked`` of each link.
    """

    def __init__(
        self,
        members: MemberService,
        *,
        noted: Noted = noted_nowhere,
        called: Callable[[str], None] = lambda connection: None,
        linked: Callable[[], None] = lambda: None,
    ) -> None:
        self._members, self._noted, self._called, self.linked = members, noted, called, linked
        self._ending: set[asyncio.Future[None]] = set()

    def peer(self, context: Any) -> PeerCertificate:
        """What the other end of a call shows, or in the open demo says.

        Raises:
            Unauthenticated: no certificate of ours.
        """
        self._called(str(context.peer()))
        if self._members.open_mode:
            metadata = dict(context.invocation_metadata() or ())
            name = str(metadata.get(MEMBER_METADATA, ""))
            return named_peer(Identity("member", name, self._members.community))
        return grpc_peer(context.auth_context())

    @staticmethod
    def address(context: Any) -> str:
        """From where a call comes."""
        return _address(str(context.peer()))

    def identify(self, context: Any) -> Member:
        """The active member behind a call.

        Raises:
            Unauthenticated: no certificate of a member, an expired or withdrawn one, or no such member.
            Forbidden: suspended.
        """
        return self._members.active_peer(self.peer(context))

    async def member(self, context: Any) -> Member:
        """As :meth:`identify`, but ends the call when it is refused.

        The call is ended too when its member is suspended, or its certificate ends, meanwhile.
        """
        try:
            member = self.identify(context)
        except (Unauthenticated, Forbidden) as error:
            self.refused(context, error)
            await context.abort(REFUSALS[type(error)], str(error))
            raise
        self._cut_with(self.peer(context), context)
        return member

    def refused(self, context: Any, error: Unauthenticated | Forbidden) -> None:
        """Note that who calls is not let in."""
        self._noted("feed", error, self.address(context))

    def _cut_with(self, peer: PeerCertificate, context: Any) -> None:
        """End the current call with a status when the peer is no longer let in.

        Cancelling its task alone would send none.
        """
        task = asyncio.current_task()
        if task is None:
            return

        async def abort(error: CrosslightError) -> None:
            with suppress(grpc.aio.AbortError, grpc.aio.UsageError, grpc.aio.InternalError):
                await context.abort(refusal_of(error), str(error))
            task.cancel()

        def cut(error: CrosslightError) -> None:
            ending = asyncio.ensure_future(abort(error))
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)

        forget = self._members.peers.closer(peer, cut)
        task.add_done_callback(lambda _: forget())
