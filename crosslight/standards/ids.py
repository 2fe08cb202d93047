"""Identifiers: UIDs, OIDs, CX and CXi, and the UUIDs that Crosslight derives (D9).

Does not know patients or studies, only the shapes of their names.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Any, NewType, Self
from uuid import UUID

from crosslight.standards.problem import Invalid

Oid = NewType("Oid", str)
MemberId = NewType("MemberId", int)  # immutable; organisation codes are dated attributes of it (D9)

NHS_NUMBER_OID = Oid("2.16.840.1.113883.2.1.4.1")  # NHS number; FHIR https://fhir.nhs.uk/Id/nhs-number
NHS_NUMBER_SYSTEM = "https://fhir.nhs.uk/Id/nhs-number"
CHI_OID = Oid("2.16.840.1.113883.2.1.3.2.4.16.53")  # Scotland's Community Health Index number
CHI_SYSTEM = "https://fhir.nhs.scot/Id/chi-number"

#: The digit of a UUID that holds its variant, for any digit: 0b10 and its two lower bits (RFC 9562 4.1).
_VARIANT = {f"{n:x}": f"{0b1000 | n & 0b11:x}" for n in range(16)}
_SHORT = 256  # characters of a text whose reading is kept: what is kept is bounded too
_BLOCK = 64  # bytes of SHA-256's block
_UID = re.compile(r"[0-9]++(?:\.[0-9]++)*+\Z")
_STRICT_UID = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))*\Z")


def is_uid(text: str) -> bool:
    """Whether ``text`` is a UID as received systems write them (PS3.5 9.1; leading zeroes are tolerated)."""
    return 0 < len(text) <= 64 and _UID.match(text) is not None


def is_strict_uid(text: str) -> bool:
    """Whether ``text`` obeys PS3.5 9.1 to the letter; what we write must."""
    return 0 < len(text) <= 64 and _STRICT_UID.match(text) is not None


def checked_uid(text: str, where: str) -> str:
    """``text`` stripped of padding, if it is a UID.

    Raises:
        Invalid: with ``where`` as the place.
    """
    if is_uid(text):
        return text
    text = text.strip(" \0")
    if not is_uid(text):
        raise Invalid(f"{where} is not a UID.", why="PS3.5 9.1: digits and dots, at most 64.", where=where)
    return text


def uid_from_uuid(value: UUID) -> str:
    """The UID of a UUID (PS3.5 B.2)."""
    return f"2.25.{value.int}"


def uuid_from_uid(uid: str) -> UUID | None:
    """The UUID in a ``2.25.`` UID, or None."""
    if not uid.startswith("2.25.") or not uid[5:].isdecimal() or len(uid) > 44:
        return None
    number = int(uid[5:])
    return UUID(int=number) if number < 1 << 128 else None


# --- CX and CXi (ITI TF-3 Table 4.2.3.1.7-2) ----------------------------------------------------------------

_HL7_ESCAPES = {
    "\\": "\\E\\",
    "|": "\\F\\",
    "^": "\\S\\",
    "&": "\\T\\",
    "~": "\\R\\",
    "\r": "\\X0D\\",
    "\n": "\\X0A\\",
}
_HL7_UNESCAPES = {"E": "\\", "F": "|", "S": "^", "T": "&", "R": "~"}
_HL7_SPECIAL = re.compile(r"[\\|^&~\r\n]")
_HL7_SEQUENCE = re.compile(r"\\([^\\]*)\\")


def hl7_escape(text: str) -> str:
    """Escape the HL7 v2 delimiters (HL7 v2.5 2.7)."""
    if _HL7_SPECIAL.search(text) is None:
        return text
    return _HL7_SPECIAL.sub(lambda match: _HL7_ESCAPES[match.group(0)], text)


def hl7_unescape(text: str) -> str:
    """Undo :func:`hl7_escape`; unknown sequences are left as they are."""
    if "\\" not in text:
        return text

    def one(match: re.Match[str]) -> str:
        body = match.group(1)
        if body in _HL7_UNESCAPES:
            return _HL7_UNESCAPES[body]
        if body[:1] == "X" and len(body) > 1:
            try:
                return bytes.fromhex(body[1:]).decode("utf-8")
            except ValueError:
                return match.group(0)
        return match.group(0)

    return _HL7_SEQUENCE.sub(one, text)


@dataclass(frozen=True, slots=True, order=True)
class Identifier:
    """A value under an authority: a patient id, an accession number, an order number.

    ``authority`` is the OID of the issuer ('' when nobody said); ``namespace`` its local name (an ODS code,
    say). Two identifiers are the same only when authority (or, lacking one, namespace) and value agree.
    """

    value: str
    authority: str = ""
    namespace: str = ""

    def cx(self) -> str:
        """As CX: ``ID^^^&OID&ISO`` (ITI TF-3 Table 4.2.3.1.7-2)."""
        return f"{hl7_escape(self.value)}^^^&{self.authority}&ISO"

    def cxi(self, kind: str) -> str:
        """As CXi of type ``kind``, e.g.

        ``urn:ihe:iti:xds:2013:accession``; without authority only CXi.1 and CXi.5.
        """
        if not self.authority:
            return f"{hl7_escape(self.value)}^^^^{kind}"
        return f"{hl7_escape(self.value)}^^^&{self.authority}&ISO^{kind}"

    @classmethod
    def parse_cx(cls, text: str) -> Self:
        """Read a CX, liberally (namespace accepted, type not required).

        Raises:
            Invalid: if there is no id or the universal id is not an OID.
        """
        return cls(*(_parts_of_cx if len(text) <= _SHORT else _parts_of_cx.__wrapped__)(text))


@lru_cache(maxsize=1024)  # a submission says its patient many times
def _parts_of_cx(text: str) -> tuple[str, str, str]:
    """Value, authority and namespace of a CX."""
    parts = text.split("^")
    value = hl7_unescape(parts[0])
    hd = parts[3].split("&") if len(parts) > 3 else []
    namespace = hl7_unescape(hd[0]) if hd else ""
    authority = hd[1].strip() if len(hd) > 1 else ""
    if not value:
        raise Invalid("A CX without an id.", why="ITI TF-3 4.2.3.1.7: CX.1 is required.")
    if authority and not is_uid(authority):
        raise Invalid(
            "A CX whose assigning authority is not an OID.", why="ITI TF-3 4.2.3.1.7: CX.4 is &OID&ISO."
        )
    return value, authority, namespace


CXI_ACCESSION = "urn:ihe:iti:xds:2013:accession"
CXI_ORDER = "urn:ihe:iti:xds:2013:order"
CXI_STUDY_UID = "urn:ihe:iti:xds:2016:studyInstanceUID"
CXI_UNIQUE_ID = "urn:ihe:iti:xds:2013:uniqueId"


# --- derived identifiers (D9) -------------------------------------------------------------------------------


class Kind(IntEnum):
    """What a derived id names: a closed table (D9). Never renumber."""

    DOCUMENT_ENTRY = 1  # entryUUID of the DocumentEntry
    DOCUMENT = 2  # uniqueId of the manifest: its SOP Instance UID
    SUBMISSION_SET = 3  # entryUUID of the SubmissionSet
    SUBMISSION = 4  # uniqueId of the SubmissionSet
    HAS_MEMBER = 5  # SubmissionSet -> DocumentEntry
    REPLACES = 6  # RPLC association
    MANIFEST_SERIES = 7  # Series Instance UID of the manifest
    AVAILABILITY = 8  # UpdateAvailabilityStatus association (ITI-57)


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """A member's version of a study: (epoch, n), never a clock (D10). Compares as it orders."""

    epoch: int
    n: int

    def __str__(self) -> str:
        return f"{self.epoch}.{self.n}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``epoch.n``."""
        epoch, _, n = text.partition(".")
        return cls(int(epoch), int(n))


