"""RAD-69 Retrieve Imaging Document Set for the whole region (RAD TF-2 4.69; D11).

Instances are asked of the member whose retrieveLocationUID they carry.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from crosslight.runtime.soap.endpoint import Call, Multipart, Reply, Transaction
from crosslight.standards.xds.rules.errors import RegistryError, RegistryRefusal
from crosslight.standards.xds.wire.rad69 import (
    ACTION_REQUEST,
    ImagingRequest,
    SeriesRequest,
    StudyRequest,
    parse_imaging_request,
    render_imaging_request,
)
from crosslight.standards.xds.wire.retrieve import ACTION_RESPONSE, DocumentRequest, render_retrieve_response
from registry.ask.question import ByObject
from registry.ihe.retrieve_merge import Errand, Errands, Merged, RetrieveMerge, not_available


class RetrieveImagingDocumentSet(Transaction):
    """Gives each instance from the member with its retrieveLocationUID, or its error."""

    action, response_action = ACTION_REQUEST, ACTION_RESPONSE
    told = RegistryRefusal

    def __init__(self, merge: RetrieveMerge) -> None:
        self._merge = merge

    async def answer(self, call: Call) -> Reply:
        """The instances asked for, as parts."""
        request = parse_imaging_request(call.body)
        self._merge.check_count(request.asked)
        return self._instances(call, request)

    def refuse(self, errors: tuple[RegistryError, ...]) -> bytes:
        """RegistryResponse Failure, with the errors."""
        return render_retrieve_response([], errors, 0)

    @asynccontextmanager
    async def _instances(self, call: Call, asked: ImagingRequest) -> AsyncIterator[Multipart]:
        question = ByObject(study_uids=tuple(dict.fromkeys(study.study_uid for study in asked.studies)))
        async with self._merge.question(call, "rad69", question) as answer:
            holdings = {(h.member, h.study_uid): h for h in answer.holdings if h.state == "approved"}
            merged, errands = Merged(asked.asked), Errands()
            for study_uid, series_uid, document in asked.instances():
                member = self._merge.directory.by_retrieve_location(document.repository_unique_id)
                if error := self._merge.unroutable(document, member):
                    merged.errors.append(error)
                elif member is None or (holding := holdings.get((member.id, study_uid))) is None:
                    merged.errors.append(not_available(document))
                else:
                    errand = errands.at(member, holding)
                    errand.add(document, holding)
                    errand.instances.append((study_uid, series_uid, document))
            request = partial(_request, asked.transfer_syntaxes)
            async with self._merge.fetch(call, "rad69", errands, merged, request) as multipart:
                yield multipart


def _request(syntaxes: tuple[str, ...], errand: Errand) -> bytes:
    studies: dict[str, dict[str, list[DocumentRequest]]] = {}
    for study_uid, series_uid, document in errand.instances:
        studies.setdefault(study_uid, {}).setdefault(series_uid, []).append(document)
    rows = tuple(
        StudyRequest(uid, tuple(SeriesRequest(s, tuple(documents)) for s, documents in series.items()))
        for uid, series in studies.items()
    )
    return render_imaging_request(ImagingRequest(rows, syntaxes))
