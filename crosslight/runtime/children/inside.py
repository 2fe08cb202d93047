"""What runs in a child: it loads what it needs, gives up the rest, and works until its owner goes."""

from __future__ import annotations

import os
import resource
import signal
import socket
from collections.abc import Callable
from dataclasses import astuple
from importlib import import_module
from typing import Any

from crosslight.runtime.children.confine import confine
from crosslight.runtime.children.wire import BYTES, ERROR, NO_MEMORY, VALUE, close_all, next_task, send_answer
from crosslight.runtime.process import die_with_parent
from crosslight.standards.problem import CrosslightError, Malformed, StorageError, kind_as_sentence


def serve(sock: socket.socket, memory_bytes: int, prepare: tuple[str, ...]) -> None:
    """The whole life of a child; it ends the process.

    Args:
        sock: To its owner.
        memory_bytes: Its address space (RLIMIT_AS).
        prepare: Modules to import while that can still be done.
    """
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the service, which then ends its children
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _keep_only(sock)
    for module in prepare:
        import_module(module)
    send_answer(sock, VALUE, astuple(confine()))
    while (task := next_task(sock)) is not None:
        fn, args, descriptors = task
        try:
            send_answer(sock, *_done(fn, args))
        except MemoryError:
            send_answer(sock, NO_MEMORY, None)
            break  # and begin anew with all of it
        finally:
            close_all(descriptors)
    os._exit(0)


def _done(fn: Callable[..., Any], args: tuple[Any, ...]) -> tuple[bytes, Any]:
    """The kind of answer, and the answer."""
    try:
        value = fn(*args)
    except CrosslightError as error:
        return ERROR, error
    except MemoryError:
        raise
    except ImportError:
        return ERROR, StorageError("A part that is needed to read this was not loaded.", todo="Report it.")
    except Exception as error:  # noqa: BLE001 - the readers of hostile bytes have no common base
        return ERROR, Malformed("The object cannot be read.", why=kind_as_sentence(error))
    return (BYTES if type(value) is bytes else VALUE), value


def _keep_only(sock: socket.socket) -> None:
    """Close what was inherited: the pipes of whoever started it, and the service's log."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nothing, number)
    kept = sock.fileno()
    os.closerange(3, kept)
    os.closerange(kept + 1, os.sysconf("SC_OPEN_MAX"))
