"""multipart/related: what is written is read back, however it is cut; what is not multipart is refused."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from aiohttp import MultipartReader
from aiohttp.base_protocol import BaseProtocol
from aiohttp.streams import StreamReader
from hypothesis import assume, given
from hypothesis import strategies as st
from multidict import CIMultiDict

from crosslight.standards.dicom.web.multipart import (
    PartBegin,
    PartData,
    PartEnd,
    PartHead,
    RelatedReader,
    RelatedWriter,
    boundary_of,
    parameters,
)
from crosslight.standards.problem import Invalid, Malformed, TooLarge

DICOM = (("Content-Type", "application/dicom"),)


def written(parts: list[bytes], boundary: str = "BoundarY") -> bytes:
    writer = RelatedWriter(boundary, "application/dicom")
    heads = [PartHead(DICOM, len(part)) for part in parts]
    body = b"".join(
        writer.before(head, first=i == 0) + part
        for i, (head, part) in enumerate(zip(heads, parts, strict=True))
    )
    body += writer.end(empty=not parts)
    assert len(body) == writer.content_length(heads)
    return body


def read(
    body: bytes, step: int, boundary: str = "BoundarY", **limits: int
) -> list[tuple[dict[str, str], bytes]]:
    """By copies and by views, which give the same."""
    found = _read(body, step, boundary, **limits)
    assert _read(body, step, boundary, views=True, **limits) == found
    return found


def _read(body: bytes, step: int, boundary: str, **limits: Any) -> list[tuple[dict[str, str], bytes]]:
    reader = RelatedReader(boundary, **limits)
    found: list[tuple[dict[str, str], bytes]] = []
    for start in range(0, len(body), step):
        for event in reader.feed(body[start : start + step]):
            if isinstance(event, PartBegin):
                assert event.index == len(found)
                found.append((event.headers, b""))
            elif isinstance(event, PartData):
                found[-1] = (found[-1][0], found[-1][1] + event.data)
            else:
                assert isinstance(event, PartEnd)
    reader.close()
    assert reader.finished
    return found


#: Bytes that come near to a delimiter.
NASTY = st.lists(
    st.sampled_from(
        [
            b"\r\n",
            b"\r",
            b"--",
            b"\r\n-",
            b"\r\n--Boundar",
            b"\0",
            b"--BoundarY",
            b"\r\n--BoundarYx\r\n",
            b"x",
        ]
    ),
    max_size=8,
).map(b"".join)


@given(st.lists(NASTY | st.binary(max_size=64), max_size=4), st.integers(1, 40))
def test_round_trip(parts: list[bytes], step: int) -> None:
    # a sender's choice of boundary sees to it
    assume(not any(re.search(rb"\n--BoundarY(?!x)", part + b"\r") for part in parts))
    assert [body for _, body in read(written(parts), step)] == parts


@given(st.binary(max_size=200), st.integers(1, 30))
def test_any_bytes_are_read_or_refused(body: bytes, step: int) -> None:
    with pytest.raises((Malformed, TooLarge)):
        read(body + b"\r\n--Boundar", step)


def test_headers_preamble_epilogue_and_padding() -> None:
    body = b"hello\r\n--BoundarY \t\r\nContent-TYPE: a/b; c=d\r\nX: \xc3\xa9\r\n\r\none"
    body += b"\r\n--BoundarY\r\n\r\ntwo\r\n--BoundarY-- \r\nbye"
    for step in (1, 5, len(body)):
        assert read(body, step) == [({"content-type": "a/b; c=d", "x": "é"}, b"one"), ({}, b"two")]


@pytest.mark.parametrize(
    "body",
    [
        b"--BoundarY\nContent-Type: a/b\n\none\n--BoundarY--\n",  # line feeds alone
        # one of them
        (
            b"--BoundarY\r\nContent-Type: a/b\r\n\r\none\n--BoundarY\r\nContent-Type:"
            b" a/b\r\n\r\ntwo\r\n--BoundarY--"
        ),
        b"--BoundarY\r\nContent-Type: a/b\r\n\r\none",  # no terminal delimiter
        b"--BoundarY\r\nContent-Type: a/b\r\n\r\none\r\n--BoundarY\r\n",  # cut off in headers
        b"--BoundarY\r\nno colon\r\n\r\none\r\n--BoundarY--",
        b"--BoundarY\r\na b: c\r\n\r\none\r\n--BoundarY--",
        b"--BoundarY\r\na: b\nc: d\r\n\r\none\r\n--BoundarY--",
        b"--Other\r\n\r\none\r\n--Other--",
        b"",
    ],
)
@pytest.mark.parametrize("step", [1, 1000])
def test_malformed(body: bytes, step: int) -> None:
    with pytest.raises(Malformed):
        read(body, step)


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_folded_headers(step: int) -> None:
    body = b"--BoundarY\r\nContent-Type: a/b;\r\n\tc=d;\r\n e=f\r\nX: 1\r\n\r\none\r\n--BoundarY--"
    assert read(body, step) == [({"content-type": "a/b;\tc=d; e=f", "x": "1"}, b"one")]
    assert parameters("a/b;\tc=d; e=f") == ("a/b", {"c": "d", "e": "f"})
    with pytest.raises(Malformed):
        read(b"--BoundarY\r\n\tc=d\r\n\r\none\r\n--BoundarY--", step)


def test_bounds() -> None:
    with pytest.raises(TooLarge, match="too many parts"):
        read(written([b"x"] * 3), 7, max_parts=2)
    with pytest.raises(TooLarge, match="headers"):
        read(b"--BoundarY\r\nX: " + b"y" * 9000, 1000)
    with pytest.raises(Malformed, match="begin"):
        read(b"z" * 10_000, 1000)


def test_the_reader_holds_little() -> None:
    reader = RelatedReader("BoundarY")
    reader.feed(b"--BoundarY\r\n\r\n")
    for _ in range(100):
        data = b"".join(
            event.data for event in reader.feed(b"\r\n--Boundar" * 1000) if isinstance(event, PartData)
        )
        assert len(data) > 9900
    assert len(reader._buffer) < 32


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ('multipart/related; type="application/dicom"; boundary=abc', "abc"),
        ('multipart/related; type=application/dicom; boundary="a b\'c"', "a b'c"),
        ("Multipart/Related;BOUNDARY=abc", "abc"),
    ],
)
def test_boundaries(content_type: str, boundary: str) -> None:
    assert boundary_of(content_type) == boundary


@pytest.mark.parametrize(
    "content_type", ["", "application/dicom", "multipart/related", "multipart/related; boundary=",
                     f"multipart/related; boundary={'x' * 71}",
                     'multipart/related; boundary="x "', 'multipart/related; boundary="é"'],
)  # fmt: skip
def test_no_boundary(content_type: str) -> None:
    with pytest.raises(Malformed):
        boundary_of(content_type)


def test_the_writer_refuses_what_would_break_it() -> None:
    with pytest.raises(Invalid):
        RelatedWriter("a\r\nb", "application/dicom")
    with pytest.raises(Invalid):
        RelatedWriter("b", "application/dicom").before(PartHead((("X", "a\r\nY: b"),), 1), first=True)


def test_parameters() -> None:
    assert parameters('multipart/related; type="a/b"; boundary=x') == (
        "multipart/related",
        {"type": "a/b", "boundary": "x"},
    )


async def test_an_outside_reader_reads_it() -> None:
    parts = [b"one", b"two\r\n-- ", bytes(range(256)) * 100]
    stream = StreamReader(BaseProtocol(asyncio.get_running_loop()), 2**16)
    stream.feed_data(written(parts))
    stream.feed_eof()
    reader = MultipartReader(
        CIMultiDict({"Content-Type": RelatedWriter("BoundarY", "application/dicom").content_type}), stream
    )
    found = []
    while (part := await reader.next()) is not None:
        assert not isinstance(part, MultipartReader)
        found.append(bytes(await part.read()))
    assert found == parts
