"""HoldingRows: rows of the index made into holdings, and their superseded versions (D6, D12).

Which rows are read is decided in ``read.py``.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from crosslight.runtime.db import Tx
from crosslight.standards.ids import MemberId, Oid, holding_fhir_id
from crosslight.standards.study import Patient, StudyRecord
from crosslight.standards.xds.model.publication import Publication, Source
from registry.identity.model import RecordKey
from registry.index.codec import Codec, PublicationRow
from registry.index.model import Holding, PastVersion
from registry.index.past_versions import State, publication_of, state_of, unpacked
from registry.index.rows import (
    DEPRECATED,
    HOLDING_COLUMNS,
    UNITED,
    HoldingRow,
    Loaded,
    chunks,
    from_ms,
    holding_row,
    marks,
    version_of,
)
from registry.members.model import Directory

_COLUMNS = ", ".join(f"h.{c}" for c in HOLDING_COLUMNS) + ", p.body"
_FROM = "holding h JOIN patient_text p ON p.record_key = h.record_key AND p.n = h.patient_n"


class HoldingRows:
    """Rows to holdings. ``region_key`` makes their FHIR ids (D12)."""

    region_key: bytes = b""

    def __init__(self, directory: Directory) -> None:
        self.directory, self.codec = directory, Codec()
        # hashes of issuers of accession numbers that are known to be in the table
        self.issuers: set[int] = set()

    def source(self, member: MemberId) -> tuple[Source, bytes]:
        """How a member's entries name it, and the secret of its ids."""
        found = self.directory.by_id(member)
        if found is not None:
            return found.source, found.secret
        none = Oid("")
        return (
            Source(
                code=f"member-{member}",
                name="",
                repository_unique_id=none,
                retrieve_location_uid=none,
                authority=none,
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
        rows = tx.rows(f"SELECT {_COLUMNS} FROM {_FROM} WHERE {where} {tail}", params)
        tx.weigh(len(rows))
        texts = {
            row[12]: self.codec.decode_patient(bytes(row[12]))
            for row in {row[12]: row for row in rows}.values()
        }
        return [self.load(holding_row(row), texts[row[12]]) for row in tx.steps(rows)]

    # --- superseded versions --------------------------------------------------------------------------------

    def states(self, tx: Tx, loaded: Collection[Loaded]) -> dict[tuple[int, int, int], list[State]]:
        """Past versions of these holdings as plain data, newest first, by the holding's key."""
        found: dict[tuple[int, int, int], list[State]] = {one.row.key: [] for one in loaded}
        deltas: dict[tuple[int, int, int], list[bytes]] = {}
        for part in chunks({one.row.record_key for one in loaded}):
            where = f"record_key IN ({marks(part)}) ORDER BY seq DESC"
            sql = f"SELECT record_key, study_hash, member_id, body FROM past_version WHERE {where}"
            for key, study, member, body in tx.rows(sql, part):
                deltas.setdefault((key, study, member), []).append(bytes(body))
        past = [one for one in loaded if one.row.key in deltas]
        tx.weigh(sum(len(deltas[one.row.key]) for one in past))
        for one in tx.steps(past):
            state = self.state(one)
            for body in deltas[one.row.key]:
                state = unpacked(state, self.codec.decode_plain(body))
                found[one.row.key].append(state)
        return found

    def state(self, one: Loaded) -> State:
        """A current version as plain data."""
        secret = self.source(one.holding.member)[1]
        return state_of(one.holding.publication, one.holding.digest, one.row.patient_n, secret)

    def with_past(self, tx: Tx, loaded: Collection[Loaded]) -> list[Holding]:
        """The same holdings with their superseded versions."""
        states = self.states(tx, loaded)
        texts = self.patient_texts(tx, {one.row.record_key for one in loaded if states[one.row.key]})
        return [self._with_past(one, states[one.row.key], texts) for one in tx.steps(loaded)]

    def _with_past(self, one: Loaded, states: list[State], texts: dict[tuple[int, int], Patient]) -> Holding:
        if not states:
            return one.holding
        source, secret = self.source(one.holding.member)
        versions = [one.holding.publication]
        versions += [
            publication_of(s, texts[one.row.record_key, s["patient"]], source, secret)[0] for s in states
        ]
        successors = {p.replaces_entry_uuid: p.entry_uuid for p in versions if p.replaces_entry_uuid}
        past, siblings = [], []
        for newer, p in pairwise(versions):
            if p.status == "Approved":
                siblings.append(p)
                continue
            # a node's versions follow each other (D10)
            after = newer.entry_uuid if p.version is not None else ""
            past.append(PastVersion(publication=p, succeeded_by=successors.get(p.entry_uuid, after)))
        return replace(one.holding, past=tuple(past), siblings=tuple(siblings))

    def patient_texts(self, tx: Tx, keys: Collection[int]) -> dict[tuple[int, int], Patient]:
        """(record key, n) -> the patient as submitted."""
        found: dict[tuple[int, int], Patient] = {}
        for part in chunks(keys):
            for key, n, body in tx.rows(
                f"SELECT record_key, n, body FROM patient_text WHERE record_key IN ({marks(part)})", part
            ):
                found[key, n] = self.codec.decode_patient(bytes(body))
        return found
