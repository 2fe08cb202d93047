"""An issuing authority under an offline root: the ceremony by its commands, and a region that moves."""

from __future__ import annotations

import asyncio
import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import ClientError
from click.testing import CliRunner
from closed_region import Closed, closed_region
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from node_serving import ct
from whole_region import FILES, HOST, IDS, until

from crosslight.runtime.http import client_session
from crosslight.runtime.seams import system_seams
from crosslight.runtime.tls import client_context, spki_pin
from crosslight.standards.ids import Oid
from crosslight.standards.membership import INVITATION_PREFIX, Invitation
from crosslight.standards.problem import Conflict, Invalid, Malformed
from node.membership.joined import RegionConnection
from node.setup import init_node, join_region
from registry.__main__ import main
from registry.members.ca import CertificateAuthority
from registry.members.hierarchy import (
    authority_name,
    constraints_in,
    constraints_of,
    permitted,
    read_request,
    self_signed,
    sign_issuing,
    within,
)
from registry.setup import init_registry

DOMAINS = ("localhost", f"{HOST}/32", "trust.example")


def said(*arguments: str | Path, status: int = 0, given: str = "") -> str:
    """What a command prints."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], input=given)
    assert result.exit_code == status, (arguments, result.output, result.exception)
    return result.output


def test_the_ceremony_by_its_commands(tmp_path: Path) -> None:
    """As docs/operations.md has it: a root, the move under it, a renewal, and the old authority let go."""
    folder, medium, stick = tmp_path / "registry", tmp_path / "medium", tmp_path / "stick"
    stick.mkdir()
    init_registry(folder, FILES, IDS, {"members": {"domains": list(DOMAINS)}})
    assert "is the root itself" in said("--dir", folder, "ca", "show")
    bundle = folder / "ca" / "ca.pem"
    old = x509.load_pem_x509_certificate(bundle.read_bytes())

    assert "not encrypted" not in said("ca", "root", medium, "--region", "Test", given="secret\nsecret\n")
    assert stat.S_IMODE((medium / "root.key").stat().st_mode) == 0o600
    assert b"ENCRYPTED" in (medium / "root.key").read_bytes()
    assert "already" in said("ca", "root", medium, "--region", "Test", "--no-passphrase", status=1)

    said("--dir", folder, "ca", "request", stick / "1.csr")
    assert b"PRIVATE" not in (stick / "1.csr").read_bytes()
    asks = said("ca", "sign", medium, stick / "1.csr", stick / "1.pem", given="n\n", status=1)
    assert "trust.example" in asks
    assert not (stick / "1.pem").exists()
    said("ca", "sign", medium, stick / "1.csr", stick / "1.pem", given="y\nwrong\n", status=1)
    said("ca", "sign", medium, stick / "1.csr", stick / "1.pem", given="y\nsecret\n")
    moved = said("--dir", folder, "ca", "install", stick / "1.pem")
    assert "from before the root is trusted too" in moved
    root = x509.load_pem_x509_certificate((medium / "root.pem").read_bytes())
    assert x509.load_pem_x509_certificates(bundle.read_bytes()) == [root, old]
    invitation = next(
        word for word in said("--dir", folder, "invite", "RTK").split() if word.startswith(INVITATION_PREFIX)
    )
    assert Invitation.parse(invitation).pin == spki_pin(root)

    said("--dir", folder, "ca", "retire")
    assert x509.load_pem_x509_certificates(bundle.read_bytes()) == [root]

    said("--dir", folder, "ca", "request", stick / "2.csr")
    said("ca", "sign", medium, stick / "2.csr", stick / "2.pem", "--yes", "--days", "30", given="secret\n")
    first, second = (x509.load_pem_x509_certificates((stick / f"{n}.pem").read_bytes())[0] for n in (1, 2))
    assert first.public_key() == old.public_key(), "what it signed goes on at the move"
    assert second.public_key() != first.public_key(), "a renewal has a new key"
    said("--dir", folder, "ca", "install", stick / "2.pem")
    assert "another key" in said("--dir", folder, "ca", "install", stick / "1.pem", status=1)
    told = said("--dir", folder, "ca", "show")
    assert f"{second.not_valid_after_utc:%Y-%m-%d}" in told
    assert spki_pin(root) in told
    for name in ("people.pem", "gateway.pem"):
        chain = x509.load_pem_x509_certificates((folder / "tls" / name).read_bytes())
        assert chain[1:] == [second], "the chain is served"
        chain[0].verify_directly_issued_by(second)


def new_root() -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    """A root's key and certificate."""
    key = IDS.private_key()
    name = authority_name("Test", "root")
    return key, self_signed(key, name, 7, datetime.now(UTC), life=timedelta(days=30), path_length=1)


