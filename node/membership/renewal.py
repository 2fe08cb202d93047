"""The node's certificate is renewed at two thirds of its life.

The new one is for a new key, and is asked for over mutual TLS with the old one.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import datetime
from typing import Any

import grpc
import grpc.aio
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from crosslight.pb import membership_pb2 as pb
from crosslight.pb import membership_pb2_grpc as pb_grpc
from crosslight.runtime.log import get_logger
from crosslight.runtime.seams import Seams
from crosslight.runtime.waiting import call_given_up
from crosslight.standards.problem import CrosslightError, Malformed, Unavailable
from node.membership.join import new_request
from node.membership.link import Link
from node.membership.state import RegionState

log = get_logger("region")

CALL_TIMEOUT_S = 20.0


def renew_at(certificate: x509.Certificate, jitter: float) -> datetime:
    """When to renew: at two thirds of its life, or up to a twelfth of it later.

    ``jitter``, from 0 to 1, spreads the nodes, so that not all ask at once.
    """
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return begin + (end - begin) * (2 / 3 + jitter / 12)


class Renewal:
    """Keeps the certificate fresh and puts it into use without a restart."""

    def __init__(self, state: RegionState, link: Link, seams: Seams) -> None:
        self._state = state
        self._link = link
        self._clock, self._ids = seams.clock, seams.ids
        self._draw = seams.draw
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to watch."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stop watching."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            leaf = self._state.credentials.leaf()
            life_s = (leaf.not_valid_after_utc - leaf.not_valid_before_utc).total_seconds()
            at = renew_at(leaf, self._draw())
            while (left_s := (at - self._clock.now()).total_seconds()) > 0:
                await self._clock.sleep(min(left_s, 60.0))
            try:
                await self.renew()
            except (CrosslightError, grpc.aio.AioRpcError, OSError) as error:
                code = error.code().name if isinstance(error, grpc.aio.AioRpcError) else type(error).__name__
                log.error(
                    "certificate not renewed", reason=code, expires=leaf.not_valid_after_utc.isoformat()
                )
            # Pause after a success too: with a clock far ahead every new certificate looks due at once.
            await self._clock.sleep(min(600.0, max(0.2, life_s / 30)))

    async def renew(self) -> None:
        """A new certificate, now.

        Raises:
            AioRpcError: if the registry refuses or cannot be reached.
            Malformed: if what it gave is not for our key.
            Unavailable: if the link was lost meanwhile.
        """
        key_pem, csr_pem = new_request(self._state.code, self._ids)
        stub: Any = pb_grpc.MembershipStub(self._link.channel())  # type: ignore[no-untyped-call]  # generated
        try:
            reply = await stub.Renew(
                pb.RenewRequest(csr_pem=csr_pem), timeout=CALL_TIMEOUT_S, metadata=self._link.metadata
            )
        except asyncio.CancelledError:
            if call_given_up():
                raise Unavailable("The link was lost while the certificate was waited for.") from None
            raise
        try:
            leaf = x509.load_pem_x509_certificates(reply.chain_pem)[0]
        except (ValueError, IndexError):
            raise Malformed("The renewed certificate cannot be read.") from None
        if leaf.public_key() != load_pem_private_key(key_pem, None).public_key():
            raise Malformed("The renewed certificate is for another key.")
        self._state.replace_certificate(key_pem, reply.chain_pem, reply.bundle_pem)
        log.info("certificate renewed", expires=leaf.not_valid_after_utc.isoformat())
        if not self._link.open_mode:
            self._link.certificate_changed()
