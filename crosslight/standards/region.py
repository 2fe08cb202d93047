"""The region as a value: what a registry is configured with and a node learns when it joins."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from crosslight.standards.ids import Oid, is_uid
from crosslight.standards.problem import Invalid

ODS_OID = Oid("2.16.840.1.113883.2.1.3.2.4.19.1")  # organisation codes of the NHS' Organisation Data Service


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcedureCodes:
    """One row of the table by which a procedure decides codes of its study's DocumentEntry.

    '' decides nothing.
    """

    procedure: str  # pattern of a procedure code, of its meaning, or of the description
    type_code: str = ""  # code^display^OID of the scheme
    confidentiality: str = ""  # HL7 Confidentiality: N, R, V, U

    def check(self) -> None:
        """Whether it can be used.

        Raises:
            Invalid: saying what is wrong.
        """
        if not self.procedure.strip() or not (self.type_code or self.confidentiality):
            raise Invalid("A row names a procedure and what follows from it.")
        parts = self.type_code.split("^")
        if self.type_code and (
            len(parts) != 3 or not all(part.strip() for part in parts) or not is_uid(parts[2])
        ):
            raise Invalid("type_code is code^display^OID of the scheme.", why="ITI TF-3 4.2.3.2.25.")
        if self.confidentiality not in ("", "N", "R", "V", "U"):
            raise Invalid("confidentiality is N, R, V or U.", why="HL7 v3 Confidentiality.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """An affinity domain and its names."""

    name: str
    home_community_id: Oid  # without urn:oid:
    # the region's own patient authority: ids minted for persons without a national number (D4)
    authority: Oid
    national_authority: Oid = Oid("")  # '' in a region without a national number
    national_system: str = ""  # its FHIR system URI
    national_label: str = ""  # as a banner writes it: "NHS No.", "CHI No."
    allow_test_numbers: bool = False  # accept 9xx (D3)
    zone: str = "Europe/London"  # IANA name, for local days and studies without a zone
    organisation_system: str = "https://fhir.nhs.uk/Id/ods-organization-code"
    organisation_authority: Oid = Oid("")  # OID of those codes in XDS (XON.6); '' where nobody has one
    procedure_codes: tuple[ProcedureCodes, ...] = ()
    other_nationals: tuple[Oid, ...] = ()  # further national authorities that stand beside it (D3)

    @property
    def nationals(self) -> tuple[Oid, ...]:
        """Every national authority, the region's own first."""
        return _named(self.national_authority, self.other_nationals)


@lru_cache(maxsize=16)  # asked for each id of each patient
def _named(own: Oid, others: tuple[Oid, ...]) -> tuple[Oid, ...]:
    return tuple(a for a in (own, *others) if a)
