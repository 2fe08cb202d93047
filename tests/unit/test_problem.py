"""One tree of errors, and how each of it looks on each wire."""

from __future__ import annotations

import ast
import builtins
from pathlib import Path

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

import crosslight.standards.problem as tree
from crosslight.pb import feed_pb2
from crosslight.runtime.http import ErrorRenderers, render_json
from crosslight.runtime.problem_details import render_problem
from crosslight.standards.fhir.outcome import error_outcome
from crosslight.standards.hl7.ack import ack_for
from crosslight.standards.problem import CrosslightError, PeerRefused
from crosslight.standards.xds.wire.soap import fault_of
from node.dimse.services.store import _status_of
from registry.link.feed import refused

ROOT = Path(__file__).parents[2]
OUTSIDE = {
    "simulations/virtual/loop.py:NothingWillHappenError",  # the run itself fails: nobody is answered
    "simulations/virtual/loop.py:OutsideError",
    "simulations/faults/invariants.py:BrokenError",
    "crosslight/runtime/children/wire.py:Broken",  # a child's owner says it in words of the tree
    "crosslight/runtime/db/seam.py:TooMuch",  # a reading begins again in a wider lane: nobody is told
    "crosslight/runtime/db/foretold.py:NotForetold",  # the same, of a question asked in one statement
    "crosslight/runtime/proxies.py:ProxyRefusedError",  # said by status in words of the tree
    "node/dimse/upper.py:AssociationRejected",  # an A-ASSOCIATE-RJ, which the caller's own code words
    "registry/fhir/plan.py:Misunderstood",  # a search is answered, and says what it left out
    "registry/intake/accept.py:_HalfDoneError",  # a batch is taken apart: it never leaves the file
}

#: HTTP status, seconds of Retry-After; FHIR issue; SOAP fault's code and subcode of ours; XDS error; HL7
#: MSA-1 and condition;
#: the node's feed; DIMSE status of C-STORE.
WIRES = {
    "CrosslightError": (
        500,
        None,
        "exception",
        "Receiver",
        "",
        "XDSRegistryError",
        "AR 207",
        "REFUSED",
        0xC000,
    ),
    "OurError": (500, None, "exception", "Receiver", "", "XDSRegistryError", "AR 207", "RETRY", 0xC000),
    "ConfigError": (500, None, "exception", "Receiver", "", "XDSRegistryError", "AR 207", "RETRY", 0xC000),
    "StorageError": (
        503,
        None,
        "transient",
        "Receiver",
        "Unavailable",
        "XDSRegistryOutOfResources",
        "AR 207",
        "RETRY",
        0xA700,
    ),
    "OutOfSpace": (
        507,
        None,
        "transient",
        "Receiver",
        "",
        "XDSRepositoryOutOfResources",
        "AR 207",
        "RETRY",
        0xA700,
    ),
    "PeerError": (400, None, "invalid", "Sender", "", "XDSRegistryError", "AR 207", "REFUSED", 0xC000),
    "Malformed": (400, None, "structure", "Sender", "", "XDSRegistryError", "AR 100", "REFUSED", 0xC000),
    "TooLarge": (413, None, "too-long", "Sender", "", "XDSRegistryError", "AR 102", "REFUSED", 0xA701),
    "TooSlow": (408, None, "structure", "Sender", "", "XDSRegistryError", "AR 100", "REFUSED", 0xC000),
    "Invalid": (400, None, "invalid", "Sender", "", "XDSRegistryMetadataError", "AE 101", "REFUSED", 0xC000),
    "NotFound": (
        404,
        None,
        "not-found",
        "Sender",
        "",
        "XDSDocumentUniqueIdError",
        "AE 204",
        "REFUSED",
        0xC000,
    ),
    "Gone": (410, None, "deleted", "Sender", "", "XDSDocumentUniqueIdError", "AE 204", "REFUSED", 0xC000),
    "Conflict": (409, None, "conflict", "Sender", "", "XDSRegistryError", "AE 205", "REFUSED", 0xC000),
    "ChoiceNeeded": (409, None, "conflict", "Sender", "", "XDSRegistryError", "AE 205", "REFUSED", 0xC000),
    "MethodNotAllowed": (
        405,
        None,
        "not-supported",
        "Sender",
        "",
        "XDSRegistryError",
        "AR 207",
        "REFUSED",
        0xC000,
    ),
    "UnsupportedMediaType": (
        415,
        None,
        "invalid",
        "Sender",
        "",
        "XDSRegistryError",
        "AR 207",
        "REFUSED",
        0xC000,
    ),
    "Unauthenticated": (401, None, "login", "Sender", "", "XDSRegistryError", "AR 204", "REFUSED", 0xC000),
    "Forbidden": (
        403,
        None,
        "forbidden",
        "Sender",
        "Forbidden",
        "XDSRegistryError",
        "AR 204",
        "RETRY",
        0xC000,
    ),
    "RangeNotSatisfiable": (
        416,
        None,
        "invalid",
        "Sender",
        "",
        "XDSRegistryError",
        "AR 207",
        "REFUSED",
        0xC000,
    ),
    "NotAcceptable": (
        406,
        None,
        "not-supported",
        "Sender",
        "",
        "XDSRegistryError",
        "AR 207",
        "REFUSED",
        0xC000,
    ),
    "Unsupported": (
        501,
        None,
        "not-supported",
        "Sender",
        "",
        "XDSRegistryError",
        "AR 102",
        "REFUSED",
        0xC000,
    ),
    "PeerRefused": (422, None, "invalid", "Sender", "", "XDSRegistryError", "AR 207", "REFUSED", 0xC000),
    "BadGateway": (502, None, "invalid", "Sender", "", "XDSRegistryError", "AR 207", "REFUSED", 0xC000),
    "Unavailable": (
        503,
        30,
        "transient",
        "Receiver",
        "Unavailable",
        "XDSRegistryNotAvailable",
        "AR 207",
        "RETRY",
        0xC000,
    ),
    "Busy": (503, 5, "throttled", "Receiver", "Busy", "XDSRegistryBusy", "AR 207", "RETRY", 0xA700),
    "OverRate": (429, 600, "throttled", "Receiver", "Busy", "XDSRegistryBusy", "AR 207", "RETRY", 0xA700),
    "OverShare": (429, 5, "throttled", "Receiver", "Busy", "XDSRegistryBusy", "AR 207", "RETRY", 0xA700),
    "MemberFailed": (
        502,
        30,
        "transient",
        "Receiver",
        "",
        "XDSRegistryNotAvailable",
        "AR 207",
        "RETRY",
        0xC000,
    ),
    "MemberUnreachable": (
        504,
        30,
        "timeout",
        "Receiver",
        "",
        "XDSRepositoryError",
        "AR 207",
        "RETRY",
        0xC000,
    ),
}


