"""A node's DICOM listener (PS3.4, PS3.8).

The services of ``services/``, for callers that the configuration names.

Nothing here is shared between nodes: as many as you like fit in one process. It runs in threads
(:mod:`node.dimse.upper` says which); the archive's ``ingest`` is made for that.
"""

from __future__ import annotations

import ssl
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from crosslight.runtime.clock import Clock
from crosslight.runtime.log import get_logger
from crosslight.runtime.machine_errors import cannot_listen
from crosslight.runtime.tls import server_context
from crosslight.runtime.workers import Workers
from crosslight.standards.problem import CrosslightError
from node.dimse.accounts import Accounts
from node.dimse.admission import Admission, Certified, anybody
from node.dimse.association import DimseService
from node.dimse.callers import Callers
from node.dimse.config import DimseConfig
from node.dimse.server import Server
from node.dimse.upper import Patience

log = get_logger("dimse")

LOOK_EVERY_S = 5.0


class DimseListener:
    """Listens, lets callers in, and gives each association its services.

    Args:
        config: The ``[dimse]`` section.
        services: What callers may ask.
        callers: Who may call.
        accounts: Where what they do is noted.
        workers: For stopping without blocking the event loop.
        base: Folder that relative paths of the configuration start from.
        certified: Asked about each certificate that a caller shows, again when its answer may have changed.

    Raises:
        ConfigError: for a configuration that cannot be used.
    """

    def __init__(
        self,
        config: DimseConfig,
        services: Sequence[DimseService],
        callers: Callers,
        accounts: Accounts,
        workers: Workers,
        *,
        base: Path = Path(),
        certified: Certified = anybody,
    ) -> None:
        config.check()
        self._config = config
        self._callers = callers
        self._accounts = accounts
        self._workers = workers
        self._rules = Admission(config, services, callers, accounts, certified)
        self._tls = self._tls_context(base)
        self._server: Server | None = None

    def _tls_context(self, base: Path) -> ssl.SSLContext | None:
        config = self._config
        if not config.tls_certificate:
            return None
        clients = base / config.tls_client_ca if config.tls_client_ca else None
        return server_context(base / config.tls_certificate, base / config.tls_key, client_ca=clients)

    # --- running --------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Bind and listen.

        Raises:
            ConfigError: when the port cannot be had.
        """
        config, address = self._config, (self._config.host, self._config.port)
        patience = Patience(request_s=config.acse_timeout_s, silence_s=config.network_timeout_s)
        try:
            self._server = Server(address, self._rules.visit, patience, self._tls)
        except OSError as error:
            raise cannot_listen(error, *address, "dimse.port") from error
        self._server.start()
        log.info("listening", name="dimse", address=address[0], port=self.port, aet=self._callers.ae_title)

    @property
    def port(self) -> int:
        """The port that is listened on; 0 when stopped."""
        return self._server.port if self._server is not None else 0

    @property
    def connected(self) -> int:
        """How many connections there are."""
        return len(self._server.open) if self._server is not None else 0

    @property
    def associations(self) -> Counter[str]:
        """Associations by outcome, for metrics."""
        return self._rules.associations

    @property
    def objects(self) -> Counter[str]:
        """Objects by outcome, for metrics."""
        return self._accounts.objects

    def look(self) -> int:
        """End the associations of those whose certificates hold no longer; how many."""
        n_cut = 0
        for upper in self._server.open if self._server is not None else ():
            try:
                self._rules.check(upper.certificate, upper.address)
            except CrosslightError as error:
                n_cut += 1
                log.warning("association cut", address=upper.address, reason=error.what)
                upper.cut()
        return n_cut

    async def watch(self, clock: Clock) -> None:
        """Look now and then, as certificates end, until cancelled."""
        while True:
            await clock.sleep(LOOK_EVERY_S)
            self.look()

    async def stop(self) -> None:
        """Stop listening, abort what is open, wait for its threads."""
        server, self._server = self._server, None
        if server is not None and not await self._workers.run(server.stop):
            log.warning("an association did not end")
