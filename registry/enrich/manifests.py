"""Manifests: fetched by ITI-43, checked against what was registered, parsed in a bounded child (D17, D27)."""

from __future__ import annotations

import hashlib

from crosslight.runtime.workers import Workers
from crosslight.standards.dicom.record.kos import Manifest, parse_manifest
from crosslight.standards.problem import Conflict, NotFound, TooLarge
from crosslight.standards.study import ManifestFacts
from crosslight.standards.xds.wire import retrieve
from registry.enrich.config import EnrichConfig
from registry.enrich.series import ENRICHER
from registry.members.model import Member
from registry.reach.members import Reach


class Manifests:
    """Reads manifests of members and of foreign sources whose address for ITI-43 is known."""

    def __init__(self, reach: Reach, workers: Workers, config: EnrichConfig) -> None:
        self._reach, self._workers, self._config = reach, workers, config

    async def read(self, member: Member, facts: ManifestFacts, token: str, correlation: str) -> Manifest:
        """The manifest that ``facts`` name; ``token`` is '' for a foreign source, which knows none.

        Raises:
            CrosslightError: it is not given, is not what was registered, or cannot be read.
        """
        data = await self._fetch(member, facts.document_uid, token, correlation)
        sha1 = hashlib.sha1(data, usedforsecurity=False).hexdigest()
        if len(data) != facts.size_bytes or sha1 != facts.sha1.lower():
            raise Conflict(
                "The manifest is not the one that was registered.", why="ITI TF-3 4.2.3.2.10: hash and size."
            )
        manifest: Manifest = await self._workers.run_bounded(parse_manifest, data)
        return manifest

    async def _fetch(self, member: Member, document_uid: str, token: str, correlation: str) -> bytes:
        """One document's bytes, asked for by ITI-43."""
        request = retrieve.DocumentRequest(member.repository_unique_id, document_uid)
        async with self._reach.lanes.turn(member, ENRICHER):
            answer = await self._reach.call(
                member,
                "iti43",
                retrieve.render_retrieve_request([request]),
                token,
                correlation=correlation,
                timeout_s=self._config.timeout_s,
                max_bytes=2 * self._config.max_manifest_bytes,
            )
        reply = retrieve.parse_retrieve_response(answer.body)
        for document in reply.documents:
            if document.request.document_unique_id == document_uid and document.data is not None:
                if len(document.data) > self._config.max_manifest_bytes:
                    raise TooLarge("The manifest is too large.")
                return document.data
        codes = ", ".join(sorted({error.code for error in reply.registry.errors}))
        raise NotFound("The member does not give its manifest.", why=codes)
