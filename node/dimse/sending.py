"""Objects on their way to another system, one C-STORE each (PS3.4 B): what C-MOVE and C-GET share.

An object goes out as it is held where the other end takes its transfer syntax: bytes of the file in PDUs,
nothing decoded. Otherwise it is re-encoded in a bounded child first. One that cannot be sent is counted, and
the others go on.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from crosslight.runtime.log import get_logger
from crosslight.runtime.shares import share_of
from crosslight.standards.dicom.file.gate import read_meta
from crosslight.standards.dicom.file.syntaxes import EXPLICIT_LE, IMPLICIT_LE
from crosslight.standards.dicom.file.verdict import Refused
from crosslight.standards.dicom.upper_layer.associate import MAX_CONTEXTS
from crosslight.standards.problem import Busy, CrosslightError, StorageError, Unavailable
from node.dimse.association import Request
from node.dimse.command import (
    AFFECTED_CLASS,
    AFFECTED_INSTANCE,
    C_STORE_RQ,
    COMPLETED,
    FAILED,
    FIELD,
    PRIORITY,
    REMAINING,
    SUCCESS,
    WARNED,
    Values,
)
from node.dimse.exchange import Context
from node.dimse.outgoing import Channel, Proposal
from node.dimse.way_out import WayOut
from node.holdings import Local, StoredObject

log = get_logger("dimse")

_BLOCK: Final = 1 << 18
_META_BYTES: Final = 1 << 16
_WARNINGS: Final = frozenset({0x0001, 0xB000, 0xB006, 0xB007})  # PS3.4 Table B.2-1, PS3.7 Annex C
_MEDIUM: Final = 0x0000  # Priority (0000,0700), PS3.7 Table E.1-1


class Tally:
    """How far the sub-operations are (PS3.7 9.1.3, 9.1.4)."""

    def __init__(self, total: int) -> None:
        self.total, self.completed, self.warned = total, 0, 0
        self.failed: list[str] = []  # SOP Instance UIDs

    @property
    def remaining(self) -> int:
        """Objects that were not tried yet."""
        return self.total - self.completed - self.warned - len(self.failed)

    def values(self, *, remaining: bool) -> Values:
        """The elements of a response."""
        done = {COMPLETED: self.completed, FAILED: len(self.failed), WARNED: self.warned}
        counts = {REMAINING: self.remaining, **done} if remaining else done
        return {element: min(count, 0xFFFF) for element, count in counts.items()}


class Sender:
    """Sends objects over channels, for one request.

    Args:
        request: Of the C-MOVE or C-GET.
        way_out: Opens objects.
        more: Further elements of each C-STORE request.
        meanwhile: Called between the blocks of an object.
    """

    def __init__(
        self,
        request: Request,
        way_out: WayOut,
        tally: Tally,
        more: Values,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> None:
        self._request, self._out, self.tally = request, way_out, tally
        self._more, self._meanwhile = more, meanwhile

    def send(self, stored: StoredObject, channel: Channel) -> None:
        """Send one object and count it.

        Raises:
            Unavailable: the other end, or the caller, is gone; or the object broke off, and is counted as
                failed.
        """
        context = self._context_for(stored, channel.contexts)
        if context is None:
            self.fail(stored, "no presentation context was agreed to for it")
            return
        share = share_of(self._request.account.caller)
        try:
            with self._out.on_loop.inside(
                self._out.rendering.in_syntax(stored, context.transfer_syntax_uid, share)
            ) as local:
                blocks = data_set_of(local)
                first = next(blocks)  # what cannot be read is known before anything is sent
                status = channel.ask(
                    context.id, self._command(stored), self._blocks(stored, first, blocks)
                ).status
        except CrosslightError as error:
            if isinstance(error, Unavailable) and not isinstance(error, Busy):
                raise
            self.fail(stored, error.what)
            return
        if status == SUCCESS:
            self.tally.completed += 1
        elif status in _WARNINGS:
            self.tally.warned += 1
        else:
            self.fail(stored, f"status {status:04X}H")

    def fail(self, stored: StoredObject, why: str) -> None:
        """Count one that cannot be sent."""
        log.warning("object not sent", sop_uid=stored.ref.sop_uid, reason=why)
        self.tally.failed.append(stored.ref.sop_uid)

    def _context_for(self, stored: StoredObject, contexts: Sequence[Context]) -> Context | None:
        """Its own transfer syntax where that was agreed to; else the first that it can be given in."""
        agreed = {
            context.transfer_syntax_uid: context
            for context in reversed(contexts)
            if context.sop_class_uid == stored.ref.sop_class_uid and context.we_may_ask
        }
        return next((agreed[uid] for uid in self._out.rendering.syntaxes_of(stored) if uid in agreed), None)

    def _command(self, stored: StoredObject) -> Values:
        return {
            FIELD: C_STORE_RQ,
            AFFECTED_CLASS: stored.ref.sop_class_uid,
            AFFECTED_INSTANCE: stored.ref.sop_uid,
            PRIORITY: _MEDIUM,
            **self._more,
        }

    def _blocks(self, stored: StoredObject, first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
        """The data set, with a look around between the blocks."""
        yield first
        try:
            for block in rest:
                self._meanwhile()
                yield block
        except StorageError as error:  # in the middle of a message: the association cannot go on
            self.fail(stored, error.what)
            raise Unavailable("An object could not be sent to its end.", why=error.what) from None


def data_set_of(local: Local) -> Iterator[bytes]:
    """The data set of a Part 10 file, without its preamble and file meta, in blocks.

    Raises:
        StorageError: the file is not what it should be.
    """
    try:
        fd = os.open(local.file, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise StorageError("A stored object cannot be read.", why=error.strerror or "") from None
    try:
        head = os.pread(fd, min(_META_BYTES, local.length), local.offset)
        try:
            start = read_meta(head)[1]
        except Refused as error:
            raise StorageError("A stored object has no file meta.", why=error.what) from None
        yield head[start:]
        at, end = local.offset + len(head), local.offset + local.length
        while at < end:
            block = os.pread(fd, min(_BLOCK, end - at), at)
            if not block:
                raise StorageError("A stored object is shorter than it should be.", todo="Run verify.")
            at += len(block)
            yield block
    finally:
        os.close(fd)


def groups_of(objects: Sequence[StoredObject]) -> Iterator[tuple[list[Proposal], list[StoredObject]]]:
    """Objects as they fit one association each, with the presentation contexts to propose for them.

    Of each SOP class its objects' own transfer syntaxes, each alone, so that the other end cannot prefer
    another one; and one context with what it must take (PS3.5 10.1).
    """
    proposals: dict[Proposal, None] = {}
    group: list[StoredObject] = []
    for stored in objects:
        sop_class, own = stored.ref.sop_class_uid, stored.ref.transfer_syntax_uid
        needed = (Proposal(sop_class, (own,)), Proposal(sop_class, (EXPLICIT_LE, IMPLICIT_LE)))
        if group and len({*proposals, *needed}) > MAX_CONTEXTS:
            yield list(proposals), group
            proposals, group = {}, []
        proposals.update(dict.fromkeys(needed))
        group.append(stored)
    if group:
        yield list(proposals), group