def sign(ca: CertificateAuthority, key: ec.EllipticCurvePrivateKey, root: x509.Certificate) -> bytes:
    """What the root gives back."""
    issued = sign_issuing(key, root, read_request(ca.request()), 9, datetime.now(UTC))
    return issued.public_bytes(Encoding.PEM) + root.public_bytes(Encoding.PEM)


async def fetched(region: Closed) -> int:
    async with region.http.get(f"{region.base}/dicomweb/studies/1.2.1/metadata") as answer:
        return answer.status


async def test_a_region_moves_and_nobody_is_cut_off(tmp_path: Path) -> None:
    async with closed_region(tmp_path, ("RTK",), members={"domains": list(DOMAINS)}) as region:
        members, node = region.registry.members, region.nodes["RTK"]
        await region.add("RTK", ct())
        earlier = await members.invite("RYR", region.base, hosts=(HOST,))
        key, root = new_root()
        members.ca.install(sign(members.ca, key, root), (HOST, "localhost"))
        members.own.renew_due()
        assert await fetched(region) == 200, "nodes know the old authority, and that is enough"
        # who joins from now on pins the root; who was invited before joins by the old pin
        for code, invitation in (("RYR", earlier), ("RA2", await members.invite("RA2", region.base))):
            init_node(tmp_path / code, FILES, {})
            state = await join_region(tmp_path / code, invitation, system_seams())
            chain = x509.load_pem_x509_certificates((state.folder / "identity.pem").read_bytes())
            assert len(chain) == 2
            assert x509.load_pem_x509_certificates((state.folder / "bundle.pem").read_bytes())[0] == root
        connection = node.connection
        assert isinstance(connection, RegionConnection)
        await connection._renewal.renew()
        with pytest.raises(Conflict):
            members.ca.retire(datetime.now(UTC) + timedelta(days=1))
        assert members.ca.retire(datetime.now(UTC) - timedelta(days=1))
        members.own.renew_due()
        await connection._renewal.renew()
        bundle = region.nodes["RTK"].folder / "region" / "bundle.pem"
        assert x509.load_pem_x509_certificates(bundle.read_bytes()) == [root], "the nodes' bundle is the root"

        # a new issuing key under the same root: nothing has to be told to anybody
        members.ca.install(sign(members.ca, key, root), (HOST, "localhost"))
        members.own.renew_due()
        await connection._renewal.renew()

        async def linked() -> bool:
            return node.connection.status.connected

        await until(linked)
        async with client_session(client_context(members.ca.bundle)) as browser:
            async with browser.get(f"{region.base}/health/live") as answer:
                assert answer.status == 200
        assert await fetched(region) == 200


@pytest.fixture
def authority(tmp_path: Path) -> CertificateAuthority:
    seams = system_seams()
    made = CertificateAuthority(
        tmp_path / "ca", Oid("1.2.3"), "Test", seams.clock, seams.ids, seams.files, DOMAINS
    )
    (tmp_path / "ca").mkdir()
    made.open()
    return made