def _made(name: str) -> CrosslightError:
    kind = getattr(tree, name)
    said = {"why": "A rule.", "todo": "Try."}
    error = kind("What.", http_status=422, **said) if kind is PeerRefused else kind("What.", **said)
    assert isinstance(error, CrosslightError)
    return error


def _classes(module: str) -> set[str]:
    return {
        node.name for node in ast.parse((ROOT / module).read_text()).body if isinstance(node, ast.ClassDef)
    }


def test_every_error_of_the_tree_is_in_the_table_and_drawn_in_the_docstring() -> None:
    assert _classes("crosslight/standards/problem.py") == set(WIRES)
    drawn = (tree.__doc__ or "").split("Every error")[0].split()
    assert set(WIRES) <= set(drawn)


@pytest.mark.parametrize("name", WIRES)
def test_an_error_looks_on_each_wire_as_the_table_says(name: str) -> None:
    error = _made(name)
    status, again_s, issue, fault_code, own, xds, ack, feed, dimse = WIRES[name]
    request = make_mocked_request("GET", "/")
    plain, details = render_json(request, error), render_problem(request, error)
    assert plain.status == details.status == orjson.loads(_body(details.body))["status"] == status
    assert (
        orjson.loads(_body(plain.body))["error"]["what"]
        == orjson.loads(_body(details.body))["title"]
        == "What."
    )
    assert error.retry_after_s == again_s
    assert error_outcome(error)["issue"][0]["code"] == issue
    fault = fault_of(error)
    assert (fault.code, fault.own) == (fault_code, own)
    assert error.xds_code == xds
    answered = ack_for(error, "1")
    assert f"{answered.code} {answered.condition}" == ack
    told = refused(feed_pb2.ActResult().version, error)
    assert (feed_pb2.ActResult.Outcome.Name(told.outcome), told.error_code) == (feed, xds)
    assert _status_of(error) == dimse


def test_an_address_is_rendered_by_the_face_that_it_is_below_and_by_no_other() -> None:
    renderers = ErrorRenderers()
    for name in ("/", "/fhir", "/fhir/metadata"):
        renderers.add(name, lambda request, error, name=name: web.Response(text=name))
    error = tree.NotFound("Nothing here.")

    def rendered(path: str) -> str | None:
        return renderers.render(make_mocked_request("GET", path), error).text

    paths = ("/fhir", "/fhir/Patient", "/fhir/metadata", "/fhirs", "/", "/other")
    assert [rendered(path) for path in paths] == ["/fhir", "/fhir", "/fhir/metadata", "/", "/", "/"]


def _body(body: object) -> bytes:
    assert isinstance(body, bytes)
    return body


def test_no_status_is_set_on_an_error_that_is_made() -> None:
    """A class says what its status is; only one that passes a status on is given it as it is made."""
    found = []
    for path in _production():
        for node in ast.walk(ast.parse(path.read_text())):
            targets = node.targets if isinstance(node, ast.Assign) else []
            found += [
                str(path.relative_to(ROOT))
                for t in targets
                if isinstance(t, ast.Attribute) and t.attr == "http_status"
            ]
    assert found == ["crosslight/standards/problem.py"]  # PeerRefused


def test_what_is_raised_is_of_the_tree_or_private_for_a_reason() -> None:
    plain = {
        name
        for name, kind in vars(builtins).items()
        if isinstance(kind, type) and issubclass(kind, BaseException)
    }
    outside = set()
    for path in _production():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and any(
                isinstance(base, ast.Name) and base.id in plain for base in node.bases
            ):
                outside.add(f"{path.relative_to(ROOT)}:{node.name}")
    assert outside - {"crosslight/standards/problem.py:CrosslightError"} == OUTSIDE


def _production() -> list[Path]:
    rooms = ("crosslight", "node", "registry", "simulations")
    return sorted(p for room in rooms for p in (ROOT / room).rglob("*.py") if "_pb2" not in p.name)
