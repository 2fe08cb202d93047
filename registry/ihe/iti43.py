"""ITI-43 Retrieve Document Set for the whole region (ITI TF-2 3.43; D11).

What is given: studies' manifests, and documents that are no study.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from crosslight.runtime.soap.endpoint import Call, Multipart, Reply, Transaction
from crosslight.standards.xds.rules.errors import RegistryError, RegistryRefusal
from crosslight.standards.xds.wire.retrieve import (
    ACTION_REQUEST,
    ACTION_RESPONSE,
    DocumentRequest,
    parse_retrieve_request,
    render_retrieve_request,
    render_retrieve_response,
)
from registry.ask.question import Answer, ByObject
from registry.ihe.retrieve_merge import Errand, Errands, Merged, RetrieveMerge, not_available
from registry.index.model import Holding


class RetrieveDocumentSet(Transaction):
    """Gives each document from the member with its repositoryUniqueId, or its error."""

    action, response_action = ACTION_REQUEST, ACTION_RESPONSE
    told = RegistryRefusal

    def __init__(self, merge: RetrieveMerge) -> None:
        self._merge = merge

    async def answer(self, call: Call) -> Reply:
        """The documents asked for, as parts."""
        documents = parse_retrieve_request(call.body)
        self._merge.check_count(len(documents))
        return self._documents(call, documents)

    def refuse(self, errors: tuple[RegistryError, ...]) -> bytes:
        """RegistryResponse Failure, with the errors."""
        return render_retrieve_response([], errors, 0)

    @asynccontextmanager
    async def _documents(self, call: Call, documents: Sequence[DocumentRequest]) -> AsyncIterator[Multipart]:
        question = ByObject(
            unique_ids=tuple(dict.fromkeys(document.document_unique_id for document in documents)),
            versions=True,
        )
        async with self._merge.question(call, "iti43", question) as answer:
            holdings, merged, errands = _given(answer), Merged(len(documents)), Errands()
            for document in documents:
                member = self._merge.directory.by_repository(document.repository_unique_id)
                if error := self._merge.unroutable(document, member):
                    merged.errors.append(error)
                elif member is None or (key := (member.id, document.document_unique_id)) not in holdings:
                    merged.errors.append(not_available(document))
                else:
                    errands.at(member, holdings[key]).add(document, holdings[key])
            async with self._merge.fetch(call, "iti43", errands, merged, _request) as multipart:
                yield multipart


def _given(answer: Answer) -> dict[tuple[int, str], Holding | None]:
    """(member, uniqueId) of every document that may be given; None for one that is no study."""
    given: dict[tuple[int, str], Holding | None] = {
        (stored.member, stored.unique_id): None
        for stored in answer.objects
        if stored.kind == "document" and stored.member is not None
    }
    for holding in answer.holdings:
        for publication in holding.entries:
            given[holding.member, publication.manifest.document_uid] = holding
    return given


def _request(errand: Errand) -> bytes:
    return render_retrieve_request(errand.documents)