def test_what_is_no_signed_certificate_changes_nothing(authority: CertificateAuthority) -> None:
    key, root = new_root()
    _, stranger = new_root()
    good = sign(authority, key, root)
    issuing = x509.load_pem_x509_certificates(good)[0].public_bytes(Encoding.PEM)
    before = authority.bundle.read_bytes()
    for bad, kind in (
        (b"nothing", Malformed),
        (issuing, Malformed),
        (issuing + stranger.public_bytes(Encoding.PEM), Invalid),
        (root.public_bytes(Encoding.PEM) * 2, Invalid),
    ):
        with pytest.raises(kind):
            authority.install(bad, ())
    with pytest.raises(Invalid) as told:
        authority.install(good, ("node.elsewhere.example",))
    assert told.value.where == "node.elsewhere.example"
    assert authority.bundle.read_bytes() == before
    assert not authority.under_root


@pytest.mark.parametrize("done", ["issuing", "bundle"])
def test_an_installation_that_breaks_off_can_be_opened(authority: CertificateAuthority, done: str) -> None:
    """After any of its files the region has an authority, and the command can be given again."""
    key, root = new_root()
    signed = sign(authority, key, root)
    issuing, _ = x509.load_pem_x509_certificates(signed)
    folder = authority.bundle.parent
    (folder / "issuing.pem").write_bytes(issuing.public_bytes(Encoding.PEM))
    if done == "bundle":
        authority.bundle.write_bytes(root.public_bytes(Encoding.PEM) + authority.bundle.read_bytes())
    authority.open()
    assert authority.under_root is (done == "bundle")
    authority.install(signed, ())
    assert authority.under_root
    following = x509.load_pem_x509_certificates(sign(authority, key, root))[0]
    (folder / "issuing.pem").write_bytes(following.public_bytes(Encoding.PEM))
    authority.open()
    assert authority.certificate == following
    assert not (folder / "next.key").exists()


def test_name_constraints() -> None:
    constraints = constraints_of(DOMAINS)
    for host in ("localhost", HOST, "trust.example", "node.trust.example", "gateway.crosslight.internal"):
        assert permitted(constraints, host), host
        assert within(DOMAINS, host), host
    for host in ("www.google.com", "nottrust.example", "example"):
        assert not permitted(constraints, host), host
        assert permitted(None, host)
    for host in ("www.google.com", "nottrust.example", "10.0.0.1", "::1"):
        assert not within(DOMAINS, host), host
        assert within((), host)
    assert constraints_of(()) is None
    names_only = constraints_of(("trust.example",))
    assert not permitted(names_only, HOST)
    with pytest.raises(Invalid):
        constraints_of(("*.example",))


async def test_tls_itself_refuses_a_name_outside(tmp_path: Path, authority: CertificateAuthority) -> None:
    """Whatever the authority's software were made to sign."""
    assert constraints_in(authority.certificate) == constraints_of(DOMAINS)
    for host, good in (("localhost", True), ("www.google.com", False)):
        path = tmp_path / "pair.pem"
        if not good:
            with pytest.raises(Invalid):
                authority.write_pair(path, None, (host,), timedelta(days=1))
            monkey = pytest.MonkeyPatch()
            monkey.setattr(CertificateAuthority, "may_sign", lambda *_: True)
        authority.write_pair(path, None, (host,), timedelta(days=1))
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(path)
        listening = await asyncio.start_server(lambda r, w: w.close(), HOST, 0, ssl=server)
        port = listening.sockets[0].getsockname()[1]
        try:
            trusting = client_context(authority.bundle)
            connection = asyncio.open_connection(HOST, port, ssl=trusting, server_hostname=host)
            if good:
                _, writer = await connection
                writer.close()
            else:
                with pytest.raises((ssl.SSLCertVerificationError, ClientError)) as told:
                    await connection
                assert "subtree" in str(told.value)
                monkey.undo()
        finally:
            listening.close()
