"""An archive that speaks only DIMSE: studies by C-FIND, objects by C-GET, or C-MOVE to ourselves (PS3.4 C).

Quiet: one association for lists, one for objects, each used by one at a time. A question that has too many
answers is cancelled and asked in parts (:class:`~crosslight.standards.dicom.query.asking.Slice`). Objects do
not enter the node's archive: they pass through, from a copy that is kept for a while (``passing.py``).
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final, Protocol

import orjson

from crosslight.runtime.clock import Clock
from crosslight.runtime.files import Files
from crosslight.runtime.log import get_logger
from crosslight.runtime.workers import Workers
from crosslight.standards.dicom.file.header import Header, from_attributes
from crosslight.standards.dicom.file.syntaxes import EXPLICIT_LE
from crosslight.standards.dicom.query.asking import Slice, question, wanted_image
from crosslight.standards.dicom.query.models import QueryLevel
from crosslight.standards.dicom.web.json import Attributes, text_of
from crosslight.standards.dicom.web.qido_attributes import known_path
from crosslight.standards.ids import is_uid
from crosslight.standards.problem import Malformed, TooLarge, Unavailable
from node.dimse.asking import (
    FIND,
    GET,
    MOVE,
    Found,
    Retrieved,
    any_store_proposals,
    find,
    get,
    move,
    store_proposals,
)
from node.dimse.contexts import TRANSFER_SYNTAXES
from node.dimse.landing import Expected, Landed, Landing
from node.dimse.outgoing import OutgoingAssociation
from node.holdings import Fetched, StoredObject
from node.sources.config import DimseSource
from node.sources.given_uids import give_uids
from node.sources.line import KeptLine
from node.sources.passing import Passing
from node.sources.quirks import Quirks, read_answer
from node.sources.upstream import Listed

log = get_logger("sources")

_SYNTAX: Final = known_path("AvailableTransferSyntaxUID")[0]
_COUNT: Final = "NumberOfStudyRelatedInstances"
_REMEMBERED: Final = 10_000  # series whose form is known from an object of them
_OLDER_AGAIN_S: Final = 86400.0


class Learning(Protocol):
    """Where rows are put right by what came (:class:`node.archive.elsewhere.ObjectsElsewhere`)."""

    async def learn_syntax(self, series_uid: str, said: str, real: str, source: str) -> None:
        """Objects of a series that were said to be in one transfer syntax are in another."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DimseParts:
    """What all sources of this kind share.

    Attributes:
        ae_title: Our own, where objects are moved to.
        expected: Tells the listener what is waited for.
        passing: Copies of what passes.
        learning: Told of what was learned.
        files, workers, clock: Files, threads, time.
    """

    ae_title: str
    expected: Expected
    passing: Passing
    learning: Learning
    files: Files
    workers: Workers
    clock: Clock


