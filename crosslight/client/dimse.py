"""A DIMSE client: C-ECHO and C-STORE of files, on threads (pynetdicom), with TCP_NODELAY."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterable
from typing import Any

from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import UID
from pynetdicom import AE, evt
from pynetdicom.sop_class import Verification

from crosslight.standards.problem import PeerError, Unavailable


def _nodelay(event: Any) -> None:
    connection = event.assoc.dul.socket
    if connection is not None and connection.socket is not None:
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class _Paused(threading.Event):
    """Keeps pynetdicom's reactor thread waiting for a whole batch.

    Between two messages the library lets that thread run and pauses it again, but looks at a flag that may be
    stale: the thread then takes the answer that the sender waits for, and the sender waits until its timeout.
    So here it does not run at all between the first message and the last.
    """

    def __init__(self) -> None:
        super().__init__()
        self.reached = threading.Event()
        self._over = False

    def set(self) -> None:
        if self._over:
            super().set()

    def wait(self, timeout: float | None = None) -> bool:
        self.reached.set()
        return super().wait(timeout)

    def end(self) -> None:
        """Let the thread go on."""
        self._over = True
        self.set()


class DimseClient:
    """Calls ``called`` at ``host:port`` as ``calling``. Blocking: run it in a thread."""

    def __init__(self, host: str, port: int, *, called: str, calling: str) -> None:
        self._host = host
        self._port = port
        self._called = called
        self._calling = calling

    def _associate(self, contexts: Iterable[tuple[str, str]]) -> Any:
        entity = AE(ae_title=self._calling)
        entity.maximum_pdu_size = 131072
        entity.connection_timeout = entity.acse_timeout = 10
        entity.dimse_timeout = 60
        for sop_class, transfer_syntax in dict.fromkeys(contexts):
            entity.add_requested_context(UID(sop_class), UID(transfer_syntax))
        handlers: Any = [(evt.EVT_CONN_OPEN, _nodelay)]
        association = entity.associate(
            self._host, self._port, ae_title=self._called, max_pdu=131072, evt_handlers=handlers
        )
        if not association.is_established:
            why = "rejected" if association.is_rejected else "no answer"
            raise Unavailable(
                f"{self._called} refused the association: {why}.", todo="Check AE titles, address and port."
            )
        return association

    def echo(self) -> None:
        """C-ECHO.

        Raises:
            Unavailable: when there is no association or no success.
        """
        association = self._associate([(str(Verification), "1.2.840.10008.1.2")])
        try:
            if getattr(association.send_c_echo(), "Status", None) != 0:
                raise Unavailable(f"{self._called} does not answer C-ECHO with success.")
        finally:
            association.release()

    def store(self, datasets: list[FileDataset] | list[Dataset]) -> int:
        """C-STORE all over one association; how many were acknowledged with success.

        Raises:
            PeerError: at the first refusal.
        """
        association = self._associate((d.SOPClassUID, d.file_meta.TransferSyntaxUID) for d in datasets)
        paused = association._reactor_checkpoint = _Paused()
        try:
            if not paused.reached.wait(10):
                raise Unavailable(f"{self._called} ended the association before the first object.")
            for done, ds in enumerate(datasets):
                status = association.send_c_store(ds)
                if getattr(status, "Status", None) != 0:
                    code = getattr(status, "Status", 0xFFFF)
                    raise PeerError(f"C-STORE refused with status 0x{code:04X} after {done} objects.")
            return len(datasets)
        finally:
            paused.end()
            if association.is_established:
                association.release()
