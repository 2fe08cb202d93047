"""ITI-18 Registry Stored Query, from the index through ``ask`` (ITI TF-2 3.18)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from crosslight.runtime.credentials import plain_subject
from crosslight.runtime.large_answers import LargeAnswers, in_steps
from crosslight.runtime.soap.endpoint import Call, Transaction
from crosslight.runtime.workers import Workers
from crosslight.standards.region import Region
from crosslight.standards.xds.mapping.views import registered_document, registered_objects
from crosslight.standards.xds.model import vocabulary as v
from crosslight.standards.xds.model.metadata import (
    DocumentEntry,
    Folder,
    RegistryObject,
    RegistryObjects,
    SubmissionSet,
    from_plain,
)
from crosslight.standards.xds.rules.errors import RegistryError, refusal
from crosslight.standards.xds.rules.evaluate import evaluate
from crosslight.standards.xds.rules.stored_query import (
    FIND_BY_REFERENCE,
    FIND_DOCUMENTS,
    GET_DOCUMENTS,
    StoredQuery,
    parse_stored_query,
)
from crosslight.standards.xds.wire.adhoc import (
    ACTION_REQUEST,
    ACTION_RESPONSE,
    parse_adhoc_request,
    render_adhoc_response,
)
from crosslight.standards.xds.wire.response import FAILURE, SUCCESS
from registry.ask.ask import Ask
from registry.ask.question import Answer, ByObject, ByPatient, Question
from registry.identity.model import PatientSelector, RecordKey
from registry.ihe.coverage import coverage_slots, warning_of
from registry.index.model import Holding, XdsObject

MAX_NAMES = 1000  # ids in one query


class RegistryStoredQuery(Transaction):
    """Answers stored queries.

    Args:
        ask: The way to the index.
        region: Whose homeCommunityId answers carry.
        warn: Whether a degraded answer carries a Warning; coverage slots are always there.
        workers: Where large answers are rendered; None: on the event loop.
        quiet: Principals (by subject) that get none, because their software takes a Warning for a failure.
    """

    action, response_action = ACTION_REQUEST, ACTION_RESPONSE

    def __init__(
        self,
        ask: Ask,
        region: Region,
        *,
        warn: bool = True,
        quiet: frozenset[str] = frozenset(),
        workers: Workers | None = None,
    ) -> None:
        self._ask, self._home, self._warn = ask, f"urn:oid:{region.home_community_id}", warn
        # a configuration may name systems as older releases did
        self._quiet = frozenset(map(plain_subject, quiet))
        self._apart = LargeAnswers(workers)

    async def answer(self, call: Call) -> bytes:
        """An AdhocQueryResponse: Success, with what was found."""
        query = parse_stored_query(parse_adhoc_request(call.body))
        asking = self._ask.question(call.caller, face="xds", action="search", question=question_of(query))
        async with asking as answer:
            warn = self._warn and call.caller.principal.subject not in self._quiet
            return await self._apart.make(lambda: render(query, answer, self._home, warn=warn), answer.size)

    def refuse(self, errors: tuple[RegistryError, ...]) -> bytes:
        """An AdhocQueryResponse: Failure."""
        return render_adhoc_response(FAILURE, errors=errors)


def render(query: StoredQuery, answer: Answer, home: str, *, warn: bool) -> bytes:
    """What ``query`` finds in ``answer``, with coverage."""
    objects = evaluate(query, objects_of(answer, home, documents_only=query.query_id in _DOCUMENTS_ONLY))
    warning = warning_of(answer, warn=warn, asked=query.patient is not None)
    leaves = query.return_type == "LeafClass"
    return render_adhoc_response(
        SUCCESS,
        objects=in_steps(objects) if leaves else (),
        refs=() if leaves else ((metadata.entry_uuid, home) for metadata in objects),
        errors=(warning,) if warning is not None else (),
        slots=coverage_slots(answer.coverage),
    )


def question_of(query: StoredQuery) -> Question:
    """What a stored query asks of the index: the patient's objects, or those that its ids lead to."""
    if len(query.uuids) + len(query.unique_ids) > MAX_NAMES:
        raise refusal("XDSTooManyResults", f"At most {MAX_NAMES} objects at once; ask in pages.")
    if query.patient is not None:
        return ByPatient(patient=PatientSelector(identifiers=(query.patient,)), versions=True)
    return ByObject(entry_uuids=query.uuids, unique_ids=query.unique_ids, versions=True)


#: Queries that find nothing but documents: no other view is made for them.
_DOCUMENTS_ONLY = frozenset({FIND_DOCUMENTS, FIND_BY_REFERENCE, GET_DOCUMENTS})


def objects_of(answer: Answer, home: str, *, documents_only: bool = False) -> RegistryObjects:
    """The metadata objects of an answer, each once.

    Holdings with their past as views, other objects as stored.
    """
    patients = {record.key: person.domain_id.cx() for person in answer.persons for record in person.records}
    objects: dict[str, RegistryObject] = {}
    for holding in in_steps(answer.holdings):
        for metadata in _of_holding(holding, patients.get(holding.whose, ""), home, documents_only):
            objects.setdefault(metadata.entry_uuid, metadata)
    for stored in in_steps(answer.objects):
        if stored.kind == "document" or not documents_only:
            objects.setdefault(stored.entry_uuid, _of_stored(stored, patients, home))
    return RegistryObjects.of(objects.values())


def _of_holding(
    holding: Holding, patient_cx: str, home: str, documents_only: bool
) -> Iterable[RegistryObject]:
    for publication in holding.entries:
        if documents_only:
            yield registered_document(publication, patient_cx, home)
        else:
            yield from registered_objects(publication, patient_cx, home)


def _of_stored(stored: XdsObject, patients: dict[RecordKey, str], home: str) -> RegistryObject:
    metadata = from_plain(stored.kind, stored.body)
    status = stored.status if stored.status.startswith("urn:") else v.STATUS + stored.status
    metadata = replace(
        metadata,
        status=status,
        home=home,
        logical_id=stored.logical_id or metadata.logical_id or metadata.entry_uuid,
        version=metadata.version or "1",
    )
    if stored.record_key in patients and isinstance(metadata, DocumentEntry | SubmissionSet | Folder):
        return replace(metadata, patient_id=patients[stored.record_key])
    return metadata
