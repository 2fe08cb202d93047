"""Templates, static files and the headers of every page.

Autoescape is on for all templates; nothing is marked safe.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from importlib import resources
from typing import ClassVar

import jinja2
from aiohttp import web

from crosslight.standards.access import Principal
from crosslight.standards.region import Region
from registry.portal import wording as words

_TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}

#: No script, style, picture, frame or address from anywhere but this server.
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action"
    " 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": CSP,
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
#: Of what the pages' own script asks.
JSON_HEADERS = {name: value for name, value in HEADERS.items() if name != "Content-Security-Policy"}


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What one template shows.

    A subclass for each, whose fields are the names that the template uses beside the frame's.
    """

    template: ClassVar[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What stands around every page."""

    service: str
    word: str  # what a member is called
    region: Region
    principal: Principal | None
    officer: bool  # whether the identity queue is offered
    open_mode: bool
    sign_in: str
    sign_out: str
    csrf: str
    session_left: int  # seconds; 0 without a session
    read_at: str


class Pages:
    """Renders templates; knows the static files and one hash of them all."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[bytes, str]] = {}
        for entry in resources.files("registry.portal").joinpath("static").iterdir():
            kind = _TYPES.get(entry.name.rpartition(".")[2])
            if kind is not None:
                self._files[entry.name] = (entry.read_bytes(), kind)
        whole = hashlib.sha256(
            b"".join(name.encode() + data for name, (data, _) in sorted(self._files.items()))
        )
        self._tag = whole.hexdigest()[:12]
        self._env = jinja2.Environment(
            loader=jinja2.PackageLoader("registry.portal"),
            autoescape=True,
            auto_reload=False,  # they are of this release: no look at each file for each row
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._env.globals |= {
            "asset": self.asset,
            "count": words.count,
            "plain": words.plain,
            "day": words.day,
        }

    def asset(self, name: str) -> str:
        """The address of a static file.

        All are in a folder named by a hash of what is in them, so that modules find each other there.
        """
        return f"/static/{self._tag}/{self._known(name)}"

    def _known(self, name: str) -> str:
        if name not in self._files:
            raise KeyError(name)
        return name

    def html(self, view: View, frame: Frame, *, status: int = 200) -> web.Response:
        """A page: the view within its frame, with the headers of every page."""
        text = self._env.get_template(view.template).render(_values(frame) | _values(view))
        return web.Response(text=text, status=status, content_type="text/html", headers=HEADERS)

    async def static(self, request: web.Request) -> web.Response:
        """A static file: public, and kept for ever in the folder of the present ones.

        A page that was made before an upgrade gets the present file too.
        """
        name = request.match_info["name"]
        if name not in self._files:
            raise web.HTTPNotFound
        data, kind = self._files[name]
        present = request.match_info["tag"] == self._tag
        kept = "public, max-age=31536000, immutable" if present else "no-cache"
        headers = {"Cache-Control": kept, "X-Content-Type-Options": "nosniff"}
        return web.Response(body=data, content_type=kind, charset="utf-8", headers=headers)


def _values(shown: View | Frame) -> dict[str, object]:
    return {field.name: getattr(shown, field.name) for field in fields(shown)}
