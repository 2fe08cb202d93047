"""Text of DICOM values in every Specific Character Set (PS3.3 C.12.1.1.2, PS3.5 6.1).

ISO 2022 code extensions are included.

Never fails: a byte that its character set does not know becomes U+FFFD, an unknown set is read as UTF-8 or
else Latin-1.
"""

from __future__ import annotations

import re
from functools import lru_cache

_SINGLE = {  # PS3.3 Table C.12-2 and C.12-3: defined term without its prefix -> codec
    "6": "ascii",
    "13": "shift_jis",
    "100": "latin_1",
    "101": "iso8859_2",
    "109": "iso8859_3",
    "110": "iso8859_4",
    "126": "iso8859_7",
    "127": "iso8859_6",
    "138": "iso8859_8",
    "144": "iso8859_5",
    "148": "iso8859_9",
    "166": "iso8859_11",
    "203": "iso8859_15",
}
#: Multi-byte sets with code extensions (Table C.12-4) -> codec of the octets above 127; G0 sets have none of
#: their own.
_MULTI = {"87": "shift_jis", "159": "shift_jis", "149": "euc_kr", "58": "gb2312"}
#: Sets without code extensions (Table C.12-5), and names that DICOM does not have but whose meaning is not in
#: doubt; spaces,
#: hyphens and underscores taken out.
_WHOLE = {
    "ISOIR192": "utf-8",
    "GB18030": "gb18030",
    "GBK": "gbk",
    "ISO2022GBK": "gbk",
    "ISO2022GB18030": "gb18030",
    "UTF8": "utf-8",
    "UNICODEUTF8": "utf-8",
    "ISO10646": "utf-8",
    "GB2312": "gb2312",
    "ISO202258": "gb2312",
    "EUCCN": "gb2312",
    "GB231280": "gb2312",
    "EUCKR": "euc_kr",
    "KSX1001": "euc_kr",
    "KSC5601": "euc_kr",
    "SHIFTJIS": "shift_jis",
    "SJIS": "shift_jis",
    "EUCJP": "euc_jp",
    "BIG5": "big5",
    "ASCII": "ascii",
    "USASCII": "ascii",
    "TIS620": "iso8859_11",
    "KOI8R": "koi8_r",
    **{f"LATIN{n}": f"iso8859_{part}" for n, part in ((1, 1), (2, 2), (3, 3), (4, 4), (5, 9), (9, 15))},
    **{f"ISO8859{n}": f"iso8859_{n}" for n in (1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 13, 15)},
    **{f"{name}{n}": f"cp{n}" for name in ("WINDOWS", "CP") for n in range(1250, 1259)},
}

_ESCAPES = {  # PS3.3 Table C.12-3, C.12-4: sequence -> codec
    b"\x1b(B": "ascii",
    b"\x1b(J": "shift_jis",
    b"\x1b)I": "shift_jis",
    b"\x1b-A": "latin_1",
    b"\x1b-B": "iso8859_2",
    b"\x1b-C": "iso8859_3",
    b"\x1b-D": "iso8859_4",
    b"\x1b-F": "iso8859_7",
    b"\x1b-G": "iso8859_6",
    b"\x1b-H": "iso8859_8",
    b"\x1b-L": "iso8859_5",
    b"\x1b-M": "iso8859_9",
    b"\x1b-T": "iso8859_11",
    b"\x1b-b": "iso8859_15",
    b"\x1b$)C": "euc_kr",
    b"\x1b$)A": "gb2312",
    b"\x1b$B": "iso2022_jp",
    b"\x1b$@": "iso2022_jp",
    b"\x1b$(D": "iso2022_jp_2",
}
_SPLIT = re.compile(rb"(\x1b(?:\$\([A-Z]|\$\)[A-Z]|\$[@A-Z]|[()\-.][A-Za-z]))")
_SHIFTED = frozenset({"iso2022_jp", "iso2022_jp_2"})  # two bytes of G0: no delimiter can stand among them

Charset = tuple[str, bool]  # codec of the first value, and whether code extensions are in use
DEFAULT: Charset = ("ascii", False)
#: Codecs under which octets above 127 are read by guessing: a set that is not known, and none at all.
UNSURE = frozenset({"ascii", "unknown"})


@lru_cache(maxsize=256)
def charset(terms: tuple[str, ...]) -> Charset:
    """How to read text under the values of (0008,0005). Spaces, hyphens and underscores are taken alike."""
    first = re.sub(r"[\s_-]+", "", terms[0]).upper() if terms else ""
    extended = len(terms) > 1 or first.startswith("ISO2022")
    if first in _WHOLE:
        return _WHOLE[first], False
    number = re.fullmatch(r"ISO(?:2022)?(?:IR)?([0-9]+)", first)
    if number and number.group(1) in _SINGLE:
        return _SINGLE[number.group(1)], extended
    if number and number.group(1) in _MULTI:
        return _MULTI[number.group(1)], True
    return ("ascii" if not first else "unknown"), extended


def is_utf8(data: bytes) -> bool:
    """Whether ``data`` is UTF-8, which other text above 127 hardly ever is."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def decode(data: bytes, how: Charset, *, delimiters: bytes = b"\\") -> str:
    """The text of ``data``.

    Args:
        data: A whole value field; several values may be in it.
        how: From :func:`charset`.
        delimiters: After these bytes, and line ends, the initial set is in force again (PS3.5 6.1.2.5.3);
            ``\\\\``, and for PN also ``^`` and ``=``.
    """
    codec, extended = how
    escaped = b"\x1b" in data
    if not escaped and data.isascii():
        return data.decode("ascii")
    if not (extended and escaped):
        return _plain(data, codec)
    return _extended(data, codec, delimiters + b"\r\n\f\t")


def _plain(data: bytes, codec: str) -> str:
    if codec in UNSURE:
        return data.decode("utf-8" if is_utf8(data) else "latin_1")
    return data.decode(codec, "replace")


def _extended(data: bytes, first: str, delimiters: bytes) -> str:
    cut = re.compile(b"([" + re.escape(delimiters) + b"])")
    out = []
    codec, sequence = first, b""
    for piece in _SPLIT.split(data):
        if piece[:1] == b"\x1b" and piece in _ESCAPES:
            codec, sequence = _ESCAPES[piece], piece
            continue
        if codec in _SHIFTED:
            out.append((sequence + piece).decode(codec, "replace"))
            continue
        head, *rest = cut.split(piece)
        out.append(_plain(head, codec))
        if rest:
            codec, sequence = first, b""
            out.append(_plain(b"".join(rest), codec))
    return "".join(out)
