"""The region as a value: what a registry is configured with and a node learns when it joins."""

from __future__ import annotations

from dataclasses import dataclass

from crosslight.standards.ids import Oid


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """An affinity domain and its names."""

    name: str
    home_community_id: Oid  # without urn:oid:
    authority: Oid  # the region's own patient authority: ids minted for persons without a national number (D4)
    national_authority: Oid = Oid("")  # '' in a region without a national number
    national_system: str = ""  # its FHIR system URI
    national_label: str = ""  # as a banner writes it: "NHS No.", "CHI No."
    allow_test_numbers: bool = False  # accept 9xx (D3)
    zone: str = "Europe/London"  # IANA name, for local days and studies without a zone
    organisation_system: str = "https://fhir.nhs.uk/Id/ods-organization-code"
    other_nationals: tuple[Oid, ...] = ()  # further national authorities that stand beside it (D3)

    @property
    def nationals(self) -> tuple[Oid, ...]:
        """Every national authority, the region's own first."""
        return tuple(a for a in (self.national_authority, *self.other_nationals) if a)
