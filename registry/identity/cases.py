"""What an identity officer looks at.

Records that wait for a decision, both sides of each, and what was decided. Pure.

A case is named by a handle: the beginning of a record's random key, in letters and digits that are read out
without mistakes. It says nothing of a patient, and is the same on the page and on the command line.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from crosslight.standards.ids import Identifier
from crosslight.standards.names import search_key
from crosslight.standards.problem import Invalid
from crosslight.standards.study import Patient
from registry.identity.model import PatientRecord, PersonKey, RecordKey

Kind = Literal[
    "in doubt",
    "claims a number held by another",
    "claims a number that others claim",
    "said to be one person with another",
    "",
]
Relation = Literal[
    "itself",
    "the record that it came under",
    "in doubt under its number",
    "holds the number",
    "is one person with it",
    "claims the number too",
    "a source says that they are one person",
    "",
]
Verdict = Literal["same", "another", "alone"]
Agreement = Literal["same", "differs", "not known"]

MAX_REASON = 500  # characters
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # no I, L, O, U
_LIKE = str.maketrans("ILO", "110", "- ")
_WHOLE, _SHOWN, _LEAST = 13, 8, 6  # characters: all 63 bits, as shown, as understood
_WORDS = re.compile(r"[\s\-_.,']+")


def handle_of(key: int, *, whole: bool = False) -> str:
    """The handle of a record: ``K7QX-1B2C``, or all of it."""
    text = "".join(_ALPHABET[key >> shift & 31] for shift in range(60, -1, -5))
    return text if whole else f"{text[:4]}-{text[4:_SHOWN]}"


def keys_of(handle: str) -> tuple[int, int]:
    """The least and the greatest key that a handle may stand for.

    Raises:
        Invalid: for what is no handle.
    """
    text = handle.strip().upper().translate(_LIKE)
    if not _LEAST <= len(text) <= _WHOLE or set(text) - set(_ALPHABET):
        raise Invalid(
            "That is no handle.",
            todo="Give one of the queue's, like K7QX-1B2C, or AUTHORITY|NUMBER.",
            where="handle",
        )
    free = 5 * (_WHOLE - len(text))
    least = sum(_ALPHABET.index(char) << shift for char, shift in zip(text, range(60, -1, -5), strict=False))
    return least, least | (1 << free) - 1


def checked_reason(text: str) -> str:
    """A reason as it is kept.

    Raises:
        Invalid: for none, or one without bound.
    """
    reason = " ".join(text.split())
    if not reason or reason == "feed":  # the word by which what feeds decided is known
        raise Invalid("A decision needs a reason.", todo="Say what you compared, and where.", where="reason")
    if len(reason) > MAX_REASON:
        raise Invalid(
            f"The reason is longer than {MAX_REASON} characters.",
            todo="Say it in fewer words.",
            where="reason",
        )
    return reason


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkEvent:
    """One move of a record between persons (D2)."""

    record_key: RecordKey
    from_person: PersonKey
    to_person: PersonKey
    disputed: bool
    at: datetime
    who: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordDecision:
    """What a person, a feed or a merge decided of a record; never removed, but ended.

    ``kind``: ``same`` (two records are one human being), ``other`` (a part is another person than its
    record), ``apart`` (a record stands alone), ``merge`` (an A40 of two records), ``two``
    (they are two people, whatever a source says of their numbers).
    """

    id: str
    kind: Literal["same", "other", "apart", "merge", "two"]
    record: RecordKey
    other: RecordKey | None
    at: datetime
    who: str
    why: str
    ended_at: datetime | None = None
    ended_who: str = ""
    ended_why: str = ""
    merge: bool = False  # it is of a merge, which only its own undoing ends

    @property
    def short(self) -> str:
        """Its name for people: the first eight characters of its id."""
        return self.id[:8]

    @property
    def in_force(self) -> bool:
        """Whether nobody ended it."""
        return self.ended_at is None

    def says(self) -> str:
        """In words, with the handles of whom it is about."""
        mine, theirs = handle_of(self.record), handle_of(self.other) if self.other is not None else ""
        return {
            "same": f"{mine} and {theirs} are the same person",
            "other": f"{mine} is another person than {theirs}",
            "apart": f"{mine} stands alone",
            "merge": f"{theirs} was merged into {mine}",
            "two": f"{mine} and {theirs} are two people, whatever a source says of their numbers",
        }[self.kind]


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeRequest:
    """Two national numbers that sources say are one person's, and who says it since when."""

    survivor: Identifier
    gone: Identifier
    sources: tuple[str, ...]  # subjects, in their order
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A line of the queue: no patient is named in it."""

    handle: str
    kind: Kind
    member: str  # code
    member_name: str
    others: tuple[str, ...]  # codes of those whose records it is about, its own perhaps among them
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """What waits, oldest first, and what was decided, newest first."""

    waiting: tuple[Waiting, ...]
    total: int  # that wait, of which ``waiting`` may be the oldest only
    decisions: tuple[RecordDecision, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyLine:
    """A study, as far as it helps to tell people apart."""

    date: str  # DA
    modalities: tuple[str, ...]
    description: str
    member: str  # code
    images: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """A record as an officer sees it."""

    handle: str
    relation: Relation
    record: PatientRecord
    member: str  # code, '' of a source that is no member
    member_name: str
    holds: bool  # its person holds a number that the record in question claims
    traced: bool
    studies: tuple[StudyLine, ...]  # newest first
    more_studies: int = 0  # than are listed

    @property
    def patient(self) -> Patient:
        """What it says of its patient."""
        return self.record.patient

    @property
    def numbers(self) -> tuple[Identifier, ...]:
        """The national numbers that it claims."""
        return self.record.national


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A record and those that it has to be compared with, most telling first."""

    kind: Kind
    since: datetime | None
    subject: Side
    others: tuple[Side, ...]
    more: int  # others than are listed
    decisions: tuple[RecordDecision, ...]  # newest first
    moves: tuple[LinkEvent, ...]  # oldest first
    merge: MergeRequest | None = None  # that sources asked for, and that waits

    @property
    def handle(self) -> str:
        """The case's name."""
        return self.subject.handle

    @property
    def open_verdicts(self) -> tuple[Verdict, ...]:
        """What may be decided of it now."""
        if self.subject.record.in_doubt or self.merge is not None:
            return ("same", "another")
        if any(
            d.in_force and d.kind == "apart" and d.record == self.subject.record.key for d in self.decisions
        ):
            return ()
        return ("same", "alone") if self.candidates else ("alone",)

    @property
    def candidates(self) -> tuple[Side, ...]:
        """Those with whom it may be declared to be the same person."""
        if self.subject.record.in_doubt:
            return tuple(o for o in self.others if o.record.key == self.subject.record.part_of)
        if self.merge is not None:
            return tuple(o for o in self.others if o.relation == "a source says that they are one person")[:1]
        return tuple(
            o for o in self.others if o.record.person != self.subject.record.person and not o.record.in_doubt
        )

    @property
    def patients(self) -> tuple[Identifier, ...]:
        """Everybody's numbers, for the audit."""
        sides = (self.subject, *self.others)
        return tuple(dict.fromkeys(n for s in sides for n in (s.patient.local, *s.numbers)))

    @property
    def version(self) -> str:
        """Opaque: the same while everything that was compared is the same."""
        sides = [
            (
                s.handle,
                s.relation,
                s.patient,
                s.numbers,
                s.holds,
                s.record.disputed,
                s.record.in_doubt,
                s.studies,
                s.more_studies,
            )
            for s in (self.subject, *self.others)
        ]
        text = repr((sides, self.more, self.merge, [(d.id, d.in_force) for d in self.decisions]))
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:24]


@dataclass(frozen=True, slots=True)
class Compared:
    """What two records say of their patients, field by field."""

    name: Agreement
    birth_date: Agreement
    sex: Agreement
    numbers: Agreement
    postcode: Agreement


def compared(a: Side, b: Side) -> Compared:
    """How the demographics of two records stand to each other.

    What one leaves out is not known, and no difference.
    """
    return Compared(
        name=_agreement(_name(a.patient), _name(b.patient)),
        birth_date=_agreement(a.patient.birth_date, b.patient.birth_date),
        sex=_agreement(a.patient.sex, b.patient.sex),
        numbers=(
            "not known"
            if not a.numbers or not b.numbers
            else "same"
            if {*a.numbers} & {*b.numbers}
            else "differs"
        ),
        postcode=_agreement(_bare(a.patient.postcode), _bare(b.patient.postcode)),
    )


def _agreement(a: object, b: object) -> Agreement:
    return "not known" if not a or not b else "same" if a == b else "differs"


def _name(patient: Patient) -> Sequence[str]:
    name = patient.name
    words = _WORDS.split(f"{name.family} {name.given} {name.middle}")
    return [key for word in words if (key := search_key(word))]


def _bare(text: str) -> str:
    return "".join(text.split()).upper()
