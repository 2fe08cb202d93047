"""What a child could do that is in the hands of whoever wrote the bytes it reads: nothing but answer.

The tasks run in a real child, as a decoder's own code would.
"""

from __future__ import annotations

import io
import os
import pickle
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from node_serving import sample_files

from crosslight.runtime.children.confine import Confinement
from crosslight.runtime.children.wire import BYTES, ERROR, VALUE, Broken, Lent, answer_of
from crosslight.runtime.workers import Workers
from crosslight.standards.dicom.pixels.frames import FrameLayout
from crosslight.standards.dicom.pixels.render import RenderOptions
from crosslight.standards.problem import CrosslightError, Malformed, NotAcceptable, StorageError, TooLarge
from crosslight.standards.records import made
from node.holdings import Local
from node.serve.bounded_child import (
    decode_object,
    layout_object,
    lend,
    reading_workers,
    render_object,
    transcode_object,
)

in_a_loop = pytest.mark.asyncio(loop_scope="module")
OS, SOCKET = "__import__('posix')", "__import__('_socket')"
HOSTILE = {
    "read a file": "open('/proc/self/environ').read()",
    "write a file": "open('/tmp/crosslight-was-here', 'w')",
    "read its own code": "open(__import__('os').__file__)",
    "list a folder": f"{OS}.listdir('/')",
    "a name's properties": f"{OS}.stat('/')",
    "remove a file": f"{OS}.unlink('/tmp/crosslight-was-here')",
    "a socket": f"{SOCKET}.socket(2, 1)",
    "a datagram's socket": f"{SOCKET}.socket(2, 2)",
    "a socket of this machine": f"{SOCKET}.socket(1, 1)",
    "a pair of sockets": f"{SOCKET}.socketpair()",
    "start a program": f"{OS}.execv('/bin/sh', ['sh', '-c', 'true'])",
    "fork": f"{OS}.fork()",
    "a thread": "__import__('_thread').start_new_thread(print, ())",
    "end its parent": f"{OS}.kill({OS}.getppid(), 9)",
    "memory with a name": f"{OS}.memfd_create('x')",
    "memory that is code": "__import__('mmap').mmap(-1, 4096, prot=7)",
    "raise its own bounds": "__import__('resource').setrlimit(9, (-1, -1))",
    "be somebody else": f"{OS}.setuid(65534)",
}  # fmt: skip
IN_PYTHONS_WORDS = {"a thread", "raise its own bounds"}  # which are no kind of ours


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def workers() -> AsyncIterator[Workers]:
    made = reading_workers()
    await made.warm()
    yield made
    await made.close()


@in_a_loop
async def test_what_is_said_to_be_in_force_was_tried(workers: Workers) -> None:
    found = workers.confinement
    assert found is not None
    assert found.whole, "this kernel has no seccomp, or libseccomp2 is not there"
    assert str(found).startswith("confined by seccomp")
    assert str(Confinement()).startswith("not confined")
    assert str(Confinement(files=True, landlock=True)).endswith("kept from files by Landlock")


@in_a_loop
async def test_a_child_has_nothing_but_its_line_to_the_owner(workers: Workers) -> None:
    (child,) = workers._all
    proc = Path(f"/proc/{child._process.pid}")
    held = {number: os.readlink(proc / "fd" / number) for number in os.listdir(proc / "fd")}
    assert {held.pop(number) for number in "012"} == {"/dev/null"}
    assert [name.split(":")[0] for name in held.values()] == ["socket"]
    status = dict(
        line.split(":\t", 1) for line in (proc / "status").read_text().splitlines() if ":\t" in line
    )
    assert (status["Seccomp"], status["NoNewPrivs"], status["Threads"]) == ("2", "1", "1")


@in_a_loop
@pytest.mark.parametrize("name", HOSTILE)
async def test_a_child_is_refused_and_the_next_is_served(workers: Workers, name: str) -> None:
    with pytest.raises(Malformed) as refused:
        await workers.run_bounded(eval, HOSTILE[name])
    assert refused.value.why == ("" if name in IN_PYTHONS_WORDS else "Permission.")
    assert await workers.run_bounded(len, b"abc") == 3
    assert not Path("/tmp/crosslight-was-here").exists()


@in_a_loop
async def test_the_key_beside_it_is_out_of_reach_and_only_what_is_lent_is_not(
    workers: Workers, tmp_path: Path
) -> None:
    key, target = tmp_path / "identity.pem", tmp_path / "made"
    key.write_text("secret")
    with pytest.raises(Malformed) as refused:
        await workers.run_bounded(eval, f"open({str(key)!r}).read()")
    assert refused.value.why == "Permission."
    assert await workers.run_bounded(eval, "file.open().read()", {"file": Lent(str(key))}) == b"secret"
    for lent, act in (
        (Lent(str(key)), "file.open().write(b'x')"),
        (Lent(str(target), write=True), "file.open().read()"),
    ):
        with pytest.raises(Malformed):
            await workers.run_bounded(eval, act, {"file": lent})
    assert key.read_text() == "secret"
    with pytest.raises(StorageError):
        await workers.run_bounded(eval, "file", {"file": Lent(str(tmp_path / "gone"))})