@lru_cache(maxsize=1024)
def _pads(key: bytes) -> tuple[Any, Any]:
    """SHA-256 over the inner and the outer pad of a key (RFC 2104 2), to be copied."""
    block = (key if len(key) <= _BLOCK else hashlib.sha256(key).digest()).ljust(_BLOCK, b"\0")
    inner, outer = (hashlib.sha256(bytes(byte ^ pad for byte in block)) for pad in (0x36, 0x5C))
    return inner, outer


def hmac_sha256(key: bytes, message: bytes) -> bytes:
    """HMAC-SHA-256 of a short message, of which thousands are made with the same few keys.

    Half the time of ``hmac.digest``, which also gives up the GIL each time.
    """
    inner, outer = _pads(key)
    inner, outer = inner.copy(), outer.copy()
    inner.update(message)
    outer.update(inner.digest())
    digest: bytes = outer.digest()
    return digest


@lru_cache(maxsize=4096)
def study_tag(secret: bytes, study_uid: str) -> bytes:
    """The 80 bits that name a study among a member's: HMAC-SHA-256(member's secret, study UID), cut (D9)."""
    return hmac_sha256(secret, study_uid.encode("ascii"))[:10]


@dataclass(frozen=True, slots=True)
class DerivedId:
    """A UUID v8 (RFC 9562 5.8): kind 8, epoch 8, revision 24, study tag 80, two spare zero bits.

    122 bits in all.
    """

    kind: int
    version: Version
    tag: bytes

    def number(self) -> int:
        """As the 128-bit number of the UUID.

        Raises:
            ValueError: if the epoch or the revision is out of range (a node then takes a new epoch).
        """
        if not (0 <= self.version.epoch < 1 << 8 and 0 <= self.version.n < 1 << 24 and len(self.tag) == 10):
            raise ValueError("epoch is 8 bits, revision 24, tag 80")
        payload = (self.kind << 114) | (self.version.epoch << 106) | (self.version.n << 82)
        payload |= int.from_bytes(self.tag, "big") << 2
        high, mid, low = payload >> 74, (payload >> 62) & 0xFFF, payload & ((1 << 62) - 1)
        return (high << 80) | (0x8 << 76) | (mid << 64) | (0b10 << 62) | low

    def uuid(self) -> UUID:
        """As a UUID; raises as :meth:`number`."""
        return UUID(int=self.number())

    def urn(self) -> str:
        """As ``urn:uuid:...``, the form of an entryUUID."""
        digits = f"{self.number():032x}"
        return f"urn:uuid:{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"

    def uid(self) -> str:
        """As a DICOM UID or XDS uniqueId, ``2.25.``."""
        return f"2.25.{self.number()}"

    @classmethod
    def parse(cls, value: UUID | str) -> Self | None:
        """Recognise one of ours in a UUID, ``urn:uuid:`` or ``2.25.`` UID; None for any other."""
        long = isinstance(value, str) and len(value) > _SHORT
        parts = _parts_of_derived.__wrapped__(value) if long else _parts_of_derived(value)
        return None if parts is None else cls(*parts)


