"""What a process gives up for good: files, network, programs, other processes (seccomp(2), landlock(7)).

The filter names the calls that are left; whatever else is asked of the kernel is refused with EPERM. Landlock
is the second wall where the kernel has it. What is said to be in force was tried: :func:`confine` asks for
each forbidden thing once.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import socket
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

try:
    import pyseccomp as seccomp
except (ImportError, RuntimeError, OSError):  # RuntimeError: there is no libseccomp on this machine
    seccomp = None

#: Calls that a child may make with any arguments: on descriptors it has, its own memory, the time, its end.
CALLS = (
    "read", "readv", "pread64", "write", "writev", "pwrite64", "lseek", "_llseek", "close",
    "fstat", "fstat64", "recvfrom", "recvmsg", "sendto", "sendmsg", "ftruncate", "ftruncate64",
    "munmap", "mremap", "brk", "madvise", "futex", "futex_time64", "sched_yield", "sched_getaffinity",
    "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack", "restart_syscall",
    "clock_gettime", "clock_gettime64", "clock_getres", "gettimeofday", "time",
    "nanosleep", "clock_nanosleep", "clock_nanosleep_time64",
    "getrandom", "getpid", "gettid", "exit", "exit_group",
)  # fmt: skip
#: Calls that map memory; none of it may be code, so that no library is loaded any more and no code is made.
MAPPING = ("mmap", "mmap2", "mprotect")
_AT_EMPTY_PATH = 0x1000
_PR_SET_NO_NEW_PRIVS = 38
_CREATE_RULESET, _RESTRICT_SELF = 444, 446  # landlock; the same on every architecture
# Rights by the version of Landlock that knows them (linux/landlock.h): files; TCP; signals, abstract sockets.
_FILES = {1: 0x1FFF, 2: 0x3FFF, 3: 0x7FFF, 5: 0xFFFF}
_TCP, _SCOPES = 0x3, 0x3
_PTRACE_PEEKDATA = 2
_FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)


@dataclass(frozen=True, slots=True, kw_only=True)
class Confinement:
    """What a child was seen to be refused, and by what.

    ``files``: to open any; ``network``: any socket; ``programs``: to start one, or to fork; ``processes``:
    signals to others, and their memory.
    """

    files: bool = False
    network: bool = False
    programs: bool = False
    processes: bool = False
    seccomp: bool = False
    landlock: bool = False

    @property
    def whole(self) -> bool:
        """Whether nothing of it is missing; Landlock is a second wall and may be."""
        return self.files and self.network and self.programs and self.processes

    def __str__(self) -> str:
        denied = [name for name in ("files", "network", "programs", "processes") if getattr(self, name)]
        walls = [name for name, there in (("seccomp", self.seccomp), ("Landlock", self.landlock)) if there]
        if self.whole:
            return f"confined by {' and '.join(walls)}"
        kept = f"; kept from {', '.join(denied)} by {' and '.join(walls)}" if denied and walls else ""
        return f"not confined: needs seccomp in the kernel, and libseccomp2{kept}"


def confine() -> Confinement:
    """Give up all that a child does not need, and try whether it is gone. Elsewhere than on Linux: nothing.

    It holds for the thread that calls it and those it begins: call it where there is one only.
    """
    if sys.platform != "linux":
        return Confinement()
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    landlock = _landlock(libc) and _refused(_open_a_file)
    filtered = _filter()
    return Confinement(
        files=_refused(_open_a_file) and _refused(_open_a_folder),
        network=all(_refused(_socket_of(family)) for family in _FAMILIES),
        programs=_refused(_start_a_program) and _refused(_fork),
        processes=_refused(_signal_somebody) and _refused(_look_into(libc)),
        seccomp=filtered,
        landlock=landlock,
    )


def _landlock(libc: Any) -> bool:
    """Handle every right and grant none. False where the kernel has no Landlock."""
    version = libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    if version < 1:
        return False
    files = max(rights for since, rights in _FILES.items() if since <= version)
    handled = struct.pack(
        "=QQQ", files, _TCP if version >= 4 else 0, _SCOPES if version >= 6 else 0
    )[: 8 if version < 4 else 16 if version < 6 else 24]  # fmt: skip
    ruleset = libc.syscall(_CREATE_RULESET, handled, ctypes.c_size_t(len(handled)), ctypes.c_uint32(0))
    if ruleset < 0:
        return False
    try:
        return bool(libc.syscall(_RESTRICT_SELF, ruleset, ctypes.c_uint32(0)) == 0)
    finally:
        os.close(ruleset)


def _filter() -> bool:
    """Leave this process the calls named here. False where the kernel or libseccomp cannot."""
    if seccomp is None:
        return False
    try:
        allowed = seccomp.SyscallFilter(seccomp.ERRNO(errno.EPERM))
        for name in CALLS:
            _add(allowed, name)
        for name in MAPPING:
            _add(allowed, name, seccomp.Arg(2, seccomp.MASKED_EQ, mmap.PROT_EXEC, 0))
        # what the C library asks of an open descriptor; not of a name
        _add(allowed, "newfstatat", seccomp.Arg(3, seccomp.MASKED_EQ, _AT_EMPTY_PATH, _AT_EMPTY_PATH))
        allowed.load()
    except OSError:
        return False
    return True


def _add(allowed: Any, name: str, *conditions: Any) -> None:
    with suppress(OSError):  # a call that this architecture does not have
        allowed.add_rule(seccomp.ALLOW, name, *conditions)


def _refused(attempt: Callable[[], None]) -> bool:
    """Whether the kernel says that this is not allowed; that it fails for another reason proves nothing."""
    try:
        attempt()
    except PermissionError:
        return True
    except OSError:
        return False
    return False


def _open_a_file() -> None:
    os.close(os.open(__file__, os.O_RDONLY))


def _open_a_folder() -> None:
    os.close(os.open("/", os.O_RDONLY | os.O_DIRECTORY))


def _socket_of(family: socket.AddressFamily) -> Callable[[], None]:
    return lambda: socket.socket(family, socket.SOCK_DGRAM).close()


def _start_a_program() -> None:
    os.execve("/nonexistent/program", ["program"], {})  # noqa: S606 - it is there to be refused


def _fork() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def _signal_somebody() -> None:
    os.kill(os.getpid(), 0)


def _look_into(libc: Any) -> Callable[[], None]:
    def look() -> None:
        ctypes.set_errno(0)
        if libc.ptrace(_PTRACE_PEEKDATA, 0, None, None) == -1 and ctypes.get_errno():
            raise OSError(ctypes.get_errno(), "ptrace")

    return look
