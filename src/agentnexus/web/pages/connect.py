"""Signing in: with a passkey, a code by e-mail or the browser's wallet; who one is now, and signing out."""

from __future__ import annotations

from contextlib import suppress
from typing import Final
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from agentnexus.core.errors import NexusError, NotFound, SignInAgain
from agentnexus.identity.origin import local_path
from agentnexus.web.pages import doors_of
from agentnexus.web.pages.uploads import posted, text_of
from agentnexus.web.rendering import page
from agentnexus.web.views.problems import problem_of

HERE: Final = "/connect"
EMAIL_CHARS, CODE_CHARS, CHALLENGE_CHARS, NEXT_CHARS, PASSKEY_CHARS, DEVICE_CHARS = 300, 40, 100, 4000, 1400, 100


async def connect(request: Request) -> Response:
    """GET /connect; ``?next=/…`` is where signing in leads to, ``?again=1`` is for who is to prove who they are."""
    return await _connect(request, request.query_params.get("next", ""), again="again" in request.query_params)


async def _connect(
    request: Request, next_path: str, email: str = "", error: NexusError | None = None, *, again: bool = False
) -> Response:
    door = doors_of(request).sign_in
    found = await door.page(request)
    request.state.visitor = found.visitor.person_id if found.visitor else ""
    response = page(
        request, "pages/connect.html", status=error.http_status if error else 200, page=found,
        next_path=local_path(next_path, ""), here=HERE, email=email, again=again, problem=problem_of(error),
    )  # fmt: skip
    if found.stale:  # who cannot be told from a stranger is one, here as everywhere
        await door.leave(request, response)
    return response


async def send_code(request: Request) -> Response:
    """POST /connect/email: the address; leads to where the code goes in, so that a reload sends no other one."""
    data = await posted(request)
    next_path, again, email = text_of(data, "next", limit=NEXT_CHARS), bool(text_of(data, "again", limit=1)), ""
    try:
        email = text_of(data, "email", limit=EMAIL_CHARS)
        challenge = await doors_of(request).sign_in.send_code(request, email)
    except NexusError as error:
        return await _connect(request, next_path, email, error, again=again)
    return RedirectResponse(
        f"{HERE}/code?{urlencode({'challenge': challenge, 'next': local_path(next_path, '')})}", 303
    )


async def ask_code(request: Request) -> Response:
    """GET /connect/code?challenge=…&next=/…"""
    challenge = request.query_params.get("challenge", "")[:CHALLENGE_CHARS]
    return await _ask_code(request, challenge, request.query_params.get("next", "")[:NEXT_CHARS])


async def enter(request: Request) -> Response:
    """POST /connect/code: the code from the message; leads to where the visitor wanted to go."""
    data = await posted(request)
    challenge = text_of(data, "challenge", limit=CHALLENGE_CHARS)
    next_path = text_of(data, "next", limit=NEXT_CHARS)
    response = RedirectResponse(local_path(next_path, HERE), 303)
    try:
        code = text_of(data, "code", limit=CODE_CHARS)
        await doors_of(request).sign_in.enter(request, response, challenge, code)
    except NexusError as error:
        return await _ask_code(request, challenge, next_path, error)
    return response


async def _ask_code(request: Request, challenge: str, next_path: str, error: NexusError | None = None) -> Response:
    found = await doors_of(request).sign_in.page(request)
    return page(
        request, "pages/connect_code.html", status=error.http_status if error else 200, challenge=challenge,
        next_path=local_path(next_path, ""), mail_folder=found.mail_folder,
        back=f"{HERE}?{urlencode({'next': next_path})}" if next_path else HERE, problem=problem_of(error),
    )  # fmt: skip


async def leave(request: Request) -> Response:
    """POST /connect/sign-out"""
    response = RedirectResponse(HERE, 303)
    await doors_of(request).sign_in.leave(request, response)
    return response


async def remove_passkey(request: Request) -> Response:
    """POST /connect/passkeys/remove"""
    passkey = text_of(await posted(request), "passkey", limit=PASSKEY_CHARS)
    try:
        await doors_of(request).sign_in.remove_passkey(request, passkey)
    except SignInAgain:
        raise  # leads there and back
    except NexusError as error:
        return await _connect(request, "", error=error)
    return RedirectResponse(HERE, 303)


async def end_device(request: Request) -> Response:
    """POST /connect/devices/end"""
    device = text_of(await posted(request), "device", limit=DEVICE_CHARS)
    with suppress(NotFound):  # it has ended already, which is what was asked for
        await doors_of(request).sign_in.end_device(request, device)
    return RedirectResponse(HERE, 303)


async def end_devices(request: Request) -> Response:
    """POST /connect/devices/end-all"""
    response = RedirectResponse(HERE, 303)
    await doors_of(request).sign_in.end_devices(request, response)
    return response


routes = [
    Route(HERE, connect),
    Route(f"{HERE}/email", send_code, methods=["POST"]),
    Route(f"{HERE}/code", ask_code),
    Route(f"{HERE}/code", enter, methods=["POST"]),
    Route(f"{HERE}/passkeys/remove", remove_passkey, methods=["POST"]),
    Route(f"{HERE}/devices/end", end_device, methods=["POST"]),
    Route(f"{HERE}/devices/end-all", end_devices, methods=["POST"]),
    Route(f"{HERE}/sign-out", leave, methods=["POST"]),
]
