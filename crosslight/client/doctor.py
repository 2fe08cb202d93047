"""Checks a running node or registry from outside and says what is wrong and what to do.

Each check is a small coroutine that returns a :class:`Finding`; nothing here knows the inside of a service. A
protected face that answers 401 is alive: credentials are checked only where the caller has some.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import orjson
from cryptography import x509

from crosslight.client.http import HttpClient, read, trusting, trusting_people
from crosslight.client.xds import XdsClient
from crosslight.runtime.clock import Clock, SystemClock
from crosslight.runtime.machine_errors import connection_trouble
from crosslight.runtime.proxies import ProxyRefusedError, host_and_port, opened, opener
from crosslight.runtime.terminal import counted
from crosslight.standards.problem import CrosslightError, Forbidden, Unauthenticated

Result = Literal["ok", "warn", "fail"]
SKEW_WARN_S = 2.0  # D22
SKEW_FAIL_S = 60.0
_WRONG_NAME, _WRONG_ADDRESS = 62, 64  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
EXPIRY_WARN_S = 24 * 3600.0
LAG_WARN = 50
NOBODYS = "2.25.0"  # a Study Instance UID that no study has: a question that lists nobody


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found."""

    check: str
    result: Result
    what: str
    todo: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What to examine; '' = not there, so not checked: without ``base`` only what is named.

    ``cert`` and ``key`` are a client certificate for the systems listener, ``token`` a bearer token for the
    people listener.
    """

    name: str
    base: str
    systems: str = ""
    fhir: str = ""
    dicomweb: str = ""
    xds_registry: str = ""
    dimse: str = ""  # host:port
    aet: str = ""
    calling_aet: str = "DOCTOR"
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    token: str = ""
    proxy: str = ""  # HTTP proxy on the way to it


async def examine(target: Target, clock: Clock | None = None) -> list[Finding]:
    """Run every check that applies, one after another."""
    clock = clock or SystemClock()
    checks: list[tuple[str, Callable[[Target, Clock], Awaitable[Finding]]]] = []
    if target.base:
        checks.append(("health", _health))
        if target.base.startswith("https:"):
            checks.append(("TLS", _tls))
        checks.append(("clock", _clock))
    for present, name, probe in (
        (target.dimse, "DICOM echo", _echo),
        (target.dicomweb, "DICOMweb", _dicomweb),
        (target.fhir, "FHIR", _fhir),
        (target.xds_registry, "XDS", _xds),
    ):
        if present:
            checks.append((name, probe))
    if target.base:
        checks.append(("publication", _publication))
        checks.append(("objects", _objects))
    findings = []
    for name, check in checks:
        try:
            findings.append(await asyncio.wait_for(check(target, clock), 20))
        except TimeoutError:
            findings.append(
                Finding(
                    name,
                    "fail",
                    "No answer within 20 s.",
                    "Is the service running, and may this machine reach it?",
                )
            )
        except CrosslightError as error:
            findings.append(
                Finding(name, "fail", " ".join(p for p in (error.what, error.why) if p), error.todo or _REACH)
            )
    return findings


_REACH = "Check that the service runs and that address, port and firewall are right."


def _http(target: Target) -> HttpClient:
    tls = trusting_people(target.ca)
    return HttpClient(tls=tls, token=target.token, read_timeout_s=15, proxy=target.proxy)


async def _health(target: Target, _: Clock) -> Finding:
    async with _http(target) as client, client.request("GET", f"{target.base}/health/ready") as response:
        body = await read(response)
        if response.status != 200:
            return _not_ready(response.status, body)
        return _ready(body)


def _ready(body: bytes) -> Finding:
    try:
        said: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        said = None
    said = said if isinstance(said, dict) else {}
    children = str(said.get("children", ""))
    if (people := str(said.get("people_certificate", "ok"))) != "ok":
        return Finding(
            "health",
            "warn",
            f"Ready, but the people's certificate: {people}.",
            "Mend listen.people_certificate and people_key there; they are taken up by themselves.",
        )
    if (refused := str(said.get("refused_credentials", "ok"))) != "ok":
        return Finding(
            "health",
            "warn",
            f"Ready, but credentials are refused: {refused}.",
            "The audit says by which networks and why: `audit --action authenticate`.",
        )
    if children.startswith("not confined"):
        return Finding(
            "health",
            "warn",
            f"Ready, but what reads hostile bytes is {children}.",
            "Install libseccomp2, and start it again.",
        )
    return Finding(
        "health", "ok", f"Live and ready.{' What reads images is ' + children + '.' if children else ''}"
    )


def _not_ready(status: int, body: bytes) -> Finding:
    try:
        said: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        said = None
    if not isinstance(said, dict) or "ready" not in said:
        return Finding(
            "health", "fail", f"/health/ready answers HTTP {status}, not as ours.", "Is it another program?"
        )
    if (wrong := str(said.get("clock", "ok"))) not in ("", "ok"):
        return Finding(
            "health",
            "fail",
            f"Its clock is {wrong}.",
            "Set up NTP there; images are given out again by themselves.",
        )
    if said.get("accepting") is False:
        return Finding(
            "health",
            "fail",
            "Its disk is nearly full: nothing is taken in.",
            "Make room; archive.min_free_bytes is the reserve.",
        )
    if said.get("databases") is False:
        return Finding(
            "health", "fail", "Its database does not answer.", "See [database] in registry.toml, and its log."
        )
    return Finding("health", "fail", "It is not ready.", "See its log.")


async def _clock(target: Target, clock: Clock) -> Finding:
    async with _http(target) as client, client.request("GET", f"{target.base}/health/live") as response:
        stated = response.headers.get("Date", "")
    if not stated:
        return Finding(
            "clock",
            "warn",
            "It does not say its time.",
            "Put no proxy that strips the Date header before it.",
        )
    skew = (parsedate_to_datetime(stated) - clock.now()).total_seconds()
    skew = 0.0 if abs(skew) <= 1.0 else skew  # the header has whole seconds
    text = f"Its clock differs by {skew:+.0f} s from this machine's."
    if abs(skew) >= SKEW_FAIL_S:
        return Finding("clock", "fail", text, "Set up NTP on both; over 60 s new retrieves are refused.")
    if abs(skew) >= SKEW_WARN_S:
        return Finding("clock", "warn", text, "Set up NTP on both.")
    return Finding("clock", "ok", "Clocks agree.")


async def _tls(target: Target, clock: Clock) -> Finding:
    address = host_and_port(target.base)
    context = trusting_people(target.ca) or ssl.create_default_context()
    try:
        _, writer = await opened(address, target.proxy, context)
    except ssl.SSLCertVerificationError as error:
        return await _mistrusted(address, target.proxy, error)
    except ProxyRefusedError as error:
        return Finding("TLS", "fail", str(error), "Have it let this address through, or see region.proxy.")
    except OSError as error:
        return Finding("TLS", "fail", f"No TLS connection to {address}: {connection_trouble(error)}.", _REACH)
    tls: ssl.SSLObject = writer.get_extra_info("ssl_object")
    version, der = tls.version(), tls.getpeercert(True)
    writer.close()
    expires = x509.load_der_x509_certificate(der or b"").not_valid_after_utc
    left = (expires - clock.now()).total_seconds()
    if left < EXPIRY_WARN_S:
        return Finding(
            "TLS",
            "warn",
            f"{version}; the certificate ends {expires:%Y-%m-%d %H:%M} UTC.",
            "It should have been renewed.",
        )
    return Finding("TLS", "ok", f"{version}; the certificate is good until {expires:%Y-%m-%d}.")


async def _mistrusted(address: str, proxy: str, error: ssl.SSLCertVerificationError) -> Finding:
    """What is wrong with the certificate; one for other names is looked at, unverified, to say which."""
    if error.verify_code not in (_WRONG_NAME, _WRONG_ADDRESS):
        not_now = error.verify_code in (9, 10)  # OpenSSL: not yet valid, expired
        if proxy and not not_now:
            return Finding("TLS", "fail", await opener(address, proxy, 10, "the region's registry"), _REACH)
        todo = "Set the clocks right, or renew it." if not_now else "Give the region's CA bundle."
        return Finding("TLS", "fail", f"Not trusted: {connection_trouble(error)}.", todo)
    unverified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
    _, writer = await opened(address, proxy, unverified)
    der = writer.get_extra_info("ssl_object").getpeercert(True)
    writer.close()
    names = ", ".join(names_of(der or b"")) or "no name at all"
    return Finding(
        "TLS",
        "fail",
        f"{urlsplit(f'//{address}').hostname} is not a name in its certificate, which has: {names}.",
        "Set listen.public_host to one of these; or have the certificate made for it: a registry's in"
        " members.hosts, a node's by a new invitation with --host.",
    )


def names_of(der: bytes) -> list[str]:
    """The DNS names and addresses in a certificate."""
    try:
        extensions = x509.load_der_x509_certificate(der).extensions
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound):
        return []
    return [
        *names.get_values_for_type(x509.DNSName),
        *(str(a) for a in names.get_values_for_type(x509.IPAddress)),
    ]


async def _echo(target: Target, _: Clock) -> Finding:
    # pynetdicom takes a second to load; only this check needs it
    from crosslight.client.dimse import DimseClient

    host, _colon, port = target.dimse.rpartition(":")
    client = DimseClient(host, int(port), called=target.aet, calling=target.calling_aet)
    await asyncio.to_thread(client.echo)
    return Finding("DICOM echo", "ok", f"{target.aet} answers C-ECHO at {target.dimse}.")


async def _dicomweb(target: Target, _: Clock) -> Finding:
    async with _http(target) as client:
        headers = {"Accept": "application/dicom+json"}
        url = f"{target.dicomweb}/studies?limit=1&StudyInstanceUID={NOBODYS}"
        async with client.request("GET", url, headers=headers) as response:
            if response.status in (200, 204):
                return Finding("DICOMweb", "ok", "QIDO-RS answers.")
            if response.status == 401 and not target.token:
                return Finding("DICOMweb", "ok", "Answers, and asks for credentials.")
            return Finding(
                "DICOMweb", "fail", f"QIDO-RS answers HTTP {response.status}.", "See the log for this moment."
            )


async def _fhir(target: Target, _: Clock) -> Finding:
    async with _http(target) as client:
        body, _headers = await client.get(f"{target.fhir}/metadata", accept="application/fhir+json")
    statement: dict[str, Any] = orjson.loads(body)
    if statement.get("resourceType") != "CapabilityStatement":
        return Finding("FHIR", "fail", "/metadata is no CapabilityStatement.", "Is this the FHIR base?")
    return Finding("FHIR", "ok", f"FHIR {statement.get('fhirVersion')} answers.")


async def _xds(target: Target, _: Clock) -> Finding:
    if target.cert is None and target.xds_registry.startswith("https:"):
        return Finding(
            "XDS",
            "warn",
            "Not asked: no client certificate given.",
            "Make one: crosslight-registry system NAME FOLDER.",
        )
    try:
        tls = trusting(target.ca, target.cert, target.key)
        async with XdsClient(tls=tls, proxy=target.proxy) as client:
            await client.get_documents(
                target.xds_registry, entry_uuids=["urn:uuid:00000000-0000-4000-8000-000000000000"]
            )
    except (Unauthenticated, Forbidden) as error:
        return Finding(
            "XDS", "fail", error.what, "Is the certificate of this region, current, and not suspended?"
        )
    return Finding("XDS", "ok", "ITI-18 answers.")


async def _state(target: Target) -> dict[str, Any]:
    """What a node says of itself; {} where it says nothing that can be read."""
    async with _http(target) as client, client.request("GET", f"{target.base}/health/ready") as response:
        try:
            state = orjson.loads(await read(response))
        except orjson.JSONDecodeError:
            return {}
        return state if isinstance(state, dict) else {}


async def _objects(target: Target, _: Clock) -> Finding:
    """Whether what the node holds is whole, as far as it has read it again."""
    said = str((await _state(target)).get("archive_care") or "ok")
    if said == "ok":
        return Finding("objects", "ok", "None is known to be damaged or missing.")
    todo = "`crosslight-node status` names them: have them sent again, or `verify --repair-from` a backup."
    return Finding("objects", "fail" if "damaged" in said else "warn", f"{said}.".replace("..", "."), todo)


async def _publication(target: Target, _: Clock) -> Finding:
    state = await _state(target)
    waiting, parked = int(state.get("waiting", 0)), int(state.get("parked", 0))
    if state.get("suspended") is True:
        return Finding(
            "publication", "fail", "This node is suspended in its region.", "Ask the region's operator."
        )
    if state.get("linked") is False:
        return Finding(
            "publication",
            "fail",
            "No link to the registry.",
            "Outbound gRPC to the registry must be allowed; is it up?",
        )
    if reason := str(state.get("held_up") or ""):
        return Finding(
            "publication", "warn", f"Nothing is sent: {reason}", "`crosslight-node status` says more."
        )
    if (directory := str(state.get("directory") or "ok")) != "ok":
        return Finding(
            "publication",
            "warn",
            f"The region's directory is {directory}.",
            "Is the link up, and the clock right?",
        )
    if parked:
        refused = counted(parked, "study", "studies")
        return Finding(
            "publication", "warn", f"{refused} refused for good.", "`crosslight-node status` shows why."
        )
    if waiting > LAG_WARN:
        late = counted(waiting, "study", "studies")
        return Finding("publication", "warn", f"{late} not published yet.", "Watch it; it should fall.")
    return Finding("publication", "ok", f"{waiting} waiting, {parked} refused.")


def worst(findings: Sequence[Finding]) -> Result:
    """The worst result."""
    results = {f.result for f in findings}
    return "fail" if "fail" in results else "warn" if "warn" in results else "ok"
