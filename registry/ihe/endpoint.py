"""The registry's one SOAP address: bounds, dispatch on wsa:Action, refusals in the payload, faults for the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from aiohttp import web

from crosslight.runtime.caller import Caller
from crosslight.runtime.http import CALLER
from crosslight.runtime.log import get_logger
from crosslight.runtime.soap.server import MAX_SUBMISSION_BYTES, read_soap, soap_response
from crosslight.standards.problem import CrosslightError, Forbidden, OurError, Unauthenticated
from crosslight.standards.xds.model.xml import Element
from crosslight.standards.xds.rules.errors import RegistryError, registry_errors
from crosslight.standards.xds.wire.soap import SoapFault, action_not_supported

log = get_logger("xds")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request: its body, and who sent it."""

    body: Element
    caller: Caller


class Transaction(Protocol):
    """One transaction. A :class:`CrosslightError` from ``answer`` is told in the transaction's own form, by ``refuse``."""

    response_action: str

    async def answer(self, call: Call) -> bytes:
        """The body of the response."""
        ...

    def refuse(self, errors: tuple[RegistryError, ...]) -> bytes:
        """The body of a Failure."""
        ...


class SoapEndpoint:
    """Answers every SOAP transaction of the registry at one path.

    Args:
        transactions: wsa:Action -> transaction.
        max_bytes: Of a request's body.
    """

    def __init__(self, transactions: Mapping[str, Transaction], *, max_bytes: int = MAX_SUBMISSION_BYTES) -> None:
        self._transactions, self._max_bytes = dict(transactions), max_bytes

    def routes(self, path: str) -> list[web.RouteDef]:
        """POST at ``path``; errors there are to be rendered with ``runtime.soap.render_soap_error``."""
        return [web.post(path, self.handle)]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One request.

        Raises:
            SoapFault, Malformed, TooLarge: the message cannot be processed. Unauthenticated, Forbidden: nor may it be.
        """
        envelope = await read_soap(request, self._max_bytes)
        transaction = self._transactions.get(envelope.action)
        if transaction is None:
            raise action_not_supported(envelope)
        caller = request.get(CALLER)
        if caller is None:
            raise Unauthenticated("This address needs a client certificate.", todo="Use the region's mutual TLS listener.")
        call = Call(body=envelope.body, caller=caller)
        try:
            body = await transaction.answer(call)
        except (SoapFault, Unauthenticated, Forbidden):
            raise
        except CrosslightError as error:
            errors = registry_errors(error)
            if isinstance(error, OurError):
                log.error("our fault", action=envelope.action, kind=type(error).__name__, correlation=caller.correlation)
            else:
                log.info("refused", action=envelope.action, code=errors[0].code, correlation=caller.correlation)
            body = transaction.refuse(errors)
        return soap_response(request, envelope, body, transaction.response_action)
