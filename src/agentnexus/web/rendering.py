"""Templates and static files: one Jinja environment, autoescape everywhere, addresses that change with the content."""

from __future__ import annotations

import hashlib
import secrets
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from starlette.requests import Request
from starlette.responses import HTMLResponse

from agentnexus.identity.caller import COOKIE
from agentnexus.web.results.folding import fold
from agentnexus.web.views import text
from agentnexus.web.views.sign_in import short_person

STATIC: Final = Path(__file__).parent / "static"
THEMES: Final = ("light", "dark", "system")
THEME_COOKIE: Final = "nexus_theme"


@cache
def static_url(path: str) -> str:
    """``/static/<path>?v=<hash>``: cached for ever by browsers, changed whenever the file is."""
    digest = hashlib.sha256((STATIC / path).read_bytes()).hexdigest()[:10]
    return f"/static/{path}?v={digest}"


@cache
def environment() -> Environment:
    """The one environment. Undefined names are errors, every value is escaped."""
    made = Environment(
        loader=PackageLoader("agentnexus.web"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals.update(static_url=static_url, sigil=text.sigil, form_key=lambda: secrets.token_urlsafe(16))
    made.filters.update(
        duration=text.duration, percent=text.percent, size=text.size, plural=text.plural,
        wrapped=text.wrapped, short_key=text.short_key, fold=fold,
        ago=lambda moment: text.ago(moment, datetime.now(UTC)),
        until=lambda moment: text.until(moment, datetime.now(UTC)),
        clock=lambda moment: f"{moment.astimezone(UTC):%H:%M:%S}",
        day=text.day, minute=text.minute,
        iso=lambda moment: moment.astimezone(UTC).isoformat(timespec="seconds"),
    )  # fmt: skip
    return made


def theme_of(request: Request) -> str:
    """``light``, ``dark`` or ``system``, as the visitor chose."""
    chosen = request.cookies.get(THEME_COOKIE, "system")
    return chosen if chosen in THEMES else "system"


def visitor_name(request: Request) -> str:
    """Who is signed in with this browser, in short; "" for nobody. Not every page has looked who it is."""
    if COOKIE not in request.cookies:
        return ""
    known: str | None = getattr(request.state, "visitor", None)
    return "Account" if known is None else short_person(known)


def is_fragment(request: Request) -> bool:
    """Whether htmx asks for a part of a page (history restores want the whole page)."""
    return "hx-request" in request.headers and "hx-history-restore-request" not in request.headers


def page(request: Request, template: str, *, status: int = 200, **values: object) -> HTMLResponse:
    """A whole page."""
    body = (
        environment()
        .get_template(template)
        .render(request=request, theme=theme_of(request), visitor_name=visitor_name(request), **values)
    )
    return HTMLResponse(sendable(body), status_code=status, headers={"Cache-Control": "no-store", "Vary": "HX-Request"})


def fragment(template: str, macro: str, *arguments: object) -> str:
    """One macro of a template as HTML text."""
    return sendable(str(getattr(environment().get_template(template).module, macro)(*arguments)))


def sendable(text: str) -> str:
    """Text as UTF-8 can carry it: half surrogates, which JSON of strangers may hold, become question marks."""
    return text.encode("utf-8", "replace").decode()
