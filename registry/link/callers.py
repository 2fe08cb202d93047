"""Who calls a gRPC method on the members' port, and how a call under way ends when its member is suspended.

The peer's certificate says who it is; on the plain links of the open demo the metadata ``crosslight-member``
does.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any
from urllib.parse import unquote

import grpc
import grpc.aio

from crosslight.runtime.caller import Caller
from crosslight.runtime.clock import Clock, Ids
from crosslight.runtime.credentials import principal_of
from crosslight.runtime.refusals import Noted, noted_nowhere
from crosslight.runtime.tls import Identity, grpc_certificate, grpc_identity
from crosslight.standards.ids import MemberId
from crosslight.standards.problem import Forbidden, Unauthenticated
from registry.members.model import Member
from registry.members.service import MemberService

MEMBER_METADATA = "crosslight-member"
REFUSALS = {Unauthenticated: grpc.StatusCode.UNAUTHENTICATED, Forbidden: grpc.StatusCode.PERMISSION_DENIED}


def grpc_caller(context: Any, member: Member, ids: Ids, *, open_mode: bool) -> Caller:
    """A member's own node as it calls: the one maker of the members' port.

    Args:
        context: Of the call, for the address.
        member: Whose node it is (:meth:`Callers.member`).
        ids: For the correlation id.
        open_mode: It named itself, on a plain link.
    """
    identity, evidence = Identity("member", member.code), "open" if open_mode else "certificate"
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

    ``noted`` is told of who is refused.
    """

    def __init__(self, members: MemberService, clock: Clock, *, noted: Noted = noted_nowhere) -> None:
        self._members, self._clock, self._noted = members, clock, noted
        self._ending: set[asyncio.Future[None]] = set()

    def identify(self, context: Any) -> Member:
        """The active member behind a call.

        Raises:
            Unauthenticated: no certificate of a member, an expired one, or no such member.
            Forbidden: suspended.
        """
        if self._members.open_mode:
            metadata = dict(context.invocation_metadata() or ())
            return self._members.active(str(metadata.get(MEMBER_METADATA, "")))
        auth = context.auth_context()
        member = self._members.active_identity(grpc_identity(auth))
        certificate = grpc_certificate(auth)
        if certificate is None or certificate.not_valid_after_utc <= self._clock.now():
            raise Unauthenticated("The certificate has expired.", todo="Join again.")
        return member

    async def member(self, context: Any) -> Member:
        """As :meth:`identify`, but ends the call when it is refused.

        The call is cancelled when the member is suspended.
        """
        try:
            member = self.identify(context)
        except (Unauthenticated, Forbidden) as error:
            self.refused(context, error)
            await context.abort(REFUSALS[type(error)], str(error))
            raise
        self._cut_with(member.id, context)
        return member

    def refused(self, context: Any, error: Unauthenticated | Forbidden) -> None:
        """Note that who calls is not let in."""
        self._noted("feed", error, _address(str(context.peer())))

    def _cut_with(self, member: MemberId, context: Any) -> None:
        """End the current call with a status when the member is suspended.

        Cancelling its task alone would send none.
        """
        task = asyncio.current_task()
        if task is None:
            return

        async def abort() -> None:
            with suppress(grpc.aio.AbortError, grpc.aio.UsageError, grpc.aio.InternalError):
                await context.abort(grpc.StatusCode.PERMISSION_DENIED, "This member is suspended.")
            task.cancel()

        def cut() -> None:
            ending = asyncio.ensure_future(abort())
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)

        forget = self._members.live.closer(member, cut)
        task.add_done_callback(lambda _: forget())
