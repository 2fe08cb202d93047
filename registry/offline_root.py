"""What the commands ``ca …`` do. Keys are made and kept where they are used; only certificates travel."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from rich.console import Console

from crosslight.runtime.clock import Ids
from crosslight.runtime.files import private_folder
from crosslight.runtime.seams import system_seams
from crosslight.runtime.tls import Identity, spki_pin
from crosslight.standards.problem import ConfigError, Malformed
from registry.commands import Offline, opened
from registry.members.csr import MAX_CSR_BYTES
from registry.members.hierarchy import (
    authority_name,
    constraints_in,
    in_words,
    read_request,
    self_signed,
    sign_issuing,
)


def _serial(ids: Ids) -> int:
    return int.from_bytes(ids.token_bytes(19), "big") | 1


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, soft_wrap=True)


# --- where the root is --------------------------------------------------------------------------------------


async def make(medium: Path, region: str, life: timedelta, passphrase: bytes, console: Console) -> None:
    """A new root: its key, encrypted where there is a passphrase, and its certificate.

    Raises:
        ConfigError: there is one already.
    """
    if (medium / "root.key").exists() or (medium / "root.pem").exists():
        raise ConfigError(f"There is a root in {medium} already.", todo="Use it, or another folder.")
    private_folder(medium)
    seams = system_seams()
    key = seams.ids.private_key()
    certificate = self_signed(
        key, authority_name(region, "root"), _serial(seams.ids), seams.clock.now(), life=life, path_length=1
    )
    encryption: KeySerializationEncryption = (
        BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    )
    seams.files.write_atomic(
        medium / "root.key", key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
    )
    seams.files.write_atomic(medium / "root.pem", certificate.public_bytes(Encoding.PEM))
    _say(console, f"Made a root in {medium}, good until {certificate.not_valid_after_utc:%Y-%m-%d}.")
    _say(console, f"Its pin, as invitations will carry it: {spki_pin(certificate)}")
    if not passphrase:
        _say(console, "WARNING: its key is not encrypted. Whoever has the medium is the region.")


def _request(path: Path) -> x509.CertificateSigningRequest:
    data = path.read_bytes()
    if len(data) > MAX_CSR_BYTES:
        raise Malformed("That is no request of an issuing authority.")
    return read_request(data)


async def shown(path: Path) -> str:
    """A request in words, for whoever decides whether to sign it."""
    request = _request(path)
    names = in_words(constraints_in(request))
    return f"{request.subject.rfc4514_string()} asks to be an issuing authority. It may then sign: {names}."


async def sign(
    medium: Path, request: Path, output: Path, life: timedelta, passphrase: bytes, console: Console
) -> None:
    """The issuing certificate and its root, as one file to install.

    Raises:
        ConfigError: no root is there, or the passphrase is wrong.
        Malformed: the request is none.
    """
    try:
        key = load_pem_private_key((medium / "root.key").read_bytes(), passphrase or None)
        root = x509.load_pem_x509_certificate((medium / "root.pem").read_bytes())
    except (FileNotFoundError, ValueError, TypeError):
        raise ConfigError(
            f"The root in {medium} cannot be used.", todo="Check folder and passphrase."
        ) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigError(f"The root in {medium} is of another kind.")
    seams = system_seams()
    asked = _request(request)
    issued = sign_issuing(key, root, asked, _serial(seams.ids), seams.clock.now(), life=life)
    seams.files.write_atomic(output, issued.public_bytes(Encoding.PEM) + root.public_bytes(Encoding.PEM))
    _say(console, f"Signed until {issued.not_valid_after_utc:%Y-%m-%d}: {output}. Nothing in it is secret.")


# --- where the registry is ----------------------------------------------------------------------------------


async def request(folder: Path, output: Path, console: Console) -> None:
    """Write what the root is to sign."""
    async with opened(folder) as offline:
        offline.ground.seams.files.write_atomic(output, offline.members.ca.request())
    _say(console, f"Wrote {output}: take it to the root, and run ca sign there. Nothing in it is secret.")


async def install(folder: Path, signed: Path, console: Console) -> None:
    """Issue by what was signed, and renew the registry's own certificates."""
    async with opened(folder) as offline:
        members, own = offline.members, offline.config.members.hosts
        rows = [row for m in members.all() if (row := members.row(m.id)) is not None]
        hosts = [offline.config.listen.public_host, *own, *(host for row in rows for host in row.hosts)]
        async with members.acts.act(None, "issue-certificate", "authority/issuing"):
            members.ca.install(signed.read_bytes(), hosts)
        members.own.open()
        _say(console, f"Installed. Restart the registry. {_in_words(offline)}")


async def retire(folder: Path, console: Console) -> None:
    """Trust the root alone."""
    async with opened(folder) as offline:
        members, ca = offline.members, offline.members.ca
        own = Identity("gateway", "", members.community).uri
        last = [  # of our own only the one that we show: the others are in nobody's hands
            issued.expires
            for issued in await members.store.credentials.certificates()
            if issued.issued <= ca.installed
            and (issued.identity != own or issued.serial == members.own.serial)
        ]
        async with offline.members.acts.act(None, "issue-certificate", "authority/retire"):
            done = ca.retire(max(last, default=ca.installed))
        words = "Retired: the root alone is trusted. Restart the registry."
        _say(console, words if done else _in_words(offline))


async def show(folder: Path, console: Console) -> None:
    """Whom the region trusts."""
    async with opened(folder) as offline:
        _say(console, _in_words(offline))


def _in_words(offline: Offline) -> str:
    ca = offline.members.ca
    names = in_words(constraints_in(ca.certificate))
    issuing = f"Certificates are issued until {ca.certificate.not_valid_after_utc:%Y-%m-%d}, for {names}."
    trusted = len(x509.load_pem_x509_certificates(ca.bundle.read_bytes()))
    if not ca.under_root:
        return f"{issuing} The issuing key is the root itself: whoever has it is the region for good."
    moving = " The authority from before the root is trusted too." if trusted > 1 else ""
    return f"{issuing} Its root is good until {ca.root.not_valid_after_utc:%Y-%m-%d}, pin {ca.pin}.{moving}"