class DimseArchive:
    """Asks one.

    Args:
        config: Its table.
        quirks: What it does that the standard does not say.
        asking, fetching: Associations with it, for lists and for objects.
        parts: What all share.
    """

    def __init__(
        self, config: DimseSource, quirks: Quirks, asking: KeptLine, fetching: KeptLine, parts: DimseParts
    ) -> None:
        self._config, self._quirks, self._parts = config, quirks, parts
        self._asking, self._fetching = asking, fetching
        #: SOP class and transfer syntax of series of which an object came.
        self._forms: OrderedDict[str, tuple[str, str]] = OrderedDict()

    # --- lists ----------------------------------------------------------------------------------------------

    async def studies(self, first: str, last: str) -> AsyncIterator[Listed]:
        """As :meth:`Upstream.studies`.

        Studies without a date cannot be asked for by C-FIND: all are asked for, and where those are too many,
        by the beginnings of patients' ids if the quirk ``dates-missing`` says so, else none is listed.
        """
        slices = [Slice(first=first, last=last)]
        while slices:
            asked = slices.pop()
            found = await self._find("STUDY", asked.keys, self._config.most_answers)
            if found.complete:
                for row in found.answers:
                    if (listed := self._listed(row)) is not None:
                        yield listed
                continue
            parts = asked.parts(by_patient=self._quirks.by_patient)
            if not parts and not asked.first:
                log.info("studies without a date are not looked for", source=self._config.name)
            elif not parts:
                raise TooLarge(
                    "The source has more studies in one minute than it lists.",
                    why=f"Limit here: {self._config.most_answers} answers.",
                    todo="Raise most_answers.",
                )
            slices.extend(reversed(parts))

    async def study(self, study_uid: str) -> Listed | None:
        """As :meth:`Upstream.study`."""
        found = await self._find("STUDY", {"StudyInstanceUID": study_uid}, 2)
        listed = (self._listed(row) for row in found.answers)
        return next((one for one in listed if one is not None and one.study_uid == study_uid), None)

    async def instances(self, study_uid: str) -> AsyncIterator[list[Header]]:
        """As :meth:`Upstream.instances`: a series at a time, each made of the answers of its three levels."""
        found = await self._find("STUDY", {"StudyInstanceUID": study_uid}, 2)
        study = next((row for row in found.answers if text_of(row, "StudyInstanceUID") == study_uid), None)
        if study is None:
            return
        for series in await self._all("SERIES", {"StudyInstanceUID": study_uid}):
            series_uid = text_of(series, "SeriesInstanceUID")
            if not is_uid(series_uid):
                raise Malformed("The source lists a series without a UID.", where=study_uid)
            keys = {"StudyInstanceUID": study_uid, "SeriesInstanceUID": series_uid}
            images = await self._all("IMAGE", keys)
            if images:
                yield await self._headers(study, series, images, keys)

    async def _headers(
        self, study: Attributes, series: Attributes, images: Sequence[Attributes], keys: Mapping[str, str]
    ) -> list[Header]:
        fixed = {known_path(name)[0]: {"vr": "UI", "Value": [uid]} for name, uid in keys.items()}
        headers: dict[str, Header] = {}
        for image in images:
            whole = {**study, **series, **image, **fixed}
            kept = {tag: body for tag, body in whole.items() if body.get("Value") and tag not in _NOT_OF_IT}
            sop_uid, sop_class = text_of(kept, "SOPInstanceUID"), text_of(kept, "SOPClassUID")
            if not is_uid(sop_uid):
                raise Malformed("The source lists an image without a UID.", where=keys["SeriesInstanceUID"])
            syntax = text_of(image, "AvailableTransferSyntaxUID")
            if not is_uid(syntax) or not is_uid(sop_class):
                form = await self._form_of(keys, sop_uid, sop_class)
                sop_class, syntax = sop_class or form[0], syntax or form[1]
                kept["00080016"] = {"vr": "UI", "Value": [sop_class]}
            headers[sop_uid] = from_attributes(kept, syntax)
        return list(headers.values())

    async def _form_of(self, keys: Mapping[str, str], sop_uid: str, sop_class: str) -> tuple[str, str]:
        """SOP class and transfer syntax of a series, where the archive tells not both: one is looked at."""
        series_uid = keys["SeriesInstanceUID"]
        if series_uid not in self._forms:
            fetched, landed = await self._fetch(keys["StudyInstanceUID"], series_uid, sop_uid, sop_class, "")
            fetched.release()
            self._remember(series_uid, (landed.sop_class_uid, landed.transfer_syntax_uid))
        return self._forms[series_uid]

    def _remember(self, series_uid: str, form: tuple[str, str]) -> None:
        self._forms[series_uid] = form
        while len(self._forms) > _REMEMBERED:
            self._forms.popitem(last=False)

    async def _all(self, level: QueryLevel, keys: Mapping[str, str]) -> list[Attributes]:
        most = self._config.most_images
        found = await self._find(level, keys, most)
        if not found.complete:
            raise TooLarge("The source lists too many images of a study.", why=f"Limit here: {most}.")
        return found.answers

    async def _find(self, level: QueryLevel, keys: Mapping[str, str], most: int) -> Found:
        def ask(association: OutgoingAssociation) -> Found:
            return find(
                association,
                question(level, keys),
                most,
                lambda data, syntax: read_answer(self._quirks, data, syntax),
            )

        return await self._asking.use((FIND,), ask)

    def _listed(self, row: Attributes) -> Listed | None:
        study_uid = text_of(row, "StudyInstanceUID")
        if not is_uid(study_uid):
            return None
        day = text_of(row, "StudyDate").replace(".", "").replace("-", "")
        day = day if day.isdecimal() and len(day) == 8 else ""
        told: dict[str, Any] = dict(row)
        if (again_s := self._again_s(row, day)) is not None:
            told["again"] = int(self._parts.clock.now().timestamp() / again_s)
        return Listed(
            study_uid=study_uid,
            study_date=day,
            digest=hashlib.blake2b(orjson.dumps(told, option=orjson.OPT_SORT_KEYS), digest_size=16).digest(),
        )

    def _again_s(self, row: Attributes, day: str) -> float | None:
        """How often a study is looked into whose row would not show a change; None: the row would."""
        count = text_of(row, _COUNT)
        if count.isdecimal() and (int(count) or not self._quirks.empty_again):
            return None
        newest = self._parts.clock.now().date().toordinal() - self._config.newest_days
        recent = day and _ordinal(day) >= newest
        return self._config.recount_every_s if recent else _OLDER_AGAIN_S

    # --- objects --------------------------------------------------------------------------------------------

    async def open(self, stored: StoredObject) -> Fetched:
        """One object: from the copy that is kept, else retrieved.

        Raises:
            Unavailable: it cannot be had now, or is in another form than was said; then that is known from
                now on, and it may be asked for again.
        """
        ref = stored.ref
        if (kept := self._parts.passing.get((self._config.name, ref.sop_uid))) is not None:
            return kept
        fetched, landed = await self._fetch(
            ref.study_uid, ref.series_uid, ref.sop_uid, ref.sop_class_uid, ref.transfer_syntax_uid
        )
        found = landed.transfer_syntax_uid
        if found != ref.transfer_syntax_uid:
            fetched.release()
            self._remember(ref.series_uid, (ref.sop_class_uid, found))
            await self._parts.learning.learn_syntax(
                ref.series_uid, ref.transfer_syntax_uid, found, self._config.name
            )
            raise Unavailable(
                "The archive gives this object in another transfer syntax than it said.",
                why=found,
                todo="Ask again.",
            )
        return fetched

    async def _fetch(
        self, study_uid: str, series_uid: str, sop_uid: str, sop_class: str, syntax: str
    ) -> tuple[Fetched, Landed]:
        """Retrieve one object into a copy.

        Raises:
            Unavailable: it does not come.
        """
        parts, wanted = self._parts, wanted_image(study_uid, series_uid, sop_uid)
        path = parts.passing.new()
        file = await parts.workers.run(parts.files.create, path)
        landing = Landing(
            file, sop_uid, any_object=self._quirks.any_uids, max_bytes=self._config.max_object_bytes
        )
        try:
            if self._config.retrieve == "get":
                ended = await self._get(wanted, landing, sop_class, syntax)
            else:
                ended = await self._move(wanted, landing)
            landing.close()
            landed = _landed(landing, ended)
            if self._quirks.any_uids:
                landed = await parts.workers.run(give_uids, path, landed, (study_uid, series_uid, sop_uid))
        except BaseException:
            landing.close()
            parts.files.remove(path)
            raise
        return parts.passing.add((self._config.name, sop_uid), path, landed.size, landed.sha256), landed

    async def _get(self, wanted: Attributes, landing: Landing, sop_class: str, syntax: str) -> Retrieved:
        own = (syntax,) if syntax else ()
        syntaxes = tuple(dict.fromkeys((*own, EXPLICIT_LE, *TRANSFER_SYNTAXES)))
        offered = store_proposals(sop_class, syntaxes) if sop_class else any_store_proposals()
        proposals = (GET, *offered)
        return await self._fetching.use(proposals, lambda association: get(association, wanted, landing))

    async def _move(self, wanted: Attributes, landing: Landing) -> Retrieved:
        expected, own = self._parts.expected, self._parts.ae_title
        number, sender = expected.number(), self._config.sends_as or self._config.ae_title
        with expected.waiting(sender, number, landing):
            ended = await self._fetching.use(
                (MOVE,), lambda association: move(association, wanted, own, number)
            )
            if landing.landed is None and self._quirks.late_objects_s:
                await self._parts.workers.run(landing.came.wait, self._quirks.late_objects_s)
        return ended

    async def close(self) -> None:
        """End the associations."""
        await self._asking.close()
        await self._fetching.close()


#: What is asked for and is nothing of an object.
_NOT_OF_IT: Final = frozenset(
    {
        "00080052",
        "00080054",
        "00080056",
        _SYNTAX,
        *(
            known_path(name)[0]
            for name in (
                "ModalitiesInStudy",
                "NumberOfStudyRelatedSeries",
                "NumberOfStudyRelatedInstances",
                "NumberOfSeriesRelatedInstances",
            )
        ),
    }
)


def _landed(landing: Landing, ended: Retrieved) -> Landed:
    if landing.problem is not None:
        raise Unavailable("The object could not be passed on.", why=landing.problem.what)
    if landing.landed is None:
        raise Unavailable(
            "The archive that has it does not give it.",
            why=f"Status {ended.status:04X}H, {ended.completed} sent, {ended.failed} failed.",
        )
    return landing.landed


def _ordinal(day: str) -> int:
    try:
        return date(int(day[:4]), int(day[4:6]), int(day[6:8])).toordinal()
    except ValueError:
        return 0
