"""The people's listener on a certificate of any outside authority, which a program of others renews.

Browsers trust public authorities, so nobody has to be told to trust the region's own. The files are what any
ACME client (RFC 8555) or an operator leaves there. New ones are taken up while the service runs, for each
handshake from then on; ones that cannot be used are not, and are told of in log and health until they are
mended.
"""

from __future__ import annotations

import ssl
from datetime import datetime
from pathlib import Path

from cryptography import x509

from crosslight.runtime.clock import Clock
from crosslight.runtime.health import Gauge
from crosslight.runtime.log import get_logger
from crosslight.runtime.tls import pem_blocks, server_context
from crosslight.standards.problem import ConfigError

log = get_logger("tls")

LOOK_EVERY_S = 10.0
_TODO = "Give a PEM chain, the server's own certificate first, and its key without a passphrase."


class OutsideCertificate:
    """A chain and its key as files, and the context for new handshakes.

    Args:
        cert: The chain, PEM.
        key: Its key, PEM; may be the same file.
        clock: Says whether it holds now.
    """

    def __init__(self, cert: Path, key: Path, clock: Clock) -> None:
        self._cert, self._key, self._clock = cert, key, clock
        self._seen: tuple[tuple[int, int, int], ...] = ()
        self._refused = ""  # why the files as they are now are not used
        self._ends: datetime
        self.context: ssl.SSLContext

    def open(self) -> None:
        """Load the files; one that has ended is used, and told of.

        Raises:
            ConfigError: they are no certificate with its key.
        """
        self._seen = self._stamp()
        self.context, self._ends = self._read()
        if self.trouble:
            log.error("the people's certificate cannot serve", file=self._cert.name, reason=self.trouble)

    @property
    def trouble(self) -> str:
        """What an operator has to mend; '' when all is well."""
        if self._refused:
            return f"the new files are not used: {self._refused}"
        return f"it ended on {self._ends:%Y-%m-%d %H:%M} UTC" if self._ends <= self._clock.now() else ""

    def look(self) -> None:
        """Take up files that were replaced, if they can be used."""
        try:
            stamp = self._stamp()
            if stamp == self._seen:
                return None
            self._seen = stamp
            context, ends = self._read()
        except (ConfigError, OSError) as error:
            return self._refuse(str(error) if isinstance(error, ConfigError) else type(error).__name__)
        if ends <= self._clock.now():
            return self._refuse(f"the certificate ended on {ends:%Y-%m-%d %H:%M} UTC")
        self.context, self._ends, self._refused = context, ends, ""
        log.info("certificates loaded", file=self._cert.name, expires=ends.isoformat())
        return None

    def _refuse(self, why: str) -> None:
        if why != self._refused:
            log.error("new certificates cannot be used", file=self._cert.name, reason=why)
        self._refused = why

    def _stamp(self) -> tuple[tuple[int, int, int], ...]:
        stats = [path.stat() for path in (self._cert, self._key)]
        return tuple((s.st_mtime_ns, s.st_ino, s.st_size) for s in stats)

    def _read(self) -> tuple[ssl.SSLContext, datetime]:
        try:
            chain = x509.load_pem_x509_certificates(pem_blocks(self._cert.read_bytes())[1])
        except (OSError, ValueError):
            raise ConfigError(f"{self._cert} holds no certificate.", todo=_TODO) from None
        try:
            return server_context(self._cert, self._key), chain[0].not_valid_after_utc
        except ConfigError as error:
            raise ConfigError(
                f"{self._cert} and {self._key} cannot be used together.", why=error.why, todo=_TODO
            ) from None

    async def run(self) -> None:
        """Look now and then until cancelled."""
        while True:
            await self._clock.sleep(LOOK_EVERY_S)
            self.look()

    # --- what is told ---------------------------------------------------------------------------------------

    def health(self) -> dict[str, str]:
        """For ``/health/ready``: said, not required, for members need it not."""
        return {"people_certificate": self.trouble or "ok"}

    def gauges(self) -> list[Gauge]:
        """For ``/metrics``."""
        left_s = (self._ends - self._clock.now()).total_seconds()
        return [
            Gauge("crosslight_people_certificate_seconds", "Life left of the people's certificate.", left_s),
            Gauge(
                "crosslight_people_certificate_refused",
                "1 while its new files cannot be used.",
                float(bool(self._refused)),
            ),
        ]


def outside_certificate(folder: Path, cert: str, key: str, clock: Clock) -> OutsideCertificate | None:
    """The one that a configuration names, open; None where it names none.

    Args:
        folder: The service's, from which paths that are not absolute are seen.
        cert: ``listen.people_certificate``.
        key: ``listen.people_key``.

    Raises:
        ConfigError: only one is named, or they cannot be used.
    """
    if not cert and not key:
        return None
    if not cert or not key:
        missing = "listen.people_key" if cert else "listen.people_certificate"
        raise ConfigError("listen needs people_certificate and people_key together.", where=missing)
    outside = OutsideCertificate(folder / cert, folder / key, clock)
    try:
        outside.open()
    except OSError as error:
        raise ConfigError(f"{error.filename} cannot be read.", where="listen.people_certificate") from error
    return outside


def for_people(
    own: ssl.SSLContext,
    outside: OutsideCertificate | None = None,
    named: dict[str, ssl.SSLContext] | None = None,
) -> ssl.SSLContext:
    """The context of a people's listener.

    Args:
        own: With a certificate of the region's authority; used where there is no other.
        outside: The other.
        named: Contexts for callers that ask for these names (RFC 6066 3), such as nodes that join.
    """

    def choose(handshake: ssl.SSLObject | ssl.SSLSocket, name: str | None, _: ssl.SSLContext) -> None:
        if (asked := (named or {}).get(name or "")) is not None:
            handshake.context = asked
        elif outside is not None:
            handshake.context = outside.context

    own.sni_callback = choose
    return own