@in_a_loop
async def test_memory_is_bounded_and_the_next_is_served(workers: Workers) -> None:
    for greedy in ("bytearray(3 << 30)", "[bytearray(1 << 20) for n in range(4096)]"):
        with pytest.raises(TooLarge):
            await workers.run_bounded(eval, greedy)
        assert await workers.run_bounded(len, b"abc") == 3
        assert workers.confinement is not None
        assert workers.confinement.whole


class Reduced:
    """Leads whoever unpickles it to a call."""

    def __init__(self, *call: Any) -> None:
        self._call = call

    def __reduce__(self) -> Any:
        return self._call


ANSWERS = {
    "a program": (os.system, ("touch /tmp/crosslight-was-here",)),
    "a built-in": (eval, ("1",)),
    "a function of the standards'": (render_object.__globals__["render_frame"], (1,)),
    "a class from elsewhere": (Path, ("/",)),
    "a record that is none": (made, (FrameLayout, {})),
    "a class that the standards import": (io.BytesIO, (b"",)),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_leads_to_no_call(name: str) -> None:
    for kind in (VALUE, ERROR):
        with pytest.raises(Broken):
            answer_of(kind, bytearray(pickle.dumps(Reduced(*ANSWERS[name]))))
    assert not Path("/tmp/crosslight-was-here").exists()


def test_an_answer_leads_nowhere_by_a_way_round() -> None:
    """A dotted name, and a module that a module of ours has imported."""

    def by_name(*names: str) -> bytes:
        texts = (b"\x8c" + bytes([len(name)]) + name.encode() for name in names)
        return b"".join((b"\x80\x04", *texts, b"\x93."))

    for module, name in (
        ("crosslight.standards.dicom.pixels.readied", "io.open"),
        ("crosslight.standards.dicom.pixels.readied", "io"),
        ("crosslight.standards.dicom.pixels.render", "Image"),
        ("crosslight.standards.dicom.pixels.render", "BytesIO"),
        ("crosslight.standards", "problem"),
        ("crosslight.runtime.children.wire", "Lent"),
        ("os", "system"),
    ):
        with pytest.raises(Broken):
            answer_of(VALUE, bytearray(by_name(module, name)))
    assert answer_of(
        VALUE, bytearray(by_name("crosslight.standards.dicom.pixels.frames", "FrameLayout"))
    ) is FrameLayout  # fmt: skip
    for noise in (b"", b"\x00", b"." * 50, os.urandom(200)):
        with pytest.raises(Broken):
            answer_of(VALUE, bytearray(noise))
    with pytest.raises(Broken):
        answer_of(ERROR, bytearray(pickle.dumps("no error")))
    with pytest.raises(Broken):
        answer_of(b"?", bytearray())
    assert answer_of(BYTES, bytearray(b"abc")) == b"abc"


@in_a_loop
async def test_an_answer_that_is_none_is_told_so_and_the_child_given_up(workers: Workers) -> None:
    before = set(workers._all)
    with pytest.raises(Malformed) as none:
        await workers.run_bounded(eval, "__import__('pathlib').PurePosixPath('/')")
    assert none.value.why == "Its reader's answer is none."
    assert not before & workers._all
    assert await workers.run_bounded(len, b"abc") == 3


def test_a_layout_leads_out_of_no_object() -> None:
    local = Local("pack", 100, 50)
    assert local.part(10, 40) == Local("pack", 110, 40)
    for offset, length in ((-1, 10), (0, 51), (50, 1), (10, -1), (1 << 70, 1)):
        with pytest.raises(StorageError):
            local.part(offset, length)


async def _outcome(of: Any) -> Any:
    try:
        return await of
    except CrosslightError as error:
        return type(error), error.what, error.why


async def _here(fn: Callable[..., Any], *args: Any) -> Any:
    return fn(*args)


@in_a_loop
@pytest.mark.parametrize("path", [pytest.param(path, id=path.name) for path in sample_files()])
async def test_every_sample_reads_confined_as_it_does_unconfined(
    workers: Workers, path: Path, tmp_path: Path
) -> None:
    span, limit = lend(Local(str(path), 0, path.stat().st_size)), 1 << 24
    tasks: list[tuple[Any, ...]] = [
        (layout_object, span, True),
        (layout_object, span, False),
        (decode_object, span, True, 1, limit),
        (render_object, span, True, 1, RenderOptions(), limit),
        (render_object, span, False, 1, RenderOptions(media="image/png", width=50, height=50), limit),
    ]
    for fn, *args in tasks:
        confined = await _outcome(workers.run_bounded(fn, *args))
        assert confined == await _outcome(_here(fn, *args)), fn.__name__
    made = []
    for name in ("confined", "here"):
        target = Lent(str(tmp_path / name), write=True)
        run = workers.run_bounded if name == "confined" else _here
        said = await _outcome(run(transcode_object, span, True, target, limit))  # type: ignore[operator]  # both take a function
        assert isinstance(said, int) or said[0] in (NotAcceptable, TooLarge)
        made.append((said, (tmp_path / name).read_bytes()))
    assert made[0] == made[1]
