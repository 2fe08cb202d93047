"""One SOAP address: bounds, dispatch on ``wsa:Action``, refusals in the payload, faults for the rest.

Every IHE transaction over SOAP, at a node and at the registry, is a :class:`Transaction` of an endpoint. It
answers a body, or the body and a stream of MTOM parts; the endpoint reads, answers and refuses for all of
them in the same way.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from aiohttp import web

from crosslight.runtime.caller import Caller
from crosslight.runtime.http import CALLER, ErrorRenderers
from crosslight.runtime.log import get_logger
from crosslight.runtime.shares import ShareLimits, Shares, peer_share, share_of
from crosslight.runtime.soap.server import Part, read_soap, render_soap_error, soap_response, stream_mtom
from crosslight.runtime.workers import Workers
from crosslight.standards.problem import CrosslightError, Forbidden, OurError, Unauthenticated
from crosslight.standards.xds.model.xml import Element
from crosslight.standards.xds.rules.errors import RegistryError, registry_errors
from crosslight.standards.xds.wire.soap import SoapFault, action_not_supported

log = get_logger("soap")

BODIES, BODIES_OF_ONE = 32, 4  # requests that are being read at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request: its body, who sent it, and the HTTP request that brought it."""

    body: Element
    caller: Caller
    request: web.Request


@dataclass(frozen=True, slots=True)
class Multipart:
    """An answer whose parts are streamed, as ``stream_mtom`` sends them."""

    body: bytes
    parts: Sequence[Part] | AsyncIterator[Part] = ()


#: A body held in memory, or parts that can be read as long as the context is open: it is left when all is
#: sent, or cut off.
Reply = bytes | AbstractAsyncContextManager[Multipart]


class Transaction(ABC):
    """One transaction.

    Of what :meth:`answer`, or entering its context, raises, those of the kind :attr:`told` are told in the
    transaction's own form, by :meth:`refuse`. All else is a fault, and so is in any case that a caller may
    not call at all.
    """

    action: ClassVar[str]
    response_action: ClassVar[str]
    told: ClassVar[type[CrosslightError]] = CrosslightError
    #: Whether a refusal is MTOM; None: if the request was.
    refused_as_mtom: ClassVar[bool | None] = None

    @abstractmethod
    async def answer(self, call: Call) -> Reply:
        """The body of the response, or body and parts."""

    @abstractmethod
    def refuse(self, errors: tuple[RegistryError, ...]) -> bytes:
        """The body of a Failure."""


class SoapEndpoint:
    """Answers SOAP transactions at one or several paths.

    Args:
        transactions: Those that are taken; each has its action for itself.
        max_bytes: Of a request's body. At most :data:`BODIES` are read and held at a time, and of one caller
            :data:`BODIES_OF_ONE`.
        workers: Where large requests are parsed; None: on the event loop.
    """

    def __init__(
        self, transactions: Iterable[Transaction], *, max_bytes: int, workers: Workers | None = None
    ) -> None:
        self._transactions = {transaction.action: transaction for transaction in transactions}
        self._max_bytes, self._workers = max_bytes, workers
        self.bodies = Shares("SOAP requests", ShareLimits(total=BODIES, each=BODIES_OF_ONE))

    def routes(self, *paths: str) -> list[web.RouteDef]:
        """POST at each of ``paths``; errors there are to be rendered as :func:`add_faults` has it."""
        return [web.post(path, self.handle) for path in paths]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One request.

        Raises:
            SoapFault, Malformed, TooLarge: the message cannot be processed. Unauthenticated, Forbidden: nor
            may it be.
            CrosslightError: what the transaction does not tell in its own form.
            OverShare, Busy: there was no turn in time.
        """
        async with self.bodies.turn(self._share(request)):
            envelope = await read_soap(request, self._max_bytes, self._workers)
        transaction = self._transactions.get(envelope.action)
        if transaction is None:
            raise action_not_supported(envelope)
        caller = request.get(CALLER)
        if caller is None:
            raise Unauthenticated(
                "This address needs a client certificate.", todo="Use the region's mutual TLS listener."
            )
        call = Call(body=envelope.body, caller=caller, request=request)
        async with AsyncExitStack() as until_sent:
            try:
                reply = await transaction.answer(call)
                given = reply if isinstance(reply, bytes) else await until_sent.enter_async_context(reply)
            except (SoapFault, Unauthenticated, Forbidden):
                raise
            except transaction.told as error:
                body, mtom = (
                    transaction.refuse(_noted(error, call, envelope.action)),
                    transaction.refused_as_mtom,
                )
                return soap_response(request, envelope, body, transaction.response_action, mtom=mtom)
            if isinstance(given, bytes):
                return soap_response(request, envelope, given, transaction.response_action)
            return await stream_mtom(request, envelope, given.body, transaction.response_action, given.parts)

    @staticmethod
    def _share(request: web.Request) -> str:
        caller = request.get(CALLER)
        return share_of(caller) if caller is not None else peer_share(request.remote or "")


def add_faults(table: ErrorRenderers, *paths: str, sender_400: bool = False) -> None:
    """Teach ``table`` how errors look at ``paths``; ``sender_400`` as of ``render_soap_error``."""
    for path in paths:
        table.add(path, partial(render_soap_error, sender_400=sender_400))


def _noted(error: CrosslightError, call: Call, action: str) -> tuple[RegistryError, ...]:
    errors, correlation = registry_errors(error), call.caller.correlation
    if isinstance(error, OurError):
        log.error("our fault", action=action, kind=type(error).__name__, correlation=correlation)
    else:
        log.info("refused", action=action, code=errors[0].code, correlation=correlation)
    return errors
