"""Templates, static files and the headers of every page. Autoescape is on for all templates; nothing is marked safe."""

from __future__ import annotations

import hashlib
from importlib import resources
from typing import Any

import jinja2
from aiohttp import web

from registry.portal import words

_TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}

#: No script, style, picture, frame or address from anywhere but this server.
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
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


class Pages:
    """Renders templates; knows the static files and one hash of them all."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[bytes, str]] = {}
        for entry in resources.files("registry.portal").joinpath("static").iterdir():
            kind = _TYPES.get(entry.name.rpartition(".")[2])
            if kind is not None:
                self._files[entry.name] = (entry.read_bytes(), kind)
        whole = hashlib.sha256(b"".join(name.encode() + data for name, (data, _) in sorted(self._files.items())))
        self._tag = whole.hexdigest()[:12]
        self._env = jinja2.Environment(
            loader=jinja2.PackageLoader("registry.portal"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._env.globals |= {"asset": self.asset, "count": words.count, "plain": words.plain}

    def asset(self, name: str) -> str:
        """The address of a static file: all are in a folder named by what is in them, so that modules find each other there."""
        return f"/static/{self._tag}/{self._known(name)}"

    def _known(self, name: str) -> str:
        if name not in self._files:
            raise KeyError(name)
        return name

    def html(self, template: str, values: dict[str, Any], *, status: int = 200) -> web.Response:
        """A page."""
        text = self._env.get_template(template).render(values)
        return web.Response(text=text, status=status, content_type="text/html", headers=HEADERS)

    async def static(self, request: web.Request) -> web.Response:
        """A static file: public, kept for ever in the folder of the present ones; a page of before gets the present one too."""
        name = request.match_info["name"]
        if name not in self._files:
            raise web.HTTPNotFound
        data, kind = self._files[name]
        headers = {
            "Cache-Control": "public, max-age=31536000, immutable" if request.match_info["tag"] == self._tag else "no-cache",
            "X-Content-Type-Options": "nosniff",
        }
        return web.Response(body=data, content_type=kind, charset="utf-8", headers=headers)
