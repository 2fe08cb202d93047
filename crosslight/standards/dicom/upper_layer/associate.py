"""Associations asked for and accepted: A-ASSOCIATE-RQ and -AC (PS3.8 9.3.2, 9.3.3; PS3.7 D.3.3).

Pure. What is written is as the standard says; what is read may have items that are not known here, in any
order, UIDs and titles padded in any way, and numbers of contexts that are even.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from crosslight.standards.dicom.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION
from crosslight.standards.dicom.upper_layer.pdu import ASSOCIATE_AC, ASSOCIATE_RQ, HEAD_BYTES
from crosslight.standards.problem import Malformed

APPLICATION_CONTEXT: Final = "1.2.840.10008.3.1.1.1"  # PS3.7 A.2.1
MAX_CONTEXTS: Final = 128  # PS3.8 9.3.2.2: odd numbers of one byte
MAX_ASSOCIATE_BYTES: Final = 1 << 20
_VERSION: Final = 1  # bit 0 of the protocol version (PS3.8 9.3.2)

# PS3.8 Table 9-18: results of a presentation context
ACCEPTED, NO_REASON, ABSTRACT_SYNTAX_UNKNOWN, TRANSFER_SYNTAXES_UNKNOWN = 0, 2, 3, 4

# item types: PS3.8 9.3.2, 9.3.3, Annex D; PS3.7 D.3.3
_APPLICATION, _PROPOSED, _ANSWERED, _USER = 0x10, 0x20, 0x21, 0x50
_ABSTRACT, _TRANSFER = 0x30, 0x40
_LONGEST, _CLASS, _WINDOW, _ROLE, _NAME, _EXTENDED = 0x51, 0x52, 0x53, 0x54, 0x55, 0x56
_FIXED = struct.Struct(">BxIHxx16s16s32x")
_ITEM = struct.Struct(">BxH")
_SHORT = struct.Struct(">H")

Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class ProposedContext:
    """A presentation context that is proposed (PS3.8 9.3.2.2)."""

    id: int
    sop_class_uid: str
    transfer_syntaxes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AnsweredContext:
    """What becomes of a proposal (PS3.8 9.3.3.2); unless accepted its transfer syntax says nothing."""

    id: int
    result: int
    transfer_syntax_uid: str


@dataclass(frozen=True, slots=True)
class Roles:
    """Whether whoever asks for the association is SCU, and SCP, of a SOP class (PS3.7 D.3.3.4)."""

    scu: bool
    scp: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class UserInformation:
    """The user information item (PS3.8 D; PS3.7 D.3.3).

    User identity and common extended negotiation are passed over: neither asks for an answer of those who do
    not know it.

    Attributes:
        longest_pdu: Maximum Length Received, in bytes; 0 = any.
        roles: By SOP class.
        extended: Service class application information, by SOP class.
        window: Operations invoked and performed at a time, where these are negotiated; 0 = any number.
    """

    longest_pdu: int = 0
    implementation_class_uid: str = IMPLEMENTATION_CLASS_UID
    implementation_version: str = IMPLEMENTATION_VERSION
    roles: Mapping[str, Roles] = field(default_factory=dict)
    extended: Mapping[str, bytes] = field(default_factory=dict)
    window: tuple[int, int] | None = None

    @classmethod
    def _read(cls, data: memoryview) -> UserInformation:
        longest_pdu, class_uid, version_name = 0, "", ""
        roles, extended = dict[str, Roles](), dict[str, bytes]()
        window: tuple[int, int] | None = None
        for kind, value in _items(data):
            if kind == _LONGEST:
                longest_pdu = int.from_bytes(_enough(value, 4)[:4], "big")
            elif kind == _CLASS:
                class_uid = _text(value)
            elif kind == _NAME:
                version_name = _text(value)
            elif kind == _WINDOW:
                window = struct.unpack_from(">HH", _enough(value, 4))
            elif kind == _ROLE:
                sop_class, rest = _named(value)
                _enough(rest, 2)
                roles[sop_class] = Roles(bool(rest[0]), bool(rest[1]))
            elif kind == _EXTENDED:
                sop_class, rest = _named(value)
                extended[sop_class] = bytes(rest)
        return cls(
            longest_pdu=longest_pdu,
            implementation_class_uid=class_uid,
            implementation_version=version_name,
            roles=roles,
            extended=extended,
            window=window,
        )

    def _written(self) -> bytes:
        parts = [
            _item(_LONGEST, struct.pack(">I", self.longest_pdu)),
            _item(_CLASS, self.implementation_class_uid.encode("ascii")),
        ]
        if self.window is not None:
            parts.append(_item(_WINDOW, struct.pack(">HH", *self.window)))
        for sop_class, role in self.roles.items():
            parts.append(_item(_ROLE, _name(sop_class) + bytes((role.scu, role.scp))))
        if self.implementation_version:
            parts.append(_item(_NAME, self.implementation_version.encode("ascii")))
        for sop_class, info in self.extended.items():
            parts.append(_item(_EXTENDED, _name(sop_class) + info))
        return _item(_USER, b"".join(parts))


@dataclass(frozen=True, slots=True, kw_only=True)
class AssociateRequest:
    """An A-ASSOCIATE-RQ (PS3.8 9.3.2): AE titles without their padding, contexts by id."""

    called: str
    calling: str
    contexts: tuple[ProposedContext, ...]
    user: UserInformation = UserInformation()
    application_context: str = APPLICATION_CONTEXT
    version: int = _VERSION

    @property
    def version_known(self) -> bool:
        """Whether the one version of the protocol is among those that are offered."""
        return bool(self.version & _VERSION)

    @classmethod
    def parse(cls, pdu: Buffer) -> AssociateRequest:
        """Read a whole PDU.

        Raises:
            Malformed: its items do not fit, or there are too many contexts, or two of one number.
        """
        version, called, calling, items = _opened(pdu, ASSOCIATE_RQ)
        proposals = dict[int, ProposedContext]()
        context, user = "", UserInformation(implementation_class_uid="", implementation_version="")
        for kind, value in items:
            if kind == _APPLICATION:
                context = _text(value)
            elif kind == _USER:
                user = UserInformation._read(value)
            elif kind == _PROPOSED:
                number = _enough(value, 4)[0]
                if number in proposals or len(proposals) == MAX_CONTEXTS:
                    raise Malformed("Presentation contexts of one number, or too many.", why="PS3.8 9.3.2.2.")
                proposals[number] = _proposal(number, value[4:])
        return cls(
            called=called,
            calling=calling,
            contexts=tuple(proposals.values()),
            user=user,
            application_context=context,
            version=version,
        )

    def pdu(self) -> bytes:
        """Write it."""
        body = [_item(_APPLICATION, self.application_context.encode("ascii"))]
        for proposal in self.contexts:
            syntaxes = b"".join(_item(_TRANSFER, uid.encode("ascii")) for uid in proposal.transfer_syntaxes)
            abstract = _item(_ABSTRACT, proposal.sop_class_uid.encode("ascii"))
            body.append(_item(_PROPOSED, bytes((proposal.id, 0, 0, 0)) + abstract + syntaxes))
        body.append(self.user._written())
        return _closed(ASSOCIATE_RQ, self.version, self.called, self.calling, b"".join(body))


@dataclass(frozen=True, slots=True, kw_only=True)
class AssociateAccept:
    """An A-ASSOCIATE-AC (PS3.8 9.3.3); the titles are the request's, and nobody's business here."""

    called: str
    calling: str
    contexts: tuple[AnsweredContext, ...]
    user: UserInformation = UserInformation()

    @classmethod
    def parse(cls, pdu: Buffer) -> AssociateAccept:
        """Read a whole PDU.

        Raises:
            Malformed: its items do not fit, or there are too many contexts.
        """
        _, called, calling, items = _opened(pdu, ASSOCIATE_AC)
        answers = list[AnsweredContext]()
        user = UserInformation(implementation_class_uid="", implementation_version="")
        for kind, value in items:
            if kind == _USER:
                user = UserInformation._read(value)
            elif kind == _ANSWERED:
                _enough(value, 4)
                syntax = next((_text(uid) for kind, uid in _items(value[4:]) if kind == _TRANSFER), "")
                answers.append(AnsweredContext(value[0], value[2], syntax))
                if len(answers) > MAX_CONTEXTS:
                    raise Malformed("Too many presentation contexts.", why="PS3.8 9.3.3.2.")
        return cls(called=called, calling=calling, contexts=tuple(answers), user=user)

    def pdu(self) -> bytes:
        """Write it."""
        body = [_item(_APPLICATION, APPLICATION_CONTEXT.encode("ascii"))]
        for answer in self.contexts:
            syntax = _item(_TRANSFER, answer.transfer_syntax_uid.encode("ascii"))
            body.append(_item(_ANSWERED, bytes((answer.id, 0, answer.result, 0)) + syntax))
        body.append(self.user._written())
        return _closed(ASSOCIATE_AC, _VERSION, self.called, self.calling, b"".join(body))


def _opened(pdu: Buffer, kind: int) -> tuple[int, str, str, Iterator[tuple[int, memoryview]]]:
    if len(pdu) < _FIXED.size or len(pdu) > HEAD_BYTES + MAX_ASSOCIATE_BYTES:
        raise Malformed("An association's PDU is too short, or too long.", why="PS3.8 9.3.2.")
    pdu_type, length, version, called, calling = _FIXED.unpack_from(pdu)
    if pdu_type != kind or length != len(pdu) - HEAD_BYTES:
        raise Malformed("Not the PDU that it should be.", why="PS3.8 9.3.1.")
    return version, _title(called), _title(calling), _items(memoryview(pdu)[_FIXED.size :])


def _closed(kind: int, version: int, called: str, calling: str, items: bytes) -> bytes:
    titles = (title.encode("ascii", "replace")[:16].ljust(16) for title in (called, calling))
    return _FIXED.pack(kind, _FIXED.size - HEAD_BYTES + len(items), version, *titles) + items


def _proposal(number: int, data: memoryview) -> ProposedContext:
    abstract, syntaxes = "", list[str]()
    for kind, value in _items(data):
        if kind == _ABSTRACT:
            abstract = _text(value)
        elif kind == _TRANSFER:
            syntaxes.append(_text(value))
    if not abstract or not syntaxes:
        raise Malformed("A presentation context without its syntaxes.", why="PS3.8 9.3.2.2.")
    return ProposedContext(number, abstract, tuple(syntaxes))


def _items(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Type and value of each item (PS3.8 9.3.1)."""
    at, end = 0, len(data)
    while at < end:
        if at + _ITEM.size > end:
            raise Malformed("An item is cut off.", why="PS3.8 9.3.1.")
        kind, length = _ITEM.unpack_from(data, at)
        at += _ITEM.size
        if at + length > end:
            raise Malformed("An item is longer than what it is in.", why="PS3.8 9.3.1.")
        yield kind, data[at : at + length]
        at += length


def _item(kind: int, value: bytes) -> bytes:
    return _ITEM.pack(kind, len(value)) + value


def _enough(value: memoryview, least: int) -> memoryview:
    if len(value) < least:
        raise Malformed("An item is too short.", why="PS3.8 9.3, Annex D.")
    return value


def _named(value: memoryview) -> tuple[str, memoryview]:
    """A SOP class with its length, and what follows (PS3.7 Tables D.3-9, D.3-11)."""
    end = 2 + _SHORT.unpack_from(_enough(value, 2))[0]
    return _text(_enough(value, end)[2:end]), value[end:]


def _name(uid: str) -> bytes:
    text = uid.encode("ascii")
    return _SHORT.pack(len(text)) + text


def _text(value: memoryview) -> str:
    """A UID or name; what is not ASCII is shown as a question mark, so that it can be written again."""
    return bytes(value).decode("ascii", "replace").replace("\ufffd", "?").strip("\0 ")


def _title(value: bytes) -> str:
    """An AE title; what is no character of one is shown as a question mark."""
    text = value.decode("ascii", "replace").strip("\0 ")
    return "".join(char if " " <= char <= "~" else "?" for char in text)
