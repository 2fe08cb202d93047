"""A SOAP call as the endpoint hands it to a transaction, for tests that ask a transaction itself."""

from __future__ import annotations

from aiohttp.test_utils import make_mocked_request
from callers import caller

from crosslight.runtime.soap.endpoint import Call
from crosslight.standards.access import OPEN, Principal
from crosslight.standards.xds.model.xml import Element


def call_of(body: Element, principal: Principal = OPEN, *, correlation: str = "c1") -> Call:
    """``body``, sent by ``principal``."""
    return Call(body=body, caller=caller(principal, correlation), request=make_mocked_request("POST", "/xds"))
