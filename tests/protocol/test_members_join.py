"""Joining over real TLS: pin before secret, one use, expiry, certificate contents, joining again."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from callers import operator
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from members_region import CLOCK, FAST, FILES, IDS, TestRegistry, registry

from crosslight.runtime.seams import system_seams
from crosslight.runtime.tls import client_context
from crosslight.standards.membership import Invitation
from crosslight.standards.problem import ConfigError, Conflict, Forbidden, Gone, Malformed, Unauthenticated
from node.membership.join import join, new_request
from node.membership.state import RegionState


async def test_join_gives_identity_and_files(tmp_path: Path) -> None:
    async with registry(tmp_path / "r") as r:
        state = await r.joined("RTK", tmp_path / "n")
        root = r.members.root_oid
        assert state.member.repository_unique_id == f"{root}.10.1.1"
        assert state.member.retrieve_location_uid == f"{root}.10.1.2"
        assert state.member.authority == f"{root}.10.1.3"
        assert state.member.epoch == 1
        assert state.registry.grpc == f"127.0.0.1:{r.grpc_port}"
        leaf = state.credentials.leaf()
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.UniformResourceIdentifier) == [
            f"spiffe://{state.region.home_community_id}/member/RTK"
        ]
        uses = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH} == set(uses)
        for name in ("identity.pem", "member.json"):
            assert (tmp_path / "n" / name).stat().st_mode & 0o777 == 0o600


async def test_wrong_pin_aborts_before_the_secret_is_sent(tmp_path: Path) -> None:
    async with registry(tmp_path / "r") as r:
        invitation = Invitation.parse(await r.invite("RTK"))
        forged = replace(invitation, pin="0" * 64)
        with pytest.raises(Forbidden, match="pin"):
            await join(forged.text(), tmp_path / "n", system_seams())
        assert r.seen == ["GET"]
        assert not (tmp_path / "n").exists()
        await join(invitation.text(), tmp_path / "n", system_seams())  # it is still good


async def test_another_registry_with_the_right_bundle_cannot_take_the_secret(tmp_path: Path) -> None:
    """Someone who shows the real bundle under a certificate of their own: the bundle is public, the key is
    not.
    """
    async with registry(tmp_path / "r") as real, registry(tmp_path / "rogue") as rogue:
        invitation = Invitation.parse(await real.invite("RTK"))
        rogue.members.ca.bundle.write_bytes(real.members.ca.bundle.read_bytes())
        aimed = replace(invitation, url=rogue.url)
        with pytest.raises(Exception, match="cannot be reached"):
            await join(aimed.text(), tmp_path / "n", system_seams())
        assert rogue.seen == ["GET"]


async def test_an_invitation_admits_once(tmp_path: Path) -> None:
    async with registry(tmp_path / "r") as r:
        invitation = await r.invite("RTK")
        await join(invitation, tmp_path / "n", system_seams())
        with pytest.raises(Conflict):
            await join(invitation, tmp_path / "n", system_seams())
        acts = [(e.action, e.decision) for e in await r.audit.search()]
        assert ("join", "permit") in acts
        assert (
            "join",
            "deny",
        ) not in acts  # a spent secret is a stranger's: tests/attacks/test_refusals_seen.py


async def test_expired_and_superseded_invitations(tmp_path: Path) -> None:
    async with registry(tmp_path / "r", replace(FAST, invitation_hours=0.0001)) as r:
        invitation = await r.invite("RTK")
        await CLOCK.sleep(0.5)
        with pytest.raises(Gone):
            await join(invitation, tmp_path / "n", system_seams())
    async with registry(tmp_path / "s") as r:
        older = await r.invite("RTK")
        newer = await r.invite("RTK")
        with pytest.raises(Conflict):
            await join(older, tmp_path / "n", system_seams())
        await join(newer, tmp_path / "n", system_seams())


async def test_unknown_secret(tmp_path: Path) -> None:
    async with registry(tmp_path / "r") as r:
        invitation = Invitation.parse(await r.invite("RTK"))
        with pytest.raises(Unauthenticated):
            await join(replace(invitation, secret="f" * 64).text(), tmp_path / "n", system_seams())


async def test_joining_again_keeps_oids_and_secret_and_takes_a_new_epoch(tmp_path: Path) -> None:
    async with registry(tmp_path / "r") as r:
        first = await r.joined("RTK", tmp_path / "n")
        await r.publish("RTK", 9)
        second = await r.joined("RTK", tmp_path / "elsewhere")
        assert second.member.repository_unique_id == first.member.repository_unique_id
        assert second.member.secret == first.member.secret
        assert second.member.epoch == 2
        assert second.credentials.leaf().serial_number != first.credentials.leaf().serial_number


async def test_a_node_does_not_become_another_member(tmp_path: Path) -> None:
    async with registry(tmp_path / "r") as r:
        await r.joined("RTK", tmp_path / "n")
        with pytest.raises(ConfigError, match="RTK"):
            await join(await r.invite("RA2"), tmp_path / "n", system_seams())


async def test_suspended_member_cannot_join(tmp_path: Path) -> None:
    async with registry(tmp_path / "r") as r:
        await r.joined("RTK", tmp_path / "n")
        invitation = await r.invite("RTK")
        await r.members.suspend("RTK", "test")
        with pytest.raises(Forbidden):
            await join(invitation, tmp_path / "n", system_seams())
        with pytest.raises(Conflict):
            await r.invite("RTK")


async def _post(r: TestRegistry, body: Any) -> int:
    context = client_context(r.members.ca.bundle)
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{r.url}/join", json=body, ssl=context) as response,
    ):
        return response.status


async def test_csr_extensions_are_ignored(tmp_path: Path) -> None:
    async with registry(tmp_path / "r") as r:
        key = ec.generate_private_key(ec.SECP256R1())
        forged = (
            x509.CertificateSigningRequestBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "RA2")]))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName(
                    [
                        x509.UniformResourceIdentifier("spiffe://1.2.826.0.1.3680043.10.1/gateway"),
                        x509.DNSName("gateway.crosslight.internal"),
                    ]
                ),
                critical=False,
            )
            .sign(key, hashes.SHA256())
        )
        invitation = Invitation.parse(await r.invite("RTK"))
        body = {"secret": invitation.secret, "csr_pem": forged.public_bytes(Encoding.PEM).decode()}
        context = client_context(r.members.ca.bundle)
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{r.url}/join", json=body, ssl=context) as response,
        ):
            chain = (await response.json())["chain_pem"]
        leaf = x509.load_pem_x509_certificate(chain.encode())
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.UniformResourceIdentifier) == [
            "spiffe://1.2.826.0.1.3680043.10.1/member/RTK"
        ]
        assert names.get_values_for_type(x509.DNSName) == ["localhost"]
        assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        assert leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "RTK"


async def test_a_bad_request_does_not_cost_the_invitation(tmp_path: Path) -> None:
    async with registry(tmp_path / "r") as r:
        text = await r.invite("RTK")
        secret = Invitation.parse(text).secret
        _, csr = new_request("RTK", IDS)
        no_csr, no_text = {"secret": secret, "csr_pem": "x"}, {"secret": 1, "csr_pem": csr.decode()}
        bodies: tuple[Any, ...] = ({}, {"secret": secret}, no_csr, no_text, [])
        for body in bodies:
            assert await _post(r, body) == 400
        assert await _post(r, {"secret": secret, "csr_pem": "x" * 70000}) == 413
        await join(text, tmp_path / "n", system_seams())


async def test_open_mode_joins_on_plain_http_and_still_checks_the_pin(tmp_path: Path) -> None:
    async with registry(tmp_path / "r", open_mode=True) as r:
        invitation = Invitation.parse(await r.invite("RTK"))
        with pytest.raises(Forbidden):
            await join(replace(invitation, pin="0" * 64).text(), tmp_path / "n", system_seams())
        state = await join(invitation.text(), tmp_path / "n", system_seams())
        assert RegionState(tmp_path / "n", FILES).code == state.code == "RTK"


async def test_invitation_expiry_is_seventy_two_hours_by_default(tmp_path: Path) -> None:
    async with registry(tmp_path / "r") as r:
        await r.invite("RTK")
        row = await r.db.read("t", lambda tx: tx.row("SELECT made, expires FROM invitation"))
        assert row is not None
        life = datetime.fromisoformat(row[1]) - datetime.fromisoformat(row[0])
        assert timedelta(hours=71.9) < life < timedelta(hours=72.1)


async def test_patient_authorities_are_agreed_at_joining(tmp_path: Path) -> None:
    """Said in the invitation, or asked for by the node and agreed to by the operator: the node hears it by
    the directory.
    """
    async with registry(tmp_path / "r") as r:
        invitation = await r.members.invite("RTK", r.url, authorities=("1.2.3.77",))
        state = await join(invitation, tmp_path / "n", system_seams(), ["1.2.3.77", "1.2.3.78"])
        assert (state.member.authorities, state.member.asked) == (("1.2.3.77",), ("1.2.3.78",))
        again = RegionState(tmp_path / "n", FILES)
        assert again.member == state.member, "kept"
        await r.members.authorities.agree("RTK", ["1.2.3.78"], shared=False, by=operator())
        state.accept_directory(r.members.signed_directory()[1], CLOCK.now())
        assert (state.member.authorities, state.member.asked) == (("1.2.3.77", "1.2.3.78"), ())
        assert RegionState(tmp_path / "n", FILES).member == state.member


@pytest.mark.parametrize("authority", ["PAS", "2.16.840.1.113883.2.1.4.1", "1.2.826.0.1.3680043.10.1.2"])
async def test_an_authority_that_cannot_be_the_trusts_own_costs_no_invitation(
    tmp_path: Path, authority: str
) -> None:
    async with registry(tmp_path / "r") as r:
        invitation = await r.invite("RTK")
        with pytest.raises(Malformed):
            await join(invitation, tmp_path / "n", system_seams(), [authority])
        await join(invitation, tmp_path / "n", system_seams())
