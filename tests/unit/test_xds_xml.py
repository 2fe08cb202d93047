"""Bounds of untrusted XML, and escaping that any text survives."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from crosslight.standards.problem import Malformed, TooLarge
from crosslight.standards.xds.model.xml import XmlLimits, esc, legal, parse_untrusted_xml, text_of


def test_plain_and_utf16_and_bom() -> None:
    assert parse_untrusted_xml(b"<a>\xc3\xa9</a>").text == "é"
    assert parse_untrusted_xml(b"\xef\xbb\xbf<a/>").tag == "a"
    text = '<?xml version="1.0" encoding="UTF-16"?><a>é</a>'
    assert parse_untrusted_xml(text.encode("utf-16")).text == "é"


@pytest.mark.parametrize(
    "data",
    [
        b'<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>',
        b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>',
        '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>'.encode("utf-16"),
        b"<a>&undefined;</a>",
        b"<a>",
        b"",
        b"\xff\xfe<",
        b'<?xml version="1.0" encoding="UTF-7"?><a/>',
        '<?xml version="1.0" encoding="IBM037"?><a/>'.encode("cp037"),
        b"<a>" * 300 + b"</a>" * 300,
        b"<a>\x00</a>",
    ],
)
def test_refused(data: bytes) -> None:
    with pytest.raises(Malformed):
        parse_untrusted_xml(data)


@pytest.mark.parametrize(
    ("data", "limits"),
    [
        (b"<a>" + b"<b/>" * 11 + b"</a>", XmlLimits(max_elements=10)),
        (b"<a>" + b"<b/>" * 500_000 + b"</a>", XmlLimits()),
        (b"<a " + b" ".join(b'x%d=""' % i for i in range(300)) + b"/>", XmlLimits()),
        (b"<a " + b" ".join(b'x%d="y"' % i for i in range(500_000)) + b"/>", XmlLimits()),
        (b"<a " + b" ".join(b'xmlns:x%d="u"' % i for i in range(3000)) + b"/>", XmlLimits()),
        (b"<a>" + b" " * 100 + b"</a>", XmlLimits(max_bytes=50)),
    ],
)
def test_bounds(data: bytes, limits: XmlLimits) -> None:
    with pytest.raises(TooLarge):
        parse_untrusted_xml(data, limits)


def test_comments_do_not_hide_text() -> None:
    assert text_of(parse_untrusted_xml(b"<a>dr<!-- -->.a</a>")) == "dr.a"


@given(st.text())
def test_any_text_survives_as_content_and_attribute(text: str) -> None:
    root = etree.fromstring(f'<a b="{esc(text)}">{esc(text)}</a>'.encode())
    assert (root.text or "") == legal(text)
    assert root.get("b") == legal(text)
