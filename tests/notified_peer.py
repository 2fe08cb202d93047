"""A system that takes Instance Availability Notifications: pynetdicom's SCP."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.sop_class import InstanceAvailabilityNotification

Taken = queue.SimpleQueue[tuple[str, Dataset]]


@contextmanager
def notified_peer(
    port: int, taken: Taken, status: Callable[[], int] = lambda: 0, title: str = "RIS"
) -> Iterator[None]:
    """What it takes comes with its SOP Instance UID; ``status`` is what each is answered."""

    def created(event: Any) -> tuple[int, None]:
        answered = status()
        if answered == 0:
            taken.put((str(event.request.AffectedSOPInstanceUID), event.attribute_list))
        return answered, None

    ae = AE(title)
    ae.add_supported_context(InstanceAvailabilityNotification)
    server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_N_CREATE, created)])
    try:
        yield
    finally:
        server.shutdown()


def named(said: Dataset) -> list[str]:
    """SOP Instance UIDs of a notification."""
    return sorted(
        str(item.ReferencedSOPInstanceUID)
        for series in said.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    )
