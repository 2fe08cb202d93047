"""What passes between an owner and its child.

The owner is believed, the child is not: it may be in the hands of whoever wrote the bytes it reads. So a task
is pickled as it is, and an answer is read as values only: no name in it leads to anything but a value of
:mod:`crosslight.standards`, or a date.
"""

from __future__ import annotations

import array
import datetime
import enum
import io
import os
import pickle
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, is_dataclass
from importlib import import_module
from typing import Any

from crosslight.runtime.files import private
from crosslight.standards.problem import CrosslightError, StorageError, kind_as_sentence
from crosslight.standards.records import FrozenRecord, made

HEADER = struct.Struct("<cQ")  # kind, bytes that follow
TASK, BYTES, VALUE, ERROR, NO_MEMORY = b"T", b"B", b"V", b"E", b"M"
MAX_LENT = 4
_TIMES = frozenset({datetime.datetime, datetime.date, datetime.time, datetime.timedelta, datetime.timezone})
_VALUES = "crosslight.standards."


class Broken(Exception):
    """What came is none of the other end's messages."""


class Died(Broken):
    """Nothing comes from the other end any more."""


@dataclass(frozen=True, slots=True)
class Lent:
    """A file of the owner's that a child is given open: to read from, or (``write``) to fill.

    The owner opens it when the child's turn comes, and keeps nothing of it.
    """

    path: str
    write: bool = False
    descriptor: int | None = None  # in the child

    @property
    def name(self) -> str | int:
        """What whoever has it opens it by."""
        return self.path if self.descriptor is None else self.descriptor

    def open(self) -> io.FileIO:
        """The file, for whoever has it; once, in a child."""
        if self.descriptor is not None:
            return io.FileIO(self.descriptor, "w" if self.write else "r")
        return io.FileIO(self.path, "w" if self.write else "r", opener=private)


class Packed:
    """A task as it goes to a child, and the files that it lends."""

    def __init__(self, fn: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.lent: list[Lent] = []
        self._files: list[io.FileIO] = []
        body = io.BytesIO()
        _TaskPickler(body, self.lent).dump((fn, args))
        self.body = body.getvalue()

    def open(self) -> None:
        """Open the files; it may wait for a disk.

        Raises:
            StorageError: one of them cannot be opened.
        """
        try:
            for lent in self.lent:
                self._files.append(lent.open())
        except OSError as error:
            raise StorageError("A stored object cannot be opened.", why=kind_as_sentence(error)) from None

    @property
    def head(self) -> bytes:
        """What is sent first, with the files."""
        return HEADER.pack(TASK, len(self.body))

    @property
    def rights(self) -> list[tuple[int, int, bytes]]:
        """The files, as ancillary data (unix(7), SCM_RIGHTS)."""
        numbers = array.array("i", [file.fileno() for file in self._files])
        return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, numbers.tobytes())] if numbers else []

    def close(self) -> None:
        """Let go of the files."""
        for file in self._files:
            file.close()


class _TaskPickler(pickle.Pickler):
    def __init__(self, body: io.BytesIO, lent: list[Lent]) -> None:
        super().__init__(body, pickle.HIGHEST_PROTOCOL)
        self._lent = lent

    def persistent_id(self, value: Any) -> tuple[int, bool] | None:
        """A file that is lent goes by its number among them."""
        if not isinstance(value, Lent):
            return None
        if len(self._lent) == MAX_LENT:
            raise ValueError("too many files are lent")
        self._lent.append(value)
        return len(self._lent) - 1, value.write


class _TaskUnpickler(pickle.Unpickler):
    def __init__(self, body: bytes, descriptors: list[int]) -> None:
        super().__init__(io.BytesIO(body))
        self._descriptors = descriptors

    def persistent_load(self, number: Any) -> Lent:
        """The file that came with the task."""
        return Lent("", write=number[1], descriptor=self._descriptors[number[0]])


class _AnswerUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """A value of the standards', an error of ours, a date; nothing else has a name here."""
        if (module, name) == (made.__module__, made.__name__):
            return made
        named = getattr(import_module(module), name, None) if _plain(module, name) else None
        if isinstance(named, type) and named.__module__ == module and _is_value(named):
            return named
        raise pickle.UnpicklingError(f"{module}.{name} is no value")


def _plain(module: str, name: str) -> bool:
    return name.isidentifier() and (module == "datetime" or module.startswith(_VALUES))


def _is_value(kind: type) -> bool:
    return (
        kind in _TIMES
        or is_dataclass(kind)
        or issubclass(kind, FrozenRecord)
        or issubclass(kind, CrosslightError | enum.Enum)
        or (issubclass(kind, tuple) and hasattr(kind, "_fields"))
    )


def send_answer(sock: socket.socket, kind: bytes, value: Any) -> None:
    """From the child."""
    body = value if kind == BYTES else pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    sock.sendall(HEADER.pack(kind, len(body)))
    sock.sendall(body)


def answer_of(kind: bytes, body: bytearray) -> Any:
    """What a child answered: a value, or an error to raise.

    Raises:
        CrosslightError: the child's own word.
        MemoryError: it had not enough, and has ended.
        Broken: it is none of the above.
    """
    if kind == BYTES:
        return bytes(body)
    if kind == NO_MEMORY:
        raise MemoryError
    if kind not in (VALUE, ERROR):
        raise Broken("no kind of answer")
    try:
        value = _AnswerUnpickler(io.BytesIO(body)).load()
    except Exception as error:  # noqa: BLE001 - pickle raises whatever hostile bytes lead it to
        raise Broken(type(error).__name__) from None
    if kind == ERROR:
        raise value if isinstance(value, CrosslightError) else Broken("no error of ours")
    return value


def next_task(sock: socket.socket) -> tuple[Callable[..., Any], tuple[Any, ...], list[int]] | None:
    """In the child: function, arguments and the descriptors lent; None when the owner has gone."""
    descriptors: list[int] = []
    head = bytearray()
    while len(head) < HEADER.size:
        data, ancillary, _, _ = sock.recvmsg(
            HEADER.size - len(head), socket.CMSG_SPACE(MAX_LENT * 4), socket.MSG_CMSG_CLOEXEC
        )
        if not data:
            return None
        head += data
        for level, kind, numbers in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                batch = array.array("i")
                batch.frombytes(numbers[: len(numbers) - len(numbers) % batch.itemsize])
                descriptors += batch
    _, length = HEADER.unpack(head)
    body = bytearray(length)
    view = memoryview(body)
    while view:
        received = sock.recv_into(view)
        if not received:
            return None
        view = view[received:]
    fn, args = _TaskUnpickler(bytes(body), descriptors).load()
    return fn, args, descriptors


def close_all(descriptors: list[int]) -> None:
    """In the child, what was lent and is still open."""
    for number in descriptors:
        try:
            os.close(number)
        except OSError:
            continue  # whoever used it has closed it
