"""What ITI-43 and RAD-69 share for the whole region (D11).

A request is split by OID, members are asked at once, and their answers are merged part by part.

So a foreign consumer needs to reach only the region, also where members let nobody in. The order of calls: a
transaction asks ``ask`` what may be given, makes an :class:`Errand` for each member that holds some of it,
and has :class:`RetrieveMerge` fetch them. Nothing is kept on the way: each member's stream waits until its
turn comes.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from crosslight.runtime.log import get_logger
from crosslight.runtime.shares import share_of
from crosslight.runtime.soap.client import SoapStream
from crosslight.runtime.soap.endpoint import Call, Multipart
from crosslight.runtime.soap.server import Part
from crosslight.standards.ids import MemberId
from crosslight.standards.problem import Busy, CrosslightError
from crosslight.standards.xds.rules.errors import RegistryError, refusal
from crosslight.standards.xds.wire import retrieve
from crosslight.standards.xds.wire.retrieve import DocumentRequest, DocumentResponse, RetrievedDocument
from registry.ask.ask import Ask
from registry.ask.question import Answer, ByObject
from registry.index.model import Holding
from registry.members.model import Member
from registry.reach.addresses import Service
from registry.reach.members import Reach

log = get_logger("retrieve")

MAX_STUDIES = 100  # in one token: it travels in a header
Key = tuple[str, str]  # repository (or retrieve location) and document


def key_of(request: DocumentRequest) -> Key:
    """A document, whatever home community was said."""
    return request.repository_unique_id, request.document_unique_id


@dataclass(slots=True)
class Errand:
    """What one member is asked for in one exchange."""

    member: Member
    documents: list[DocumentRequest] = field(default_factory=list)
    # RAD-69: with study and series
    instances: list[tuple[str, str, DocumentRequest]] = field(default_factory=list)
    studies: set[str] = field(default_factory=set)
    patients: set[str] = field(default_factory=set)

    def add(self, document: DocumentRequest, holding: Holding | None) -> None:
        """Ask for one document more; ``holding`` None for a document that is no study."""
        self.documents.append(document)
        if holding is not None:
            self.studies.add(holding.study_uid)
            self.patients.add(holding.record.patient.local.cx())

    @property
    def patient(self) -> str:
        """The patient for the token, '' when there are several."""
        return next(iter(self.patients)) if len(self.patients) == 1 else ""

    def failed(self, code: str, context: str) -> list[RegistryError]:
        """One error for each document."""
        return [RegistryError(code, context, document.document_unique_id) for document in self.documents]


@dataclass(slots=True)
class Merged:
    """What goes into the one answer to a request for ``asked`` documents."""

    asked: int
    documents: list[DocumentResponse] = field(default_factory=list)
    errors: list[RegistryError] = field(default_factory=list)
    streams: list[tuple[int, SoapStream]] = field(default_factory=list)
    inline: list[tuple[str, RetrievedDocument]] = field(default_factory=list)


class Errands:
    """Errands by member, each with no more studies than a token carries."""

    def __init__(self) -> None:
        self.all: list[Errand] = []

    def at(self, member: Member, holding: Holding | None) -> Errand:
        """The member's errand that takes one document more of ``holding``."""
        for errand in reversed(self.all):
            if errand.member.id == member.id:
                room = len(errand.studies) < MAX_STUDIES
                if room or (holding is not None and holding.study_uid in errand.studies):
                    return errand
                break
        self.all.append(Errand(member))
        return self.all[-1]


