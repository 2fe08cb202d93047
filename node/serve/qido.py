"""QIDO-RS (PS3.18 10.6): searches over what this trust holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import hdrs, web
from multidict import CIMultiDict

from crosslight.runtime.caching import tag_of, validated
from crosslight.runtime.compression import compress
from crosslight.standards.access import Action
from crosslight.standards.dicom.web import accept, json
from crosslight.standards.dicom.web.qido import QidoQuery
from crosslight.standards.dicom.web.qido_attributes import Level
from crosslight.standards.ids import Identifier, checked_uid
from node.serve.context import ServeContext
from node.serve.release import MAX_AUDITED_STUDIES
from node.serve.validators import not_modified

JSON_OFFERS = (accept.Offer(json.MEDIA_TYPE), accept.Offer("application/json"))
_COMPRESSED_HERE = 1 << 18  # bytes of a body that the event loop compresses itself
_MAX_RESOLVED_PATIENTS = 100
# 8.3.4.4
_MORE = (
    "The number of results exceeded the maximum supported by the server. Additional results can be requested."
)
_FURTHER = "There are additional results that can be requested"  # the caller's own limit was reached


def ranges_of(request: web.Request) -> tuple[accept.MediaRange, ...]:
    """What the client takes (PS3.18 8.3.3.1, 8.7)."""
    return accept.parse_accept(request.headers.getall(hdrs.ACCEPT, []), request.query.get("accept", ""))


def uids_of(request: web.Request) -> tuple[str, str, str]:
    """Study, series and instance UID of the path; '' for what it does not name.

    Raises:
        Invalid: for one that is no UID.
    """
    names = ("study", "series", "instance")
    values = (checked_uid(request.match_info[n], n) if n in request.match_info else "" for n in names)
    study, series, instance = values
    return study, series, instance


def json_response(request: web.Request, body: bytes, media: str, headers: CIMultiDict[str]) -> web.Response:
    """A DICOM JSON answer, compressed where the client takes that and it is worth it."""
    response = web.Response(
        body=body, content_type=media, headers=headers, zlib_executor_size=_COMPRESSED_HERE
    )
    compress(request, response)
    return response


async def search(serve: ServeContext, request: web.Request, level: Level) -> web.Response:
    """Answer a search of studies, series or instances; one that names nobody is the action ``export``.

    An empty result is 200 with ``[]``: viewers that parse every answer choke on 204.
    """
    media = accept.require(ranges_of(request), JSON_OFFERS).media
    study, series, _ = uids_of(request)
    params = [(name, value) for name, value in request.query.items() if name.lower() != "accept"]
    query = QidoQuery.parse(level, params, max_results=serve.config.max_search_results)
    query = query.within(StudyInstanceUID=study, SeriesInstanceUID=series)
    asked, named = dict(params), query.equal_to("StudyInstanceUID") or ()
    action: Action = "search" if query.names_somebody else "export"
    async with serve.release.act(
        request, action, named, "dicomweb", query={"level": level, **asked}, deferred=True
    ) as act:
        rows = await serve.holdings.search(level, query.one_more())
        more = len(rows) > query.limit
        rows = rows[: query.limit]
        studies = list(dict.fromkeys(json.text_of(row, "StudyInstanceUID") for row in rows))
        patients = await _patients(serve, rows, studies)
        act.found(studies[:MAX_AUDITED_STUDIES], patients[:MAX_AUDITED_STUDIES])
        act.gave(len(rows), "rows")
        base = serve.base_url(request)
        keep = query.returned()
        body = json.dumps(_rendered(query.level, keep, row, base) for row in rows)
        headers: CIMultiDict[str] = CIMultiDict()
        warning = _MORE if query.limit >= serve.config.max_search_results else _FURTHER
        for text in (*query.warnings, *([warning] if more else [])):
            headers.add("Warning", f'299 {request.host}: "{text}"')
        validated(headers, tag_of(body, media, str(more)), ("Authorization", "Accept"))
        return not_modified(request, headers) or json_response(request, body, media, headers)


def _rendered(level: Level, keep: frozenset[str] | None, row: Mapping[str, Any], base: str) -> dict[str, Any]:
    full = dict(row)
    path = f"{base}/studies/{json.text_of(row, 'StudyInstanceUID')}"
    if level != "study":
        path += f"/series/{json.text_of(row, 'SeriesInstanceUID')}"
    if level == "instance":
        path += f"/instances/{json.text_of(row, 'SOPInstanceUID')}"
    json.put(full, "RetrieveURL", path)
    json.put(full, "InstanceAvailability", "ONLINE")
    return {tag: full[tag] for tag in sorted(full) if keep is None or tag in keep}


async def _patients(serve: ServeContext, rows: list[dict[str, Any]], studies: list[str]) -> list[Identifier]:
    """Whom the rows concern, for the audit: by record where they are few, else by the id in the row."""
    if len(studies) <= _MAX_RESOLVED_PATIENTS:
        patients = [patient for study in studies for patient in await serve.release.patients_of(study)]
        if patients:
            return list(dict.fromkeys(patients))
    plain = (Identifier(json.text_of(row, "PatientID")) for row in rows)
    return list(dict.fromkeys(patient for patient in plain if patient.value))
