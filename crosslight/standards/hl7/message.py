"""HL7 v2 messages in the vertical-bar form: bytes to segments and back (HL7 v2.3.1 2.7-2.10).

Liberal reader: any delimiters, line feeds for carriage returns, unknown segments and escapes kept. Strict
writer: standard delimiters, every delimiter and control character escaped. Knows no segment's meaning.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass

from crosslight.standards.problem import Malformed, TooLarge, Unsupported

MAX_SEGMENTS = 1000
MAX_REPETITIONS = 200
NULL = '""'  # "delete what you hold" (HL7 v2.3.1 2.8)

#: HL7 table 0211, alternate character sets, and common spellings of them -> Python codec. Spaces and the
#: signs ``-_/.`` are
#: taken out of the keys, and of what is looked up.
CHARSETS = {
    "": "ascii",
    "ASCII": "ascii",
    "USASCII": "ascii",
    "ISOIR6": "ascii",
    "UNICODEUTF8": "utf-8",
    "UNICODE": "utf-8",
    "UTF8": "utf-8",
    "ISOIR192": "utf-8",
    **{
        f"{name}8859{n}": f"iso8859-{n}"
        for name in ("", "ISO", "ISOIEC")
        for n in (1, 2, 3, 4, 5, 6, 7, 8, 9, 15)
    },
    **{
        f"ISOIR{ir}": f"iso8859-{n}" for ir, n in ((100, 1), (101, 2), (109, 3), (110, 4), (144, 5), (148, 9))
    },
    **{f"LATIN{n}": f"iso8859-{n}" for n in (1, 2, 3, 4)},
    **{f"{name}{n}": f"cp{n}" for name in ("WINDOWS", "CP") for n in range(1250, 1259)},
    "ISOIR14": "shift_jis",
    "ISOIR87": "iso2022_jp",
    "ISOIR159": "iso2022_jp_1",
    "GB180302000": "gb18030",
    "GB18030": "gb18030",
    "KSX1001": "euc_kr",
    "BIG5": "big5",
}

_STANDARD = re.compile(r"[\\|^&~\x00-\x1f\x7f]")
_NAMED = {"|": "F", "^": "S", "&": "T", "~": "R", "\\": "E"}


@dataclass(frozen=True, slots=True)
class Delimiters:
    """MSH-1 and MSH-2 of a message, and its character set for ``\\X..\\``."""

    field: str = "|"
    component: str = "^"
    repetition: str = "~"
    escape: str = "\\"
    subcomponent: str = "&"
    codec: str = "utf-8"

    def unescape(self, text: str) -> str:
        """Undo the escape sequences of 2.10.

        Highlighting is dropped, sequences that are not known stay as they are.
        """
        if not self.escape or self.escape not in text:
            return text
        mark = re.escape(self.escape)
        return re.sub(f"{mark}([^{mark}]*){mark}", self._sequence, text)

    def _sequence(self, match: re.Match[str]) -> str:
        body = match.group(1)
        plain = {
            "F": self.field,
            "S": self.component,
            "T": self.subcomponent,
            "R": self.repetition,
            "E": self.escape,
            ".br": "\n",
            "H": "",
            "N": "",
        }.get(body)
        if plain is not None:
            return plain
        if body[:1] == "X" and len(body) > 1:
            try:
                octets = bytes.fromhex(body[1:])
            except ValueError:
                return match.group(0)
            for codec in (self.codec, "utf-8", "latin-1"):
                try:
                    return octets.decode(codec)
                except UnicodeDecodeError:
                    continue
        return match.group(0)


def _split(text: str, separator: str) -> list[str]:
    """``text`` at ``separator``; one that the message does not have separates nothing."""
    return text.split(separator) if separator else [text]


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment.

    Fields count as in the standard: ``field(3)`` of PID is PID-3, of MSH the sending application.
    """

    name: str
    fields: tuple[str, ...]  # raw, fields[0] is the name
    delimiters: Delimiters

    def field(self, n: int) -> str:
        """Field ``n`` as it stands, '' when absent."""
        return self.fields[n] if n < len(self.fields) else ""

    def repetitions(self, n: int) -> list[str]:
        """The raw repetitions of field ``n``; none for an empty field."""
        text = self.field(n)
        if not text:
            return []
        parts = _split(text, self.delimiters.repetition)
        if len(parts) > MAX_REPETITIONS:
            raise TooLarge(
                "A field repeats too often.", why=f"Limit here: {MAX_REPETITIONS}.", where=f"{self.name}-{n}"
            )
        return parts

    def components(self, repetition: str) -> list[str]:
        """The raw components of one repetition."""
        return _split(repetition, self.delimiters.component)

    def component(self, n: int, m: int = 1, sub: int = 1) -> str:
        """The text of component ``m``, subcomponent ``sub`` of the first repetition of field ``n``."""
        repetitions = self.repetitions(n)
        return self.text(repetitions[0], m, sub) if repetitions else ""

    def text(self, repetition: str, m: int, sub: int = 1) -> str:
        """The text of component ``m``, subcomponent ``sub`` of a raw repetition."""
        return self.delimiters.unescape(self._raw(repetition, m, sub)).strip(" ")

    def is_null(self, repetition: str, m: int) -> bool:
        """Whether component ``m`` is the null value.

        The same characters escaped are text (HL7 v2.3.1 2.8).
        """
        return self._raw(repetition, m, 1).strip(" ") == NULL

    def _raw(self, repetition: str, m: int, sub: int) -> str:
        parts = self.components(repetition)
        if m > len(parts):
            return ""
        subs = _split(parts[m - 1], self.delimiters.subcomponent)
        return subs[sub - 1] if sub <= len(subs) else ""


