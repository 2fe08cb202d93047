"""Untrusted XML in, escaped XML out.

The bounds of every SOAP message (SOAP 1.2 part 1, 5: no DTD), and namespaces.

Knows nothing of SOAP or ebRIM.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from lxml import etree

from crosslight.standards.problem import Malformed, TooLarge

Element = etree._Element

SOAP = "http://www.w3.org/2003/05/soap-envelope"
WSA = "http://www.w3.org/2005/08/addressing"
XOP = "http://www.w3.org/2004/08/xop/include"
RIM = "urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0"
RS = "urn:oasis:names:tc:ebxml-regrep:xsd:rs:3.0"
LCM = "urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0"
QUERY = "urn:oasis:names:tc:ebxml-regrep:xsd:query:3.0"
XDSB = "urn:ihe:iti:xds-b:2007"
XDSIB = "urn:ihe:rad:xdsi-b:2009"
XML = "http://www.w3.org/XML/1998/namespace"
BLANKS = " \t\r\n"  # white space (XML 1.0 2.3); blanks of other scripts are text


@dataclass(frozen=True, slots=True, kw_only=True)
class XmlLimits:
    """Bounds of one message; depth is libxml2's own 256, a text node's length its own 10 MB."""

    max_bytes: int = 8 << 20
    max_elements: int = 200_000
    max_attributes: int = 256  # of one element
    max_declarations: int = 2_000  # of namespaces, in all


DEFAULT_LIMITS = XmlLimits()

_BOM8, _BOM16 = b"\xef\xbb\xbf", (b"\xff\xfe", b"\xfe\xff")
_ENCODING = re.compile(rb"""\A<\?xml[^>]{0,100}?encoding\s*=\s*["']([A-Za-z0-9._-]{1,40})["']""")
_DECLARATION = re.compile(r"\A\s*<\?xml[^>]{0,200}\?>")
#: Encodings in which ``<`` is one byte 0x3C wherever it is markup, so that what is counted is what is parsed.
_ASCII_SUPERSETS = frozenset(
    {b"utf-8", b"utf8", b"us-ascii", b"ascii", b"iso-8859-1", b"latin1", b"windows-1252", b"iso-8859-15"}
)


def _where(error: Exception) -> str:
    """Where it broke and how; libxml2's own sentence would repeat what stands there."""
    if not isinstance(error, etree.XMLSyntaxError):
        return ""
    line, column = error.position
    log: Any = error.error_log  # the stubs do not know that it is a sequence
    kinds = [entry.type_name.removeprefix("ERR_").replace("_", " ").lower() for entry in log]
    return f"Line {line}, column {column}: {kinds[-1] if kinds else 'broken'}."


def parse_untrusted_xml(data: bytes, limits: XmlLimits = DEFAULT_LIMITS) -> Element:
    """The root of a message from outside; comments and processing instructions are dropped.

    No DTD, no entities but XML's own five, no network, no schemaLocation, no XInclude.

    Raises:
        TooLarge: over one of ``limits``.
        Malformed: not well-formed, a document type, or an encoding that is not asked for by SOAP.
    """
    if len(data) > limits.max_bytes:
        raise TooLarge("The message is too large.", why=f"Limit here: {limits.max_bytes} bytes.")
    data = _normalised(data)
    if b"<!DOCTYPE" in data:
        raise Malformed(
            "The message has a document type declaration.",
            why="SOAP 1.2 part 1, 5: it must not contain a DTD.",
        )
    # Cheap upper bounds before a tree is built: an element needs one '<', an attribute one '='.
    tags, equals = data.count(b"<"), data.count(b"=")
    if tags > 2 * limits.max_elements + 1000 or equals > 2 * limits.max_elements:
        raise TooLarge("The message has too many elements.", why=f"Limit here: {limits.max_elements}.")
    if data.count(b"xmlns") > limits.max_declarations:
        raise TooLarge(
            "The message declares too many namespaces.", why=f"Limit here: {limits.max_declarations}."
        )
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        remove_pis=True,
        remove_comments=True,
        collect_ids=False,
    )
    try:
        root = etree.fromstring(data, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise Malformed("The message is not well-formed XML.", why=_where(error)) from None
    if root is None:  # libxml2 gives nothing for some broken input
        raise Malformed("The message is not well-formed XML.")
    information: Any = root.getroottree().docinfo
    if information.doctype:
        raise Malformed(
            "The message has a document type declaration.",
            why="SOAP 1.2 part 1, 5: it must not contain a DTD.",
        )
    if tags > limits.max_elements and int(float(str(root.xpath("count(//*)")))) > limits.max_elements:
        raise TooLarge("The message has too many elements.", why=f"Limit here: {limits.max_elements}.")
    # A start tag has no '<' inside, and an attribute takes five bytes: only a long piece can have too many.
    if (
        equals > limits.max_attributes
        and max(map(len, data.split(b"<"))) > 5 * limits.max_attributes
        and root.xpath(_MANY_ATTRIBUTES, n=limits.max_attributes)
    ):
        raise TooLarge("An element has too many attributes.", why=f"Limit here: {limits.max_attributes}.")
    return root


_MANY_ATTRIBUTES = "boolean(//*[count(@*) > $n])"


def _normalised(data: bytes) -> bytes:
    """UTF-16 as UTF-8; anything in which markup could hide is refused."""
    if data[:2] in _BOM16:
        try:
            text = data.decode("utf-16")
        except UnicodeDecodeError:
            raise Malformed("The message is not the UTF-16 it claims to be.") from None
        return _DECLARATION.sub("", text).encode("utf-8", "replace")
    data = data.removeprefix(_BOM8).lstrip(b" \t\r\n")
    declaration = _ENCODING.match(data[:200])
    if declaration is not None and declaration.group(1).lower() not in _ASCII_SUPERSETS:
        raise Malformed(
            "The message is in an encoding that is not accepted here.",
            why="SOAP 1.2 asks for UTF-8 or UTF-16.",
        )
    return data


# --- writing ------------------------------------------------------------------------------------------------

#: Characters that XML 1.0 (2.2) cannot carry in any form.
_ILLEGAL = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_NEEDS_CARE = re.compile("[^ !#-%(-;=?-~\u00a0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def legal(text: str) -> str:
    """``text`` with what XML 1.0 cannot carry replaced by U+FFFD."""
    return _ILLEGAL.sub("\ufffd", text) if _NEEDS_CARE.search(text) is not None else text


def esc(text: str) -> str:
    """``text`` for element content or a double-quoted attribute; any text survives a parser unchanged.

    Line ends and tabs are character references, so that neither end-of-line handling nor attribute
    normalisation (XML 1.0 2.11, 3.3.3) touches them.
    """
    if _NEEDS_CARE.search(text) is None:
        return text
    text = _ILLEGAL.sub("\ufffd", text)
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
    return text.replace("\r", "&#13;").replace("\n", "&#10;").replace("\t", "&#9;")


def esc_all(texts: Sequence[str]) -> Iterable[str]:
    """Each of ``texts`` as :func:`esc` has it; ids, times and numbers need no care, and one look shows it."""
    return texts if _NEEDS_CARE.search("".join(texts)) is None else map(esc, texts)


# --- reading ------------------------------------------------------------------------------------------------


def local_name(element: Element) -> str:
    """The tag without its namespace."""
    return str(element.tag).rpartition("}")[2]


def text_of(element: Element | None) -> str:
    """All text inside, in order (never ``.text`` alone: it stops at a child), '' for None."""
    if element is None:
        return ""
    if len(element) == 0:
        return str(element.text or "")
    return "".join([str(t) for t in element.itertext()])


def child(element: Element, namespace: str, name: str) -> Element | None:
    """The first child of that name."""
    return element.find(f"{{{namespace}}}{name}")


def children(element: Element, namespace: str, name: str) -> list[Element]:
    """All children of that name."""
    return element.findall(f"{{{namespace}}}{name}")


def attribute(element: Element, name: str, default: str = "") -> str:
    """An attribute's value without surrounding white space."""
    value = element.get(name)
    return default if value is None else value.strip(BLANKS)