class RetrieveMerge:
    """Fetches from members, and makes one answer of theirs.

    Args:
        ask: The one way to answers.
        reach: How members are called.
        max_documents: Most documents in one request.
    """

    def __init__(self, ask: Ask, reach: Reach, max_documents: int) -> None:
        self._ask, self._reach, self._max_documents = ask, reach, max_documents
        self.directory = reach.directory
        self._home = f"urn:oid:{ask.region.home_community_id}"

    def check_count(self, count: int) -> None:
        """Refuse a request for too many documents.

        Raises:
            RegistryRefusal: XDSRepositoryError.
        """
        limit = self._max_documents
        if count > limit:
            raise refusal("XDSRepositoryError", f"More than {limit} documents are asked for at once.")

    def question(
        self, call: Call, service: Service, question: ByObject
    ) -> AbstractAsyncContextManager[Answer]:
        """What of it may be given to the caller; audited as the act of the face ``service``."""
        return self._ask.question(call.caller, face=service, action="retrieve", question=question)

    def unroutable(self, document: DocumentRequest, member: Member | None) -> RegistryError | None:
        """Why a document cannot be asked of anybody; None when it can (ITI TF-3 4.2.4.1)."""
        where = document.document_unique_id
        if document.home_community_id and document.home_community_id != self._home:
            return RegistryError("XDSUnknownCommunity", f"The home community here is {self._home}.", where)
        if member is None or member.status == "invited":
            context = f"No member of this region has the id {document.repository_unique_id[:64]}."
            return RegistryError("XDSUnknownRepositoryId", context, where)
        if not self._reach.reachable(member):
            return RegistryError("XDSRepositoryError", f"{self._reach.describe(member)}.", where)
        return None

    @asynccontextmanager
    async def fetch(
        self, call: Call, service: Service, errands: Errands, merged: Merged, body: Callable[[Errand], bytes]
    ) -> AsyncIterator[Multipart]:
        """One answer of what the members give; ``body`` makes the request of an errand.

        Suspension of a member that is asked cuts the answer off while the context is open.
        """
        async with AsyncExitStack() as stack:
            busy = await self._turns(stack, call, errands)
            going = [errand for errand in errands.all if errand.member.id not in busy]
            for errand in errands.all:
                if errand.member.id in busy:
                    merged.errors += errand.failed("XDSRepositoryBusy", str(busy[errand.member.id]))
            with self._reach.running(call.request, {errand.member.id for errand in going}):
                opened = await asyncio.gather(
                    *(self._open(stack, call, errand, service, body(errand)) for errand in going)
                )
                for place, (errand, stream) in enumerate(zip(going, opened, strict=True)):
                    if isinstance(stream, SoapStream):
                        _merge(merged, place, errand, stream)
                    else:
                        merged.errors += errand.failed(*stream)
                rendered = retrieve.render_retrieve_response(merged.documents, merged.errors, merged.asked)
                yield Multipart(rendered, _parts(merged))

    async def _turns(self, stack: AsyncExitStack, call: Call, errands: Errands) -> dict[MemberId, Busy]:
        """A turn at each member that is to be asked, for all that it is asked; those that were busy.

        One member after the other, always in the same order, and all of a member's at once: no two requests
        wait for each other.
        """
        calls = Counter(errand.member.id for errand in errands.all)
        members = {errand.member.id: errand.member for errand in errands.all}
        busy: dict[MemberId, Busy] = {}
        for key in sorted(members):
            turn = self._reach.lanes.turn(members[key], share_of(call.caller), calls[key])
            try:
                await stack.enter_async_context(turn)
            except Busy as error:
                busy[key] = error
        return busy

    async def _open(
        self, stack: AsyncExitStack, call: Call, errand: Errand, service: Service, body: bytes
    ) -> SoapStream | tuple[str, str]:
        """A member's answer as far as its root part, or error code and words why there is none."""
        member, caller = errand.member, call.caller
        if not self._reach.offers(member, service):
            return "XDSRepositoryError", f"{member.name} ({member.code}) has no address for this transaction."
        token = self._reach.mint(caller, member, studies=sorted(errand.studies), patient=errand.patient)
        try:
            return await stack.enter_async_context(
                self._reach.stream(member, service, body, token, correlation=caller.correlation)
            )
        except CrosslightError as error:
            log.warning("member does not answer", member=member.code, kind=type(error).__name__)
            if isinstance(error, Busy):
                return "XDSRepositoryBusy", f"{member.name} ({member.code}) is busy."
            if error.http_status in (503, 504):
                return "XDSRepositoryError", f"{member.name} ({member.code}) cannot be reached."
            return "XDSRepositoryError", f"{member.name} ({member.code}) refused: {error.what}"


def not_available(document: DocumentRequest) -> RegistryError:
    """The member has no such document, or none for this caller."""
    return RegistryError(
        "XDSDocumentUniqueIdError",
        "There is no such document there, or none that you may have.",
        document.document_unique_id,
    )


def _merge(merged: Merged, place: int, errand: Errand, stream: SoapStream) -> None:
    """Take a member's answer into the one answer; none of it where it does not fit what was asked."""
    member = errand.member
    try:
        reply = retrieve.parse_retrieve_response(stream.body)
    except CrosslightError as error:
        merged.errors += errand.failed(
            "XDSRepositoryError", f"{member.name} ({member.code}) answered wrongly: {error.what}"
        )
        return
    asked = {key_of(document): document for document in errand.documents}
    given = [key_of(document.request) for document in reply.documents]
    if len(set(given)) != len(given) or not set(given) <= set(asked):
        merged.errors += errand.failed(
            "XDSRepositoryError", f"{member.name} ({member.code}) sent what was not asked for."
        )
        return
    for number, document in enumerate(reply.documents):
        cid = f"{place}.{document.content_id or f'inline.{number}@crosslight'}"
        merged.documents.append(DocumentResponse(asked[key_of(document.request)], document.mime_type, cid))
        if document.data is not None:
            merged.inline.append((cid, document))
    merged.errors += reply.registry.errors
    explained = {error.location for error in reply.registry.faults}
    missing = [
        document
        for key, document in asked.items()
        if key not in set(given) and document.document_unique_id not in explained
    ]
    if missing and not (explained and "" in explained):
        merged.errors += [not_available(document) for document in missing]
    if any(document.content_id for document in reply.documents):
        merged.streams.append((place, stream))


async def _parts(merged: Merged) -> AsyncIterator[Part]:
    """Every part in the order of the answer's streams; the next is begun when the one before is done."""
    types = {document.content_id: document.mime_type for document in merged.documents}
    for cid, document in merged.inline:
        yield Part(
            content_id=cid, content_type=document.mime_type, size=None, chunks=_once(document.data or b"")
        )
    for place, stream in merged.streams:
        async for part in stream.parts():
            cid = f"{place}.{part.content_id}"
            yield Part(
                content_id=cid,
                content_type=types.get(cid, part.content_type),
                size=None,
                chunks=part.chunks(),
            )


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data
