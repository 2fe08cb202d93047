"""Doctor's hints: a certificate for other names names them, a full disk is a sentence, a stranger on the port
is none of ours.
"""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from crosslight.client.doctor import Target, _not_ready, _ready, _tls
from crosslight.runtime.clock import SystemClock


def _certificate(folder: Path, *, ended: bool = False) -> Path:
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "node")])
    names = [x509.DNSName("node.trust.example"), x509.IPAddress(ipaddress.ip_address("10.0.0.1"))]
    if ended:
        names.append(x509.DNSName("localhost"))
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=9))
        .not_valid_after(now + timedelta(days=-1 if ended else 9))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "node.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.mark.parametrize(
    ("ended", "words"),
    [
        (False, "localhost is not a name in its certificate, which has: node.trust.example, 10.0.0.1."),
        (True, "Not trusted: its certificate has ended."),
    ],
)
async def test_what_is_wrong_with_a_certificate(tmp_path: Path, ended: bool, words: str) -> None:
    path = _certificate(tmp_path, ended=ended)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    try:
        found = await _tls(Target(name="n", base=f"https://localhost:{port}", ca=path), SystemClock())
    finally:
        server.close()
    assert (found.result, found.what) == ("fail", words)
    assert found.todo


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"ready": false, "accepting": false}', "Its disk is nearly full"),
        (b'{"ready": false, "databases": false}', "Its database does not answer."),
        (b'{"ready": false, "clock": "61 s ahead"}', "Its clock is 61 s ahead."),
        (b'{"ready": false}', "It is not ready."),
        (b"<html>", "not as ours"), (b"[]", "not as ours"), (b'{"a": 1}', "not as ours"),
    ],
)  # fmt: skip
def test_why_it_is_not_ready(body: bytes, words: str) -> None:
    found = _not_ready(503, body)
    assert found.result == "fail"
    assert words in found.what
    assert "{" not in found.what
    assert found.todo


def test_what_is_not_confined_is_warned_of() -> None:
    for body in (
        b'{"ready": true}',
        b'{"ready": true, "children": "confined by seccomp and Landlock"}',
        b"x",
    ):
        assert _ready(body).result == "ok"
    found = _ready(b'{"ready": true, "children": "not confined: needs seccomp"}')
    assert (found.result, found.todo) == ("warn", "Install libseccomp2, and start it again.")
    assert "not confined: needs seccomp" in found.what


def test_refused_credentials_are_warned_of() -> None:
    assert _ready(b'{"ready": true, "refused_credentials": "ok"}').result == "ok"
    found = _ready(b'{"ready": true, "refused_credentials": "ALARM: 120 or more in a minute"}')
    assert found.result == "warn"
    assert "ALARM: 120 or more in a minute" in found.what
    assert "--action authenticate" in found.todo
