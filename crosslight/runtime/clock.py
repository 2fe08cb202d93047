"""The seam for time and randomness (D24): nothing else may read the clock or make random ids."""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:  # commands that only look into a database do without
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey


class Clock(Protocol):
    """Wall clock, monotonic clock and sleep."""

    def now(self) -> datetime:
        """The time in UTC, aware."""
        ...

    def monotonic_s(self) -> float:
        """Seconds on a clock that never steps."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait so many seconds on this clock."""
        ...


class SystemClock:
    """The real one."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic_s(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class Ids(Protocol):
    """Random identifiers and secrets."""

    def uuid4(self) -> uuid.UUID:
        """A random UUID."""
        ...

    def token_bytes(self, n: int) -> bytes:
        """``n`` unguessable bytes."""
        ...

    def key63(self) -> int:
        """A random positive 63-bit key (D7: patient keys are random)."""
        ...

    def private_key(self) -> EllipticCurvePrivateKey:
        """A fresh P-256 key."""
        ...


class SystemIds:
    """From the operating system's generator."""

    def uuid4(self) -> uuid.UUID:
        return uuid.UUID(bytes=os.urandom(16), version=4)

    def token_bytes(self, n: int) -> bytes:
        return os.urandom(n)

    def key63(self) -> int:
        return int.from_bytes(os.urandom(8), "big") >> 1 or 1

    def private_key(self) -> EllipticCurvePrivateKey:
        from cryptography.hazmat.primitives.asymmetric import ec

        return ec.generate_private_key(ec.SECP256R1())


def dtm(moment: datetime) -> str:
    """A moment as HL7 DTM in UTC to the second: ``YYYYMMDDhhmmss`` (ITI TF-3 Table 4.2.3.1.7-2)."""
    return moment.astimezone(UTC).strftime("%Y%m%d%H%M%S")


def instant(moment: datetime) -> str:
    """A moment as a FHIR instant in UTC to the millisecond."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
