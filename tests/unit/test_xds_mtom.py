"""multipart/related and XOP: what is refused, and that any splitting of the bytes reads the same."""

from __future__ import annotations

import base64
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from crosslight.standards.problem import Malformed, TooLarge
from crosslight.standards.xds.model.xml import XOP
from crosslight.standards.xds.wire.mtom import (
    MtomFrame,
    MultipartParser,
    XopPartBegin,
    XopPartData,
    inline_parts,
    parse_content_type,
    parse_related,
)

FRAME = MtomFrame("0" * 32, "urn:x")


def message(parts: list[tuple[str, bytes]], root: bytes = b"<r/>") -> bytes:
    inner = b"".join(FRAME.part_head(cid, "application/dicom") + data for cid, data in parts)
    return FRAME.head(root) + inner + FRAME.tail()


def read(data: bytes, step: int, boundary: str = FRAME.boundary) -> list[bytes]:
    parser, found = MultipartParser(boundary), list[bytes]()
    for at in range(0, len(data), step):
        for event in parser.feed(data[at : at + step]):
            if isinstance(event, XopPartBegin):
                found.append(b"")
            elif isinstance(event, XopPartData):
                found[-1] += event.data
    parser.close()
    return found


TRICKY = st.lists(
    st.sampled_from([b"\r", b"\n", b"--", b"\r\n--", FRAME.boundary.encode()[:-1], b"a", b"\0"])
).map(b"".join)


@given(st.lists(st.one_of(st.binary(), TRICKY), max_size=4), st.integers(1, 80))
def test_any_bytes_in_any_splitting(contents: list[bytes], step: int) -> None:
    data = message([(f"{i}@x", c) for i, c in enumerate(contents)])
    assert read(data, step) == [b"<r/>", *contents]


def test_length_is_what_is_written() -> None:
    parts = [("a@x", b"123"), ("b@x", b"")]
    assert FRAME.length(b"<r/>", [(c, "application/dicom", len(d)) for c, d in parts]) == len(message(parts))


def test_root_is_found_by_start_even_when_last() -> None:
    data = (
        b"--b\r\nContent-ID: <p@x>\r\n\r\nbytes\r\n--b  \r\nContent-Type: application/xop+xml\r\nContent-ID:"
        b" <r@x>\r\n\r\n<r/>\r\n--b--epilogue"
    )
    root, parts = parse_related('multipart/related; boundary=b; start="<r@x>"', data)
    assert (root, parts) == (b"<r/>", {"p@x": b"bytes"})


HEAD = 'multipart/related; boundary=b; start="<r@x>"'
ROOT = b"--b\r\nContent-ID: <r@x>\r\n\r\n<r/>\r\n"


@pytest.mark.parametrize(
    ("head", "data"),
    [
        ("multipart/related", ROOT + b"--b--"),  # no boundary
        (HEAD, ROOT),  # cut off
        (HEAD, ROOT.replace(b"\r\n", b"\n") + b"--b--"),  # LF only
        (HEAD, b"--b\r\nContent-ID: <other>\r\n\r\n<r/>\r\n--b--"),  # start names nothing
        (HEAD, ROOT + b"--b\r\n\r\nno id\r\n--b--"),
        (HEAD, ROOT + b"--b\r\nContent-ID: <p>\r\n\r\n1\r\n--b\r\nContent-ID: <p>\r\n\r\n2\r\n--b--"),
        (HEAD, b"--b\r\nContent-ID: <r@x>\r\nContent-Length: 7\r\n\r\n<r/>\r\n--b--"),  # lying length
        (HEAD, b"--b\r\nContent-ID: <r@x>\r\nContent-Length: +4\r\n\r\n<r/>\r\n--b--"),
        (HEAD, b"--b\r\nContent-ID <r@x>\r\n\r\n<r/>\r\n--b--"),
        (HEAD, b"--b\r\n" + b"X: y\r\n" * 3000 + b"\r\n<r/>\r\n--b--"),
        (HEAD, b"x" * 9000 + b"\r\n" + ROOT + b"--b--"),
        (HEAD, b""),
        (HEAD, b"--b--"),
    ],
)
def test_broken_multipart_is_malformed(head: str, data: bytes) -> None:
    with pytest.raises(Malformed):
        parse_related(head, data)


@pytest.mark.parametrize("fold", ["\r\n\t", "\r\n ", "\r\n \t "])
def test_a_folded_head(fold: str) -> None:
    """As SAAJ writes a Content-Type of more than 76 characters (RFC 5322 2.2.3)."""
    head = (
        "Content-Type: application/xop+xml;"
        f' charset=UTF-8;{fold}type="application/soap+xml"\r\nContent-ID:{fold}<r@x>'
    )
    assert parse_related(HEAD, b"--b\r\n" + head.encode() + b"\r\n\r\n<r/>\r\n--b--")[0] == b"<r/>"


def test_too_many_parts() -> None:
    with pytest.raises(TooLarge):
        parse_related(HEAD, ROOT + b"--b\r\nContent-ID: <1>\r\n\r\n\r\n" * 5 + b"--b--", max_parts=3)


def include(*hrefs: str) -> etree._Element:
    inner = "".join(f'<d><x:Include xmlns:x="{XOP}" href="{h}"/></d>' for h in hrefs)
    return etree.fromstring(f"<r>{inner}</r>")


def test_includes_become_base64_with_url_decoding() -> None:
    root = include("cid:1.2.3%404")
    inline_parts(root, {"1.2.3@4": b"\0\xff"})
    assert base64.b64decode(root[0].text or "") == b"\0\xff"


@pytest.mark.parametrize(
    ("root", "parts"),
    [
        (include("cid:a"), {}),
        (include("cid:a"), {"a": b"", "spare": b""}),
        (include("cid:a", "cid:a"), {"a": b""}),
        (include("http://x/a"), {"a": b""}),
        (include("cid:"), {"": b""}),
    ],
)
def test_closure_of_references(root: etree._Element, parts: dict[str, bytes]) -> None:
    with pytest.raises(Malformed):
        inline_parts(root, parts)


def test_content_type_parameters() -> None:
    kind, parameters = parse_content_type(
        'Multipart/Related ; boundary=a-b;start="<x;\\"y>" ; type="application/xop+xml"; action=None'
    )
    assert kind == "multipart/related"
    assert parameters == {
        "boundary": "a-b",
        "start": '<x;"y>',
        "type": "application/xop+xml",
        "action": "None",
    }


def work_of_parts(count: int) -> float:
    """What reading so many parts of 780 bytes costs, in processor time; the least of three."""
    heads = (f"\r\n--{FRAME.boundary}\r\nContent-ID: <{n}@x>\r\n\r\n".encode() for n in range(count))
    data = FRAME.head(b"<r/>") + b"".join(head + bytes(780) for head in heads) + FRAME.tail()
    spent = []
    for _ in range(3):
        began = time.process_time()
        _, parts = parse_related(FRAME.content_type, data)
        spent.append(time.process_time() - began)
        assert len(parts) == count
    return min(spent)


def test_many_parts_cost_no_more_than_their_bytes() -> None:
    """10,000 parts took 11 s of work, as each moved all that was left: five times the parts, 25 times it."""
    assert work_of_parts(10_000) < 10 * work_of_parts(2_000)
