"""A trust's patient administration system: it tells the region who is who (ITI-8).

Images that are listed by DIMSE do not: C-FIND gives no national numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from crosslight.client.http import trusting
from crosslight.runtime.clock import Ids, dtm
from crosslight.runtime.mllp import MllpClient
from crosslight.standards.hl7.ack import parse_ack
from crosslight.standards.hl7.adt import MessageHeader, feed_message, render_adt
from crosslight.standards.ids import Identifier
from crosslight.standards.problem import PeerError
from crosslight.standards.study import Patient, PersonName
from simulations.people import SyntheticPatient


def pas_name(code: str) -> str:
    """As the registry knows a trust's patient administration system."""
    return f"pas-{code.lower()}"


def fed_by(codes: Sequence[str], *, open_mode: bool) -> dict[str, Any]:
    """More of the registry's configuration: these trusts' systems describe their patients."""
    named = ["open"] if open_mode else [f"system:{pas_name(code)}" for code in codes]
    return {"identity": {"feeds": named}} if codes else {}


def pas_credentials(systems: Path, code: str) -> tuple[Path, Path, Path]:
    """CA, certificate and key of it, in the folder of outside systems."""
    name = pas_name(code)
    return systems / "ca.pem", systems / f"{name}.pem", systems / f"{name}.key"


class PatientAdministration:
    """Feeds the region's MLLP listener.

    Args:
        host, port: The listener's.
        national_authority: OID of the national number.
        ids: For control ids.
    """

    def __init__(self, host: str, port: int, national_authority: str, ids: Ids) -> None:
        self._host, self._port, self._national, self._ids = host, port, national_authority, ids
        self._registered: set[tuple[str, str]] = set()

    async def register(
        self,
        patient: SyntheticPatient,
        code: str,
        authority: str,
        credentials: tuple[Path, Path, Path] | None,
    ) -> None:
        """A04 of ``patient`` by the trust ``code``, whose own numbers are of ``authority``; said once.

        Args:
            patient: Who is registered.
            code: The trust.
            authority: OID of its patient numbers.
            credentials: CA, certificate and key of its system; None in the open demo.

        Raises:
            PeerError: when it is not taken.
        """
        if (code, patient.local_ids[code]) in self._registered:
            return
        said = Patient(
            local=Identifier(patient.local_ids[code], authority, code),
            others=(Identifier(patient.national, self._national),) if patient.national else (),
            name=PersonName(patient.pn),
            birth_date=f"{patient.birth_date:%Y%m%d}",
            sex=patient.sex,
            postcode=patient.postcode,
        )
        header = MessageHeader(
            control_id=self._ids.uuid4().hex[:20],
            time=dtm(datetime.now(UTC)),
            sending_application="PAS",
            sending_facility=code,
        )
        client = MllpClient(self._host, self._port, tls=trusting(*credentials) if credentials else None)
        try:
            answer = parse_ack(await client.send(render_adt(feed_message(said, header, "A04"))))
        finally:
            await client.close()
        if not answer.accepted:
            raise PeerError(f"The feed of {code} was refused: {answer.code}.", why=answer.text)
        self._registered.add((code, patient.local_ids[code]))
