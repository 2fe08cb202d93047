"""HoldingRows: rows of the index made into holdings, and their superseded versions (D6, D12).

Which rows are read is decided in ``read.py``.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import pairwise
from typing import Any

from crosslight.runtime.db import Tx
from crosslight.standards.ids import MemberId, Oid, holding_fhir_id
from crosslight.standards.records import changed
from crosslight.standards.study import Patient, StudyRecord
from crosslight.standards.xds.model.publication import Publication, Source
from registry.identity.model import RecordKey
from registry.index.codec import Codec, PublicationRow
from registry.index.decoded_rows import MOST_ROWS, DecodedRows, Meaning
from registry.index.model import Holding, PastVersion
from registry.index.past_versions import State, publication_of, state_of, unpacked
from registry.index.rows import (
    DEPRECATED,
    UNITED,
    HoldingRow,
    Loaded,
    RowKey,
    chunks,
    from_ms,
    holding_row,
    marks,
    version_of,
)
from registry.index.statements import PAST, holdings_where
from registry.members.model import KnownMembers


class HoldingRows:
    """Rows to holdings. ``region_key`` makes their FHIR ids (D12)."""

    region_key: bytes = b""

    def __init__(self, directory: KnownMembers) -> None:
        self.directory, self.codec, self.decoded = directory, Codec(), DecodedRows()
        # hashes of issuers of accession numbers that are known to be in the table
        self.issuers: set[int] = set()

    def source(self, member: MemberId) -> tuple[Source, bytes]:
        """How a member's entries name it, and the secret of its ids."""
        known = self.directory.by_id(member)
        if known is not None:
            return known.source, known.secret
        unknown = Oid("")
        return (
            Source(
                code=f"member-{member}",
                name="",
                repository_unique_id=unknown,
                retrieve_location_uid=unknown,
                authority=unknown,
            ),
            b"",
        )

    def fhir_id(self, member: MemberId, record_key: int, study_uid: str) -> str:
        """The FHIR id of a holding (D12)."""
        return holding_fhir_id(self.region_key, member, str(record_key), study_uid)

    def load(self, row: HoldingRow, patient: Patient) -> Loaded:
        """What a row says."""
        member = MemberId(row.member_id)
        source, secret = self.source(member)
        deprecated = bool(row.flags & DEPRECATED)
        publication, digest = self.codec.decode(
            PublicationRow(body=row.body, extra=row.extra),
            version_of(row.version),
            patient,
            source,
            secret,
            "Deprecated" if deprecated else "Approved",
        )
        united = self.codec.united(row.extra, patient) if row.flags & UNITED else None
        return self.loaded(row, publication, digest, united)

    def loaded(
        self, row: HoldingRow, publication: Publication, digest: str, united: StudyRecord | None = None
    ) -> Loaded:
        """A row with a publication that is known already."""
        member = MemberId(row.member_id)
        holding = Holding(
            member=member,
            record_key=RecordKey(row.record_key),
            publication=publication,
            state="deprecated" if row.flags & DEPRECATED else "approved",
            digest=digest,
            revision=row.revision,
            fhir_id=self.fhir_id(member, row.record_key, publication.record.study_uid),
            updated=from_ms(row.updated),
            united=united,
        )
        return Loaded(row, holding)

    def select(self, tx: Tx, where: str, params: Sequence[Any] = (), tail: str = "") -> list[Loaded]:
        """Holdings by a condition of ours."""
        rows = tx.rows(holdings_where(where, tail), params)
        tx.weigh(len(rows))
        meanings = {member: self._meaning(member) for member in {row[6] for row in rows}}
        before = [self.decoded.find(row, meanings[row[6]]) for row in rows]
        texts = {row[12] for row, known in zip(rows, before, strict=True) if known is None}
        patients = {text: self.codec.decode_patient(bytes(text)) for text in texts}
        holdings = []
        for row, known in tx.steps(zip(rows, before, strict=True)):
            loaded = known or self.load(holding_row(row), patients[row[12]])
            if known is None and len(rows) <= MOST_ROWS:
                self.decoded.keep(loaded, bytes(row[12]), meanings[row[6]])
            holdings.append(loaded)
        return holdings

    def _meaning(self, member: int) -> Meaning:
        return Meaning(*self.source(MemberId(member)), self.region_key)

    # --- superseded versions --------------------------------------------------------------------------------

    def states(self, tx: Tx, loaded: Collection[Loaded]) -> dict[RowKey, list[State]]:
        """Past versions of these holdings as plain data, newest first, by the holding's key."""
        states: dict[RowKey, list[State]] = {current.row.key: [] for current in loaded}
        deltas: dict[RowKey, list[bytes]] = {}
        for batch in chunks({current.row.record_key for current in loaded}):
            for key, study_hash, member_id, body in tx.rows(PAST.format(marks(batch)), batch):
                deltas.setdefault((key, study_hash, member_id), []).append(bytes(body))
        superseded = [current for current in loaded if current.row.key in deltas]
        tx.weigh(sum(len(deltas[current.row.key]) for current in superseded))
        for current in tx.steps(superseded):
            state = self.state(current)
            for body in deltas[current.row.key]:
                state = unpacked(state, self.codec.decode_plain(body))
                states[current.row.key].append(state)
        return states

    def state(self, current: Loaded) -> State:
        """A current version as plain data."""
        secret = self.source(current.holding.member)[1]
        return state_of(current.holding.publication, current.holding.digest, current.row.patient_n, secret)

    def with_past(self, tx: Tx, loaded: Collection[Loaded]) -> list[Holding]:
        """The same holdings with their superseded versions."""
        states = self.states(tx, loaded)
        texts = self.patient_texts(
            tx, {current.row.record_key for current in loaded if states[current.row.key]}
        )
        return [self._with_past(current, states[current.row.key], texts) for current in tx.steps(loaded)]

    def _with_past(
        self, current: Loaded, states: list[State], texts: dict[tuple[int, int], Patient]
    ) -> Holding:
        if not states:
            return current.holding
        source, secret = self.source(current.holding.member)
        versions = [current.holding.publication]
        versions += [
            publication_of(s, texts[current.row.record_key, s["patient"]], source, secret)[0] for s in states
        ]
        successors = {
            publication.replaces_entry_uuid: publication.entry_uuid
            for publication in versions
            if publication.replaces_entry_uuid
        }
        past, siblings = [], []
        for newer, publication in pairwise(versions):
            if publication.status == "Approved":
                siblings.append(publication)
                continue
            # a node's versions follow each other (D10)
            successor = newer.entry_uuid if publication.version is not None else ""
            past.append(
                PastVersion(
                    publication=publication, succeeded_by=successors.get(publication.entry_uuid, successor)
                )
            )
        return changed(current.holding, past=tuple(past), siblings=tuple(siblings))

    def patient_texts(self, tx: Tx, keys: Collection[int]) -> dict[tuple[int, int], Patient]:
        """(record key, n) -> the patient as submitted."""
        texts: dict[tuple[int, int], Patient] = {}
        for batch in chunks(keys):
            for key, number, body in tx.rows(
                f"SELECT record_key, n, body FROM patient_text WHERE record_key IN ({marks(batch)})", batch
            ):
                texts[key, number] = self.codec.decode_patient(bytes(body))
        return texts
