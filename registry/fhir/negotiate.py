"""What the client wants to get: format and strictness."""

from __future__ import annotations

from collections.abc import Iterable

from aiohttp import web

from crosslight.standards.problem import NotAcceptable

_JSON = frozenset(
    {
        "application/fhir+json",
        "application/json",
        "text/json",
        "json",
        "application/json+fhir",
        "*/*",
        "application/*",
    }
)


def _refuse() -> NotAcceptable:
    return NotAcceptable(
        "This server speaks FHIR R4 in JSON only.",
        why="XML and other versions are not built.",
        todo="Ask with Accept: application/fhir+json.",
        where="_format",
    )


def _takes_json(element: str) -> bool:
    media, *parameters = (text.strip().lower() for text in element.split(";"))
    if media not in _JSON:
        return False
    said = dict(parameter.split("=", 1) for parameter in parameters if "=" in parameter)
    try:
        refused = float(said.get("q", "1")) == 0
    except ValueError:
        refused = False
    return not refused and said.get("fhirversion", "4.0") in ("4.0", "4.0.1")


def require_json(request: web.Request, pairs: Iterable[tuple[str, str]]) -> None:
    """Pass when JSON is welcome; ``_format`` comes before Accept (R4 3.1.0.1.10).

    Raises:
        NotAcceptable: when only something else is.
    """
    wanted = next((value for name, value in pairs if name == "_format"), "")
    if wanted:
        if not _takes_json(wanted.replace(" ", "+")):  # '+' of an unescaped query arrives as a blank
            raise _refuse()
        return
    header = ",".join(request.headers.getall("Accept", ()))
    if header.strip() and not any(_takes_json(element) for element in header.split(",")):
        raise _refuse()


def is_lenient(request: web.Request) -> bool:
    """Whether ``Prefer: handling=lenient`` was said; strict otherwise (R4 3.1.1.1)."""
    header = ",".join(request.headers.getall("Prefer", ()))
    preferences = (text for chunk in header.split(",") for text in chunk.split(";"))
    return any(text.strip().lower().replace('"', "") == "handling=lenient" for text in preferences)
