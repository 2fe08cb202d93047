"""How a member reads its objects: rules for ``record.py``.

Apart from the reader, so that a configuration can name them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordRules:
    """How this member reads patients, issuers and times.

    From its configuration, and what the region said when it joined.

    Args:
        authority: The member's own patient authority (OID); numbers that name no issuer are under it.
        authorities: Further authorities (OIDs) that are the member's own, as agreed with its region.
        namespace: Its local name (the organisation code); an issuer of this name is the member itself.
        site_zone: IANA name; used where an object does not say its zone.
        nationals: Authorities whose numbers are national (D3).
        issuers: Issuer names as they stand in (0010,0021), case ignored -> OID.
        bare_patient_id: The national authority of which a PatientID without issuer is a number; '' = never.
        allow_test_numbers: Whether 9xx numbers count.
        accession_authority: OID that issues accession numbers where the object names none; '' = unknown.
    """

    authority: str = ""
    authorities: tuple[str, ...] = ()
    namespace: str = ""
    site_zone: str = ""
    nationals: tuple[str, ...] = ()
    issuers: Mapping[str, str] = field(default_factory=dict)
    bare_patient_id: str = ""
    allow_test_numbers: bool = False
    accession_authority: str = ""

    @property
    def own(self) -> tuple[str, ...]:
        """Every authority whose numbers are this member's own, the one of bare numbers first."""
        return (self.authority, *(a for a in self.authorities if a != self.authority))
