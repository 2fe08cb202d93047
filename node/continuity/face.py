"""``GET /kept/ImagingStudy``: the region's list of a patient with an order here, with its age on it.

The answer is the registry's searchset as it was, with two differences: each of its sentences says when it was
said, and the first sentence says how old all of it is.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

import orjson
from aiohttp import web

from crosslight.runtime.clock import Clock
from crosslight.standards.fhir.outcome import Issue
from crosslight.standards.fhir.terms import JSON_TYPE, Systems
from crosslight.standards.fhir.wire import instant
from crosslight.standards.ids import Identifier
from crosslight.standards.national import national_number
from crosslight.standards.problem import Invalid, NotFound, PeerError, Unavailable
from crosslight.standards.region import Region
from node.continuity.kept_lists import Kept, KeptLists
from node.serve.release import Release

PATH: Final = "/kept/ImagingStudy"
PARAMETER: Final = "patient.identifier"
NOTHING_OF_REGION = "This says nothing of what the region holds."


def routes(
    lists: KeptLists, release: Release, region: Callable[[], Region], clock: Clock
) -> list[web.RouteDef]:
    """Of both listeners."""
    face = KeptFace(lists, release, region, clock)
    return [web.get(PATH, face.read)]


class KeptFace:
    """Gives out kept lists, each reading audited before it is answered.

    Args:
        lists: What is kept.
        release: Decides and audits.
        region: Its numbers and its time zone; asked anew for each reading.
        clock: For the age.
    """

    def __init__(
        self, lists: KeptLists, release: Release, region: Callable[[], Region], clock: Clock
    ) -> None:
        self._lists, self._release, self._region, self._clock = lists, release, region, clock

    async def read(self, request: web.Request) -> web.Response:
        """The list of the patient named by ``patient.identifier``, a national number with or without system.

        Raises:
            Invalid: no such number, or another parameter.
            NotFound: there is no order.
            Unavailable: there is one, and the region has not answered yet.
        """
        patient = self._patient(request)
        asked: dict[str, Any] = {"kept list": True}
        async with self._release.act(request, "search", (), "fhir", query=asked, deferred=True) as act:
            act.found((), (patient,))
            kept = self._lists.find(patient)
            if kept is None:
                raise NotFound("No list is kept for this patient.", why=NOTHING_OF_REGION)
            asked |= {"order": kept.order, "said": kept.said.isoformat() if kept.said else ""}
            bundle = self._lists.bundle(patient)
            if kept.said is None or not bundle:
                raise Unavailable(
                    "There is an order, and the region has not said its list yet.",
                    why=NOTHING_OF_REGION,
                    todo="Ask again.",
                )
            shown = as_kept(bundle, kept, self._clock.now(), ZoneInfo(self._region().zone))
            act.gave(sum(entry["search"]["mode"] == "match" for entry in shown["entry"]), "rows")
            headers = {"Cache-Control": "no-store"}
            return web.Response(body=orjson.dumps(shown), content_type=JSON_TYPE, headers=headers)

    def _patient(self, request: web.Request) -> Identifier:
        given = request.query.getall(PARAMETER, [])
        if len(given) != 1 or set(request.query) != {PARAMETER}:
            raise Invalid(
                f"Exactly one parameter is wanted, {PARAMETER}.",
                why="Each reading is audited.",
                where=PARAMETER,
            )
        system, _, value = given[0].rpartition("|")
        region = self._region()
        issuer = Systems(region).issuer(system) if system else None
        for authority in region.nationals:
            if system and (issuer is None or issuer[0] != authority):
                continue
            if number := national_number(authority, value, allow_test=region.allow_test_numbers):
                return Identifier(number, authority)
        raise Invalid("This is no national number that is used here.", where=PARAMETER)


def as_kept(bundle: bytes, kept: Kept, now: datetime, zone: ZoneInfo) -> dict[str, Any]:
    """The registry's searchset with its age on it; pure.

    Args:
        bundle: As it came.
        kept: When it was said, and for which order.
        now: The time.
        zone: Of the times that people read.

    Raises:
        PeerError: it is no searchset.
    """
    try:
        shown = orjson.loads(bundle)
        entries = list(shown["entry"])
        said = kept.said or now
        at = said.astimezone(zone).strftime("%H:%M on %d %B %Y")
        for entry in entries:
            if entry["search"]["mode"] == "outcome":
                for issue in entry["resource"]["issue"]:
                    if text := issue.get("details", {}).get("text"):
                        issue["details"]["text"] = f"Said at {at}: {text}"
        outcome = next(e for e in entries if e["search"]["mode"] == "outcome")
        n_listed = sum(e["search"]["mode"] == "match" for e in entries)
        words = (
            f"As the region said at {at}, {age(now - said)} ago, for an order here. What changed since is"
            " not in it: it does not prove that there is nothing else."
        )
        issues = [Issue(severity="warning", code="incomplete", text=words)]
        if (total := shown.get("total")) is not None and total > n_listed:
            issues.append(
                Issue(
                    severity="warning",
                    code="incomplete",
                    text=f"The newest {n_listed} of {total} are listed.",
                )
            )
        outcome["resource"]["issue"][:0] = [issue.to_resource() for issue in issues]
        shown.pop("link", None)
        shown["timestamp"] = instant(said)
        return dict(shown)
    except (ValueError, KeyError, TypeError, AttributeError, StopIteration):
        raise PeerError("What the region said is no list.", why=NOTHING_OF_REGION) from None


def age(passed: timedelta) -> str:
    """In words: *2 h*, *35 min*."""
    minutes = max(0, int(passed.total_seconds() // 60))
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
