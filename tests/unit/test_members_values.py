"""Membership's values: invitations, certificates, identities, the directory, presence, live connections."""

from __future__ import annotations

import base64
import os
import stat
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st
from members_clock import FakeClock

from crosslight.runtime.clock import SystemIds
from crosslight.runtime.files import SystemFiles
from crosslight.runtime.tls import Identity, identity_of, peer_identity, spki_pin
from crosslight.standards.ids import Oid
from crosslight.standards.membership import (
    Invitation,
)
from crosslight.standards.problem import (
    ConfigError,
    CrosslightError,
    Invalid,
    Malformed,
    TooLarge,
    Unauthenticated,
)
from node.membership.join import new_request, pinned
from node.membership.renewal import renew_at
from registry.members.ca import CertificateAuthority, due
from registry.members.csr import csr_public_key

# --- invitations --------------------------------------------------------------------------------------------


INVITATION = Invitation(url="https://registry.example:8600", pin="ab" * 32, code="RTK", secret="s" * 64)


def test_invitation_round_trip_survives_mail_programs() -> None:
    text = INVITATION.text()
    assert text.startswith("crosslight-invitation:")
    assert Invitation.parse(text) == INVITATION
    folded = "\n ".join(text[i : i + 40] for i in range(0, len(text), 40))
    assert Invitation.parse(f"  {folded}\r\n") == INVITATION
    assert "s" * 64 not in repr(INVITATION)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "crosslight-invitation:",
        "crosslight-invitation:!!!",
        INVITATION.text()[:-10],
        "crosslight-invitation:" + "A" * 3000,
        replace(INVITATION, pin="xyz").text(),
        replace(INVITATION, url="ftp://x").text(),
        replace(INVITATION, secret="").text(),
        INVITATION.text().removeprefix("crosslight-"),
    ],
)
def test_broken_invitations(text: str) -> None:
    with pytest.raises(Malformed):
        Invitation.parse(text)


@given(st.text(max_size=200))
def test_any_text_is_an_invitation_or_malformed(text: str) -> None:
    for candidate in (text, "crosslight-invitation:" + text):
        with pytest.raises(Malformed):
            Invitation.parse(candidate)


# --- identities ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "identity",
    [Identity("member", "RTK", "1.2.3"), Identity("gateway", "", "1.2.3"), Identity("system", "a-b", "1")],
)
def test_identity_round_trip(identity: Identity) -> None:
    assert Identity.parse(identity.uri) == identity
    assert peer_identity({"subjectAltName": (("DNS", "x"), ("URI", identity.uri))}) == identity


@pytest.mark.parametrize(
    "uris",
    [
        [],
        ["spiffe://1.2.3/member/RTK", "spiffe://1.2.3/gateway"],
        ["spiffe://1.2.3/gateway/x"],
        ["spiffe://1.2.3/member"],
        ["spiffe://1.2.3/member/RTK/x"],
        ["spiffe://1.2.3/member/RTK\n"],
        ["https://1.2.3/member/RTK"],
        ["spiffe:///member/RTK"],
        ["spiffe://1.2.3/admin/RTK"],
        ["SPIFFE://1.2.3/member/RTK"],
    ],
)
def test_identities_that_are_none(uris: list[str]) -> None:
    with pytest.raises(Unauthenticated):
        identity_of(uris)
    with pytest.raises(Unauthenticated):
        peer_identity({"subjectAltName": tuple(("URI", uri) for uri in uris)})


def test_no_certificate_is_nobody() -> None:
    with pytest.raises(Unauthenticated):
        peer_identity(None)


# --- the authority ------------------------------------------------------------------------------------------


def _authority(folder: Path, clock: Any = None) -> CertificateAuthority:
    ca = CertificateAuthority(folder, Oid("1.2.3"), "Test", clock or FakeClock(), SystemIds(), SystemFiles())
    ca.open()
    return ca


def test_authority_keeps_its_key(tmp_path: Path) -> None:
    first = _authority(tmp_path / "ca")
    assert stat.S_IMODE((tmp_path / "ca" / "ca.key").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "ca").stat().st_mode) == 0o700
    assert _authority(tmp_path / "ca").pin == first.pin == spki_pin(first.certificate)
    os.chmod(tmp_path / "ca" / "ca.key", 0o644)
    with pytest.raises(ConfigError, match="read by others"):
        _authority(tmp_path / "ca")


def test_half_an_authority_is_refused(tmp_path: Path) -> None:
    _authority(tmp_path / "a")
    _authority(tmp_path / "b")
    (tmp_path / "b" / "ca.pem").write_bytes((tmp_path / "a" / "ca.pem").read_bytes())
    with pytest.raises(ConfigError, match="belong together"):
        _authority(tmp_path / "b")
    (tmp_path / "a" / "ca.key").unlink()
    with pytest.raises(ConfigError, match="half"):
        _authority(tmp_path / "a")


def test_requests_that_are_refused(tmp_path: Path) -> None:
    _, good = new_request("RTK", SystemIds())
    assert csr_public_key(good)
    with pytest.raises(Malformed):
        csr_public_key(b"rubbish")
    with pytest.raises(TooLarge):
        csr_public_key(good + b"x" * 20000)
    short = rsa.generate_private_key(65537, 2048)
    weak = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(short, hashes.SHA256())
    with pytest.raises(Invalid):
        csr_public_key(weak.public_bytes(Encoding.PEM))
    der = bytearray(x509.load_pem_x509_csr(good).public_bytes(Encoding.DER))
    der[-1] ^= 1
    forged = (
        b"-----BEGIN CERTIFICATE REQUEST-----\n"
        + base64.encodebytes(bytes(der))
        + b"-----END CERTIFICATE REQUEST-----\n"
    )
    with pytest.raises(Malformed):
        csr_public_key(forged)


def test_renewal_is_due_at_two_thirds(tmp_path: Path) -> None:
    clock = FakeClock()
    ca = _authority(tmp_path, clock)
    _, csr = new_request("RTK", SystemIds())
    leaf = x509.load_pem_x509_certificate(ca.member(csr, "RTK", (), timedelta(days=6)).chain_pem)
    begin = leaf.not_valid_before_utc
    assert not due(leaf, begin + timedelta(days=3.9))
    assert due(leaf, begin + timedelta(days=4.01))
    assert timedelta(days=3.99) < renew_at(leaf, 0) - begin < timedelta(days=4.01)
    assert timedelta(days=4.4) < renew_at(leaf, 1) - begin < timedelta(days=4.51)
    brief = x509.load_pem_x509_certificate(ca.member(csr, "RTK", (), timedelta(seconds=60)).chain_pem)
    assert not due(brief, clock.now())  # a fresh one is never due, however short its life
    assert renew_at(brief, 0) > clock.now() + timedelta(seconds=30)


def test_pin(tmp_path: Path) -> None:
    ca, other = _authority(tmp_path / "a"), _authority(tmp_path / "b")
    both = ca.bundle.read_text() + other.bundle.read_text()
    assert pinned(both, ca.pin) == ca.bundle.read_text()
    for bundle in (other.bundle.read_text(), "", "rubbish"):
        with pytest.raises(CrosslightError, match="pin"):
            pinned(bundle, ca.pin)
