"""Objects for who sends them by DIMSE: files, in a transfer syntax that the other end takes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from crosslight.runtime.children.wire import Lent
from crosslight.standards.dicom.file.syntaxes import EXPLICIT_LE, IMPLICIT_LE
from crosslight.standards.dicom.pixels.transcode import can_decode
from crosslight.standards.ids import is_uid
from node.holdings import Local, StoredObject
from node.serve.bounded_child import is_plain, lend, transcode_object
from node.serve.context import ServeContext
from node.serve.opened_objects import on_disk


class SentObjects:
    """Opens the objects of one node (:class:`node.dimse.way_out.Rendering`)."""

    def __init__(self, serve: ServeContext) -> None:
        self._serve = serve

    def syntaxes_of(self, stored: StoredObject) -> tuple[str, ...]:
        """The transfer syntaxes in which an object can be sent, its own first."""
        own = stored.ref.transfer_syntax_uid
        if not is_uid(own) or not can_decode(own):
            return (own,)
        return tuple(dict.fromkeys((own, EXPLICIT_LE, IMPLICIT_LE)))

    @asynccontextmanager
    async def in_syntax(
        self, stored: StoredObject, transfer_syntax_uid: str, share: str
    ) -> AsyncIterator[Local]:
        """A Part 10 file of an object while the context lasts.

        In its own syntax it is the file as it is held; in another one it is re-encoded in a bounded child, in
        a turn of ``share``.

        Raises:
            CrosslightError: it cannot be given so.
        """
        async with on_disk(self._serve, stored) as local:
            if transfer_syntax_uid == stored.ref.transfer_syntax_uid:
                yield local
                return
            serve = self._serve
            target = serve.spool / f"{serve.ids.uuid4().hex}.spool"
            try:
                size = await serve.bounded(
                    share,
                    transcode_object,
                    lend(local),
                    is_plain(stored),
                    Lent(str(target), write=True),
                    serve.config.max_decode_samples,
                    transfer_syntax_uid == IMPLICIT_LE,
                )
                yield Local(str(target), 0, size)
            finally:
                serve.files.remove(target)
