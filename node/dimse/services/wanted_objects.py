"""The objects that a C-MOVE or C-GET names, from what is held here (PS3.4 C.4.2.2, C.4.3.2)."""

from __future__ import annotations

from crosslight.standards.dicom.query.retrieve import Wanted
from crosslight.standards.dicom.web import json
from crosslight.standards.dicom.web.qido import QidoQuery
from crosslight.standards.dicom.web.qido_attributes import Level
from crosslight.standards.problem import TooLarge
from node.holdings import Holdings, StoredObject

_PAGE = 1000
_AT_ONCE = 200  # UIDs of one search


async def wanted_objects(holdings: Holdings, wanted: Wanted, most: int) -> list[StoredObject]:
    """Live objects, in a fixed order; [] when nothing of it is here.

    Raises:
        TooLarge: over ``most`` objects.
    """
    series, instances = set(wanted.series), set(wanted.instances)
    objects: list[StoredObject] = []
    for study_uid in await _studies(holdings, wanted):
        one_series = wanted.series[0] if len(wanted.series) == 1 else ""
        one_instance = wanted.instances[0] if len(wanted.instances) == 1 else ""
        for stored in await holdings.objects(study_uid, one_series, one_instance):
            if series and stored.ref.series_uid not in series:
                continue
            if instances and stored.ref.sop_uid not in instances:
                continue
            objects.append(stored)
        if len(objects) > most:
            raise TooLarge(f"More than {most} objects: retrieve less")
    return objects


async def _studies(holdings: Holdings, wanted: Wanted) -> list[str]:
    """The studies in which the objects are."""
    if wanted.studies and not wanted.patient_id:
        return list(wanted.studies)
    level, keyword, uids = _narrowest(wanted)
    studies: dict[str, None] = {}
    for start in range(0, max(1, len(uids)), _AT_ONCE):
        named = [(keyword, "\\".join(uids[start : start + _AT_ONCE]))] if uids else []
        query = QidoQuery.parse(level, named).within(PatientID=wanted.patient_id)
        offset = 0
        while rows := await holdings.search(level, query.page(offset, _PAGE)):
            studies.update(dict.fromkeys(json.text_of(row, "StudyInstanceUID") for row in rows))
            offset += _PAGE
    return list(studies)


def _narrowest(wanted: Wanted) -> tuple[Level, str, tuple[str, ...]]:
    """By which of its unique keys the studies are looked for."""
    if wanted.studies:
        return "study", "StudyInstanceUID", wanted.studies
    if wanted.instances:
        return "instance", "SOPInstanceUID", wanted.instances
    if wanted.series:
        return "series", "SeriesInstanceUID", wanted.series
    return "study", "", ()
