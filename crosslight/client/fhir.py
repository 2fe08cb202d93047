"""A FHIR R4 client for ImagingStudy searches, with the coverage that every answer carries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import orjson

from crosslight.client.http import HttpClient, read
from crosslight.standards.problem import PeerError

FHIR_JSON = "application/fhir+json"


@dataclass(frozen=True, slots=True)
class FhirAnswer:
    """A searchset, sorted by what its entries are for."""

    matches: tuple[dict[str, Any], ...]
    included: tuple[dict[str, Any], ...]
    issues: tuple[dict[str, Any], ...]  # of the OperationOutcome entries

    @property
    def study_uids(self) -> tuple[str, ...]:
        """Study Instance UIDs of the ImagingStudy matches."""
        uids = []
        for study in self.matches:
            for identifier in study.get("identifier", ()):
                if identifier.get("system") == "urn:dicom:uid":
                    uids.append(str(identifier.get("value", "")).removeprefix("urn:oid:"))
        return tuple(uids)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the answer says of its own gaps."""
        return tuple(_text(i) for i in self.issues if i.get("severity") in ("warning", "error", "fatal"))


def _text(issue: dict[str, Any]) -> str:
    details = issue.get("details", {})
    return str(details.get("text") or issue.get("diagnostics") or issue.get("code", ""))


class FhirClient(HttpClient):
    """Asks ``base`` (…/fhir)."""

    def __init__(self, base: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.base = base.rstrip("/")

    async def capability(self) -> dict[str, Any]:
        """Ask for the server's CapabilityStatement (``/metadata``)."""
        body, _ = await self.get(f"{self.base}/metadata", accept=FHIR_JSON)
        statement: dict[str, Any] = orjson.loads(body)
        return statement

    async def search(self, resource: str, **parameters: str) -> FhirAnswer:
        """POST _search, so that no identifier stands in a URL; follows ``next`` links."""
        form = {name.replace("__", ":").replace("_dot_", "."): value for name, value in parameters.items()}
        url, data, entries = f"{self.base}/{resource}/_search", urlencode(form), []
        method = "POST"
        for _ in range(100):
            headers = {"Accept": FHIR_JSON}
            if method == "POST":
                headers["Content-Type"] = "application/x-www-form-urlencoded"
            async with self.request(method, url, headers=headers, data=data or None) as response:
                bundle = orjson.loads(await read(response))
                if response.status != 200:
                    issues = bundle.get("issue", [{}])
                    raise PeerError(f"FHIR search refused: HTTP {response.status}.", why=_text(issues[0]))
            entries += bundle.get("entry", ())
            following = [link["url"] for link in bundle.get("link", ()) if link.get("relation") == "next"]
            if not following:
                break
            method, url, data = "GET", following[0], ""
        return _sorted(entries)


def _sorted(entries: list[dict[str, Any]]) -> FhirAnswer:
    by_mode: dict[str, list[dict[str, Any]]] = {"match": [], "include": [], "outcome": []}
    for entry in entries:
        by_mode.setdefault(entry.get("search", {}).get("mode", "match"), []).append(entry["resource"])
    issues = [issue for outcome in by_mode["outcome"] for issue in outcome.get("issue", ())]
    return FhirAnswer(tuple(by_mode["match"]), tuple(by_mode["include"]), tuple(issues))
