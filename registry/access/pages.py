"""The few pages of sign-in.

Plain, without scripts, every value escaped, and a policy that lets nothing else in.
"""

from __future__ import annotations

import base64
import hashlib
from html import escape
from urllib.parse import urlencode

from aiohttp import web

from crosslight.standards.problem import CrosslightError

_STYLE = """
body{font:19px/1.5 Arial,Helvetica,sans-serif;margin:0;background:#f0f4f5;color:#212b32}
header{background:#005eb8;color:#fff;padding:12px 24px;font-size:22px;font-weight:bold}
.demo{background:#d5281b;color:#fff;margin:0;padding:12px 24px;font-weight:bold}
main{max-width:520px;margin:32px auto;padding:24px 32px;background:#fff;border:1px solid #d8dde0}
h1{font-size:28px;margin:0 0 16px}
label{display:block;font-weight:bold;margin:16px 0 4px}
input[type=text],input[type=password]{font:inherit;width:100%;box-sizing:border-box;
  padding:8px;border:2px solid #4c6272}
input:focus,button:focus,a:focus{outline:4px solid #ffeb3b;box-shadow:inset 0 0 0 4px #212b32}
button,.button{font:inherit;font-weight:bold;margin-top:24px;
  padding:10px 20px;border:0;border-bottom:4px solid #00401e;
background:#007f3b;color:#fff;cursor:pointer;display:inline-block;text-decoration:none}
.error{border-left:8px solid #d5281b;padding:8px 16px;margin:0 0 16px;font-weight:bold;color:#b41f14}
@media(prefers-color-scheme:dark){body{background:#12181c;color:#e8edf0}header{background:#0b4f93}
main{background:#1b2328;border-color:#3a464e}input[type=text],input[type=password]{background:#12181c;color:inherit;border-color:#aebcc6}
.error{color:#ff9d94}}
"""
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
POLICY = (
    f"default-src 'none'; style-src 'sha256-{_HASH}'; form-action 'self'; frame-ancestors 'none'; base-uri"
    " 'none'"
)


def page(title: str, body: str, *, name: str, status: int = 200, banner: str = "") -> web.Response:
    """A page; ``body`` is HTML made with :func:`escape`, the rest is text.

    ``name`` is what the service is called everywhere.
    """
    loud = f'<p class="demo" role="alert">{escape(banner)}</p>' if banner else ""
    html = (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)} –'
        f" {escape(name)}</title>"
        '<meta name="viewport" content="width=device-width,initial-scale=1"><meta name="color-scheme"'
        ' content="light dark">'
        f"<style>{_STYLE}</style></head>"
        f"<body><header>{escape(name)}</header>{loud}<main><h1>{escape(title)}</h1>{body}</main></body></html>"
    )
    headers = {
        "Content-Security-Policy": POLICY,
        "Cache-Control": "no-store",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
    return web.Response(text=html, status=status, content_type="text/html", headers=headers)


def problem_page(error: CrosslightError, *, return_to: str, name: str) -> web.Response:
    """Sign-in did not work; why, and the way back."""
    again = "/signin" if return_to == "/" else f"/signin?{urlencode({'return': return_to})}"
    more = "".join(f"<p>{escape(text)}</p>" for text in (error.why, error.todo) if text)
    body = (
        f'<p class="error" role="alert">{escape(error.what)}</p>{more}<a class="button"'
        f' href="{escape(again)}">Sign in again</a>'
    )
    response = page("Sign-in did not work", body, status=error.http_status, name=name)
    if error.retry_after_s is not None:
        response.headers["Retry-After"] = str(error.retry_after_s)
    return response


def signed_out_page(name: str) -> web.Response:
    """After signing out."""
    body = '<p>Close this window on a shared computer.</p><a class="button" href="/signin">Sign in</a>'
    return page("You are signed out", body, name=name)