@lru_cache(maxsize=4096)  # of a submission's few ids each is looked at by several rules
def _parts_of_derived(value: UUID | str) -> tuple[int, Version, bytes] | None:
    """Kind, version and tag of a derived id; None for any other."""
    if isinstance(value, str):
        if value.startswith("2.25."):
            parsed = uuid_from_uid(value)
        else:
            try:
                parsed = UUID(value)
            except ValueError:
                parsed = None
        if parsed is None:
            return None
        value = parsed
    number = value.int
    if (number >> 76) & 0xF != 0x8 or (number >> 62) & 0b11 != 0b10:
        return None
    payload = ((number >> 80) << 74) | (((number >> 64) & 0xFFF) << 62) | (number & ((1 << 62) - 1))
    kind = payload >> 114
    if payload & 0b11 or kind not in Kind._value2member_map_:
        return None
    version = Version((payload >> 106) & 0xFF, (payload >> 82) & 0xFFFFFF)
    return kind, version, ((payload >> 2) & ((1 << 80) - 1)).to_bytes(10, "big")


@lru_cache(maxsize=4096)
def id_family(version: Version, tag: bytes) -> IdFamily:
    """Every id of one version of one study."""
    return IdFamily(version, tag)


class IdFamily:
    """Every id of one version of one study: they differ in their kind alone, which is the first byte (D9)."""

    __slots__ = ("_number", "_tail")

    def __init__(self, version: Version, tag: bytes) -> None:
        if not (0 <= version.epoch < 1 << 8 and 0 <= version.n < 1 << 24 and len(tag) == 10):
            raise ValueError("epoch is 8 bits, revision 24, tag 80")
        tagged = tag.hex()
        low = f"{0b10 << 62 | int(tagged[5:], 16) << 2:016x}"  # the variant, 60 bits of the tag, two zeroes
        self._tail = (
            f"{version.epoch:02x}{version.n >> 8:04x}-{version.n & 0xFF:02x}{tagged[:2]}-8{tagged[2:5]}"
            f"-{low[:4]}-{low[4:]}"
        )
        self._number = int(self._tail.replace("-", ""), 16)

    def urn(self, kind: Kind) -> str:
        """The id as a URN, as in :meth:`DerivedId.urn`."""
        return f"urn:uuid:{kind:02x}{self._tail}"

    def uid(self, kind: Kind) -> str:
        """The id as a DICOM UID, as in :meth:`DerivedId.uid`."""
        return f"2.25.{self._number | kind << 120}"


def holding_fhir_id(region_key: bytes, member: int, record: str, study_uid: str) -> str:
    """The FHIR id of a holding (D12).

    UUID v8 of HMAC-SHA-256(region's key; member, patient record, study).
    """
    text = f"{member}\x1f{record}\x1f{study_uid}".encode()
    digits = hmac_sha256(region_key, text)[:16].hex()
    variant = _VARIANT[digits[16]]  # version and variant (RFC 9562 5.8)
    return f"{digits[:8]}-{digits[8:12]}-8{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


def hash8(text: str) -> int:
    """A signed 64-bit hash of a lookup key, for 8-byte index columns (D5); always verified on read (D13)."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big", signed=True)