@dataclass(frozen=True, slots=True)
class Message:
    """A message: its segments in order, MSH first."""

    segments: tuple[Segment, ...]

    @property
    def header(self) -> Segment:
        """The message header segment (MSH)."""
        return self.segments[0]

    def all(self, name: str) -> list[Segment]:
        """Every segment called ``name``."""
        return [s for s in self.segments if s.name == name]

    def first(self, name: str) -> Segment | None:
        """The first segment called ``name``."""
        return next(iter(self.all(name)), None)


def parse_header(data: bytes) -> Message:
    """MSH alone, whatever is wrong with it or after it: an answer must name the message that it refuses.

    Raises:
        Malformed: if it has no MSH.
    """
    line = re.split(rb"[\r\n]", _begun(data), maxsplit=1)[0]
    try:
        text = line.decode(_codec(line))
    except (UnicodeDecodeError, Unsupported):
        text = _undeclared(line)[1]
    try:
        delimiters = _delimiters(text, "utf-8")
    except Malformed:
        delimiters = Delimiters(text[3])
    return Message((_segment(text, delimiters),))


def parse_message(data: bytes) -> Message:
    """Read one message without MLLP framing.

    Raises:
        Malformed: if it has no MSH, its separators cannot be told apart, or its bytes are not of its
            character set.
        Unsupported: for a character set that is not known here.
        TooLarge: for too many segments.
    """
    data = _begun(data)
    codec = _codec(data)
    try:
        text = data.decode(codec)
    except UnicodeDecodeError:
        if codec != "ascii":
            raise Malformed(
                "The message is not in the character set that it names.", where="MSH-18"
            ) from None
        codec, text = _undeclared(data)
    delimiters = _delimiters(text, codec)
    lines = [line for line in re.split(r"[\r\n]+", text) if line]
    if len(lines) > MAX_SEGMENTS:
        raise TooLarge("The message has too many segments.", why=f"Limit here: {MAX_SEGMENTS}.")
    return Message(tuple(_segment(line, delimiters) for line in lines))


def _begun(data: bytes) -> bytes:
    """The message without what some senders put around it."""
    data = data.removeprefix(codecs.BOM_UTF8).strip(b"\r\n\x00 ")
    if data[:3] != b"MSH" or len(data) < 8 or data[3:4].isalnum() or data[3] < 0x20:
        raise Malformed("This is no HL7 v2 message: MSH is missing.", where="MSH")
    return data


def _delimiters(text: str, codec: str) -> Delimiters:
    """The separators of MSH-1 and MSH-2.

    Some senders leave out the last ones, or the escape character (``^~&``).
    """
    marks = re.split(rf"[\r\n{re.escape(text[3])}]", text[4:], maxsplit=1)[0][:4]
    if not marks or len(set(marks)) < len(marks) or any(mark.isalnum() for mark in marks):
        what = "The separators of the message cannot be told apart."
        raise Malformed(what, todo="Send ^~\\& in MSH-2.", why="HL7 v2.3.1 2.7.", where="MSH-2")
    if marks[2:] == "&":
        return Delimiters(text[3], marks[0], marks[1], "", "&", codec)
    return Delimiters(text[3], marks[0:1], marks[1:2], marks[2:3], marks[3:4], codec)


def _codec(data: bytes) -> str:
    line = re.split(rb"[\r\n]", data, maxsplit=1)[0].decode("latin-1")
    fields = line.split(line[3])
    declared = fields[17] if len(fields) > 17 else ""
    mark = fields[1][1:2] if len(fields) > 1 else ""
    name = re.sub(r"[\s_/.-]", "", _split(declared, mark)[0].upper())
    if name not in CHARSETS:
        raise Unsupported(
            "The message's character set is not known here.", todo="Use UNICODE UTF-8.", where="MSH-18"
        )
    return CHARSETS[name]


def _undeclared(data: bytes) -> tuple[str, str]:
    """Octets above 127 without a declaration: UTF-8 where they are that, else Latin-1.

    As most senders mean.
    """
    try:
        return "utf-8", data.decode("utf-8")
    except UnicodeDecodeError:
        return "latin-1", data.decode("latin-1")


def _segment(line: str, delimiters: Delimiters) -> Segment:
    fields = line.split(delimiters.field)
    if fields[0] == "MSH":  # MSH-1 is the separator itself
        fields.insert(1, delimiters.field)
    return Segment(fields[0].strip(), tuple(fields), delimiters)


def escape(text: str) -> str:
    """``text`` with standard delimiters and control characters escaped.

    The latter as the hexadecimal of their octet.

    Text that would be the null value is escaped whole.
    """
    if text.strip(" ") == NULL:
        return text.replace(NULL, "\\X2222\\")
    return _STANDARD.sub(lambda m: f"\\{_NAMED.get(m.group(), f'X{ord(m.group()):02X}')}\\", text)


def render(segments: list[list[str]]) -> bytes:
    """A message of ready fields, in UTF-8, segments ended by a carriage return.

    Each field was built with :func:`escape`.

    MSH is given as ``["MSH", "^~\\&", …]``: MSH-1 is the separator.
    """
    return "".join("|".join(_trimmed(fields)) + "\r" for fields in segments).encode("utf-8")


def _trimmed(fields: list[str]) -> list[str]:
    end = len(fields)
    while end > 1 and not fields[end - 1]:
        end -= 1
    return fields[:end]
