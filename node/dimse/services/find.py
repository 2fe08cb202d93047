"""C-FIND (PS3.4 C.4.1): which patients, studies, series and images this node holds.

Each page of matches is an audited act, begun before its first answer is sent. A question that names neither
a patient nor an object whole is the action ``export``.
"""

from __future__ import annotations

from collections.abc import Iterator
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
from node.dimse.association import Request
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
            status = _Finding(self, request, plan, charset).run()
        except CrosslightError as error:
            request.answer(status_of(error), error.what)
        else:
            request.answer(status)

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
        self._n_sent = 0
        self._told: set[Any] = set()  # rows may move between pages while studies come in

    def run(self) -> int:
        """Send every match; the final status.

        Raises:
            CrosslightError: the search is refused, or cannot go on.
        """
        action: Action = "search" if self._plan.query.names_somebody else "export"
        offset, more = 0, True
        while more:
            page = self._plan.query.page(offset, PAGE)
            with self._out.on_loop.inside(self._act(action)) as act:
                rows = self._rows(page)
                more = len(rows) == PAGE
                matches = list(self._matches(rows))
                self._begin(act, rows)
                for match in matches:
                    if self._request.cancelled:
                        return CANCELLED
                    self._send(match)
                act.gave(len(matches), "rows")
            offset += PAGE
        return SUCCESS

    def _act(self, action: Action) -> Any:
        query = {"level": self._plan.level, **_said(self._plan.query)}
        named = self._plan.query.equal_to("StudyInstanceUID") or ()
        return self._out.act(self._request.account.caller, action, named, query, True)

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

    def _begin(self, act: Act, rows: list[Attributes]) -> None:
        """Commit what was found, before it is sent."""
        studies = list(dict.fromkeys(_study(row) for row in rows))
        patients = dict.fromkeys(Identifier(json.text_of(row, "PatientID")) for row in rows)
        act.found(studies, [patient for patient in patients if patient.value])
        self._out.on_loop.run(act.begin())

    def _send(self, match: Attributes) -> None:
        if self._n_sent >= self._service.max_results:
            raise TooLarge(f"More than {self._n_sent} match: narrow it")
        self._n_sent += 1
        context = self._request.context
        data = write_identifier(match, context.transfer_syntax_uid, self._charset)
        if self._plan.unmatched:
            comment = "Not matched: " + ", ".join(self._plan.unmatched)
            self._request.answer(NOT_MATCHED, comment, data=[data])
        else:
            self._request.answer(PENDING, data=[data])


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
