"""Whom a question named, as far as it was understood."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from crosslight.standards.problem import Invalid

Part = Literal["number", "issuer", "accession issuer", "custodian", "endpoint", "patient"]
#: Whom a question is about: a patient known here; a valid national number that nobody has; one named in
#: another way whom nobody here knows, or by a name, which many may share; or no one patient at all.
Standing = Literal["known", "valid", "unknown", "named", "nobody"]


@dataclass(frozen=True, slots=True)
class Misread:
    """A part of a question that was not understood, in words for the person or program that asked."""

    part: Part
    what: str
    why: str
    todo: str

    def refusal(self, where: str) -> Invalid:
        """As an error of the part ``where``."""
        return Invalid(self.what, why=self.why, todo=self.todo, where=where, fhir_code="value")

    @property
    def text(self) -> str:
        """All of it in one line."""
        return " ".join((self.what, self.why, self.todo))


@dataclass(frozen=True, slots=True)
class Naming:
    """Whom a question named, as far as it was understood."""

    standing: Standing = "nobody"
    misread: tuple[Misread, ...] = ()

    @property
    def certain(self) -> bool:
        """Whether it is certain who is meant, so that nothing found is something said."""
        return self.standing in ("known", "valid") and not self.misread
