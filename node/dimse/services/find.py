"""C-FIND (PS3.4 C.4.1): which patients, studies, series and images this node holds.

Each page of matches is an audited act, begun before its first answer is sent. A question that names neither
a patient nor an object whole is the action ``export``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, Final

from crosslight.runtime.audit import Act
from crosslight.runtime.log import get_logger
from crosslight.standards.access import Action
from crosslight.standards.dicom.query import find
from crosslight.standards.dicom.query.find import FindPlan, read_find
from crosslight.standards.dicom.query.identifier import (
    IDENTIFIER_SYNTAXES,
    MAX_IDENTIFIER_BYTES,
    read_identifier,
    write_identifier,
)
from crosslight.standards.dicom.query.models import PATIENT_FIND, ROOTS, STUDY_FIND
from crosslight.standards.dicom.web import json
from crosslight.standards.dicom.web.json import Attributes
from crosslight.standards.dicom.web.qido import QidoQuery
from crosslight.standards.ids import Identifier
from crosslight.standards.problem import CrosslightError, Forbidden, Invalid, Malformed, TooLarge, Unavailable
from node.dimse.association import Request, Response
from node.dimse.command import C_FIND_RQ, CANCELLED, PENDING, SUCCESS
from node.dimse.exchange import Exchange, Gathered, SupportedClass
from node.dimse.way_out import WayOut

log = get_logger("dimse")

# PS3.4 Table C.4-1, PS3.7 Annex C
OUT_OF_RESOURCES: Final = 0xA700
WRONG_IDENTIFIER: Final = 0xA900
UNABLE: Final = 0xC001
NOT_AUTHORISED: Final = 0x0124
NOT_MATCHED: Final = 0xFF01
PAGE: Final = 1000
_MOMENTS: Final = 1  # of the application information: combined date and time matching (PS3.4 C.5.1.1)


class Find:
    """Answers C-FIND, in the association's thread.

    Args:
        way_out: What is searched, and who decides.
        ae_title: The node's, by which what is found can be had.
        max_results: Most answers to one question.
    """

    fields = (C_FIND_RQ,)
    beside = True
    sop_classes = tuple(SupportedClass(uid, IDENTIFIER_SYNTAXES) for uid in (PATIENT_FIND, STUDY_FIND))

    def __init__(self, way_out: WayOut, ae_title: str, max_results: int) -> None:
        self._out, self._ae_title, self._max_results = way_out, ae_title, max_results

    def begin(self, request: Request) -> Exchange:
        """As :meth:`DimseService.begin`.

        Raises:
            Malformed: without an identifier.
        """
        if not request.command.has_data_set:
            raise Malformed("A C-FIND without an identifier.", why="PS3.7 9.1.2.")
        return Gathered(lambda data: self._answer(request, data), MAX_IDENTIFIER_BYTES)

    def _answer(self, request: Request, data: bytes) -> None:
        try:
            identifier, charset = read_identifier(data, request.context.transfer_syntax_uid)
            moments = request.context.agreed[_MOMENTS : _MOMENTS + 1] == b"\1"
            plan = read_find(identifier, ROOTS[request.context.sop_class_uid], moments=moments)
            _Finding(self, request, plan, charset).run()
        except CrosslightError as error:
            request.answer(status_of(error), error.what)

    def answer_of(self, plan: FindPlan, row: Attributes) -> Attributes:
        """A row as an Identifier."""
        return plan.answer(row, self._ae_title)

    @property
    def way_out(self) -> WayOut:
        """What is searched, and who decides."""
        return self._out

    @property
    def max_results(self) -> int:
        """Most answers to one question."""
        return self._max_results


class _Finding:
    """One question on its way to its last answer."""

    def __init__(self, service: Find, request: Request, plan: FindPlan, charset: str) -> None:
        self._service, self._request, self._plan, self._charset = service, request, plan, charset
        self._out = service.way_out
        self._n_sent, self._ended = 0, False
        self._told: set[Any] = set()  # rows may move between pages while studies come in

    def run(self) -> None:
        """Send every match, and the final status behind the last.

        Raises:
            CrosslightError: the search is refused, or cannot go on.
        """
        action: Action = "search" if self._plan.query.names_somebody else "export"
        offset = 0
        while not self._ended:
            with self._out.on_loop.inside(self._page(action, self._plan.query.page(offset, PAGE))) as found:
                act, rows = found
                matches = list(self._matches(rows))
                self._request.answer_each(self._answers(matches, last=len(rows) < PAGE))
                act.gave(len(matches), "rows")
            offset += PAGE

    @asynccontextmanager
    async def _page(self, action: Action, page: QidoQuery) -> AsyncIterator[tuple[Act, list[Attributes]]]:
        """Decided, looked for and committed, what was found too, before any of it is sent; on the loop."""
        query = {"level": self._plan.level, **_said(self._plan.query)}
        named = self._plan.query.equal_to("StudyInstanceUID") or ()
        async with self._out.act(self._request.account.caller, action, named, query, True) as act:
            rows = await self._out.holdings.search(page.level, page)
            patients = dict.fromkeys(json.text_of(row, "PatientID") for row in rows)
            act.found(
                list(dict.fromkeys(_study(row) for row in rows)),
                [Identifier(patient) for patient in patients if patient],
            )
            await act.begin()
            yield act, rows

    def _rows(self, page: QidoQuery) -> list[Attributes]:
        return self._out.on_loop.run(self._out.holdings.search(page.level, page))

    def _matches(self, rows: list[Attributes]) -> Iterator[Attributes]:
        for row in rows:
            of_patient = self._plan.level == "PATIENT"
            key: Any = (
                find.patient_key(row)
                if of_patient
                else (
                    json.text_of(row, "SOPInstanceUID"),
                    json.text_of(row, "SeriesInstanceUID"),
                    _study(row),
                )
            )
            if key in self._told:
                continue
            self._told.add(key)
            match = find.patient_of(row) if of_patient else dict(row)
            if self._plan.counts_patients:
                match |= self._counts(row)
            yield self._service.answer_of(self._plan, match)

    def _counts(self, row: Attributes) -> Attributes:
        """How many studies, series and instances of the row's patient are here."""
        patient_id, issuer = find.patient_key(row)
        named = [("PatientID", patient_id)] + ([("IssuerOfPatientID", issuer)] if issuer else [])
        query = QidoQuery.parse("study", named if patient_id else [("StudyInstanceUID", _study(row))])
        studies = self._rows(query)
        if len(studies) == query.limit:  # there may be more: not known
            return {}
        series = sum(int(json.text_of(study, "NumberOfStudyRelatedSeries") or 0) for study in studies)
        images = sum(int(json.text_of(study, "NumberOfStudyRelatedInstances") or 0) for study in studies)
        counted = ((find.PATIENT_STUDIES, len(studies)), (find.PATIENT_SERIES, series))
        made = (*counted, (find.PATIENT_INSTANCES, images))
        return {tag: {"vr": "IS", "Value": [number]} for tag, number in made}

    def _answers(self, matches: list[Attributes], *, last: bool) -> Iterator[Response]:
        status, comment = PENDING, ""
        if self._plan.unmatched:
            status, comment = NOT_MATCHED, "Not matched: " + ", ".join(self._plan.unmatched)
        syntax = self._request.context.transfer_syntax_uid
        for match in matches:
            if self._request.cancelled:
                self._ended = True
                yield CANCELLED, "", None
                return
            if self._n_sent >= self._service.max_results:
                raise TooLarge(f"More than {self._n_sent} match: narrow it")
            self._n_sent += 1
            yield status, comment, write_identifier(match, syntax, self._charset)
        if last:
            self._ended = True
            yield SUCCESS, "", None


def _study(row: Attributes) -> str:
    return json.text_of(row, "StudyInstanceUID")


def _said(query: QidoQuery) -> dict[str, str]:
    """What was asked, for the audit."""
    return {
        match.keyword: "\\".join(match.values) or f"{match.low}-{match.high}"
        for match in query.matches
        if match.kind != "any"
    }


def status_of(error: CrosslightError) -> int:
    """The status of a refusal (PS3.4 Tables C.4-1, C.4-2, C.4-3)."""
    if isinstance(error, Forbidden):
        return NOT_AUTHORISED
    if isinstance(error, TooLarge | Unavailable):
        return OUT_OF_RESOURCES
    return WRONG_IDENTIFIER if isinstance(error, Invalid | Malformed) else UNABLE
