"""Addresses of the region's DICOMweb root (PS3.18 10)."""

from __future__ import annotations

from aiohttp import web

from registry.dicomweb.face import DicomwebFace


def routes(face: DicomwebFace, prefix: str = "/dicomweb") -> list[web.RouteDef]:
    """Every route; GET ones answer HEAD too. ``/members/{code}`` is the same root with one holder only."""
    study, series = "{study}", "{series}"
    table = [
        web.get(f"{prefix}/studies", face.studies),
        web.get(f"{prefix}/series", face.series),
        web.get(f"{prefix}/instances", face.instances),
        web.post(f"{prefix}/studies", face.store),
        web.post(f"{prefix}/studies/{study}", face.store),
        web.options(f"{prefix}/{{any:.*}}", face.preflight),
    ]
    for root in (prefix, f"{prefix}/members/{{code:[A-Za-z0-9]{{1,16}}}}"):
        table += [
            web.get(f"{root}/studies/{study}/series", face.series),
            web.get(f"{root}/studies/{study}/instances", face.instances),
            web.get(f"{root}/studies/{study}/series/{series}/instances", face.instances),
            web.get(f"{root}/studies/{study}", face.retrieve),
            web.get(f"{root}/studies/{study}/{{tail:.+}}", face.retrieve),
        ]
    return [*table, web.get(f"{prefix}/{{path:.*}}", face.nothing)]
