"""What sources were said to have, by Instance Availability Notification, until each study was looked into."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from crosslight.runtime.clock import Clock
from crosslight.standards.problem import Busy
from node.sources.store import SourceStore

MAX_WAITING: Final = 1_000  # studies of one source


class Notices:
    """Keeps them, and wakes whoever follows the source.

    Args:
        store: Where they wait.
        clock: Time.
        wakes: Of each source that can be told of, what wakes its follower.
    """

    def __init__(self, store: SourceStore, clock: Clock, wakes: Mapping[str, Callable[[], None]]) -> None:
        self._store, self._clock, self._wakes = store, clock, wakes

    async def hear(self, sources: Sequence[str], study_uid: str) -> None:
        """These sources may have something new of this study; durable when this returns.

        Raises:
            Busy: :data:`MAX_WAITING` other studies of one of them wait.
            StorageError: it cannot be kept.
        """
        now_unix = self._clock.now().timestamp()
        for source in sources:
            if not await self._store.notice(source, study_uid, now_unix, MAX_WAITING):
                raise Busy(f"{MAX_WAITING} studies wait already", todo="Send it again later.")
            self._wakes[source]()
