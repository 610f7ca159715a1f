"""All pages as one list of routes: static files, and the pages behind their own headers and error pages."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.routing import BaseRoute, Mount

from agentnexus.web.doors import Doors
from agentnexus.web.pages import (
    agents,
    approvals,
    connect,
    economy,
    errors,
    history,
    landing,
    money,
    prepaid,
    purchases,
    saved,
    schedules,
    wallet,
    webhooks,
    workflows,
)
from agentnexus.web.security import PageSecurity
from agentnexus.web.static_files import Static


def pages_app(doors: Doors) -> Starlette:
    """The pages as an application of their own; `doors` is in ``app.state.doors``."""
    app = Starlette(
        routes=[
            Mount("/static", Static()),
            *landing.routes,
            *agents.routes,
            *connect.routes,
            *workflows.routes,
            *history.routes,
            *economy.routes,
            *money.routes,
            *approvals.routes,
            *prepaid.routes,
            *wallet.routes,
            *purchases.routes,
            *saved.routes,
            *schedules.routes,
            *webhooks.routes,
        ],
        exception_handlers=errors.handlers,
    )
    app.state.doors = doors
    return app


def shared_pages(doors: Doors) -> list[BaseRoute]:
    """Routes to put *before* the API's: pages whose address the API has too. They match only who asks for HTML."""
    app = PageSecurity(pages_app(doors))
    return [workflows.BrowserRoute(route.path, app) for route in workflows.shared_routes]


def create_pages(doors: Doors) -> list[BaseRoute]:
    """Routes to append after all others of the API process: they answer every address that nothing else took."""
    # Around the whole, so that the page for a bug is as protected as the others.
    return [Mount("/", PageSecurity(pages_app(doors)))]
