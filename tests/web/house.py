"""The wallet's and the purchases' pages over the real rooms: as one person after another sees them by HTTP."""

from __future__ import annotations

import html
import json
import re
from base64 import urlsafe_b64decode
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import httpx
from eth_account import Account
from starlette.requests import Request

from agentnexus.core.clock import SystemClock
from agentnexus.identity.passkeys import Passkey
from agentnexus.rails.evm.userops.passkeys import challenge
from agentnexus.web.adapters.wallet import HouseWallet
from agentnexus.web.app import pages_app
from agentnexus.web.doors import Doors
from tests.userops.soft_passkey import SoftPasskey
from tests.wallets.conftest import World
from tests.web.browsing import read_form
from tests.web.preview import preview_app

FAUCET = "nexus wallet top-up 5 --to 0x"


@dataclass
class Pages:
    """A browser without scripts; `X-User` says who sits before it."""

    world: World
    client: httpx.AsyncClient

    async def get(self, path: str, user: str = "ann") -> str:
        answer = await self.client.get(path, headers={"X-User": user})
        assert answer.status_code == 200, answer.text
        return html.unescape(answer.text)

    async def post(self, path: str, user: str = "ann", **data: str) -> httpx.Response:
        return await self.client.post(path, data=data, headers={"X-User": user})

    async def moved(self, path: str, user: str = "ann", **data: str) -> str:
        """Where a form that went through leads to."""
        answer = await self.post(path, user, **data)
        assert answer.status_code == 303, html.unescape(answer.text)
        return answer.headers["location"]

    async def sign_with_passkey(self, place: str, user: str) -> httpx.Response:
        """What the page's button does: the digest of the page, signed by that person's passkey."""
        shown = await self.get(place, user)
        (asked,) = re.findall(r'data-challenge="([^"]+)"', shown)
        passkey = self.world.passkeys[user]
        parts = [challenge(each) for each in passkey.answer(urlsafe_b64decode(asked + "="))]
        names = ("authenticator_data", "client_data", "signature")
        return await self.post(f"{place}/signature", user, **dict(zip(names, parts, strict=True)))

    async def sign_with_key(self, place: str, user: str) -> httpx.Response:
        """What a wallet in the browser does: the typed data of the page, signed by a chain account of that name."""
        payload = read_form((await self.client.get(place, headers={"X-User": user})).text).sent["payload"][0]
        key = self.world.chain.accounts[user].private_key
        signed = Account.sign_typed_data(key, full_message=json.loads(payload))
        return await self.post(f"{place}/signature", user, signature="0x" + signed.signature.hex())


def house_wallet(world: World) -> HouseWallet:
    """With everybody's software passkeys as those they made at /connect."""

    async def passkeys(person_id: str) -> Sequence[Passkey]:
        found: SoftPasskey | None = world.passkeys.get(person_id)
        if found is None:
            return []
        credential = b"credential of " + person_id.encode()
        return [
            Passkey(
                credential, person_id, found.public_key, "nexus.example", f"{person_id}'s phone", SystemClock().now()
            )
        ]

    return HouseWallet(world.wallets(), passkeys, play_money=True)


@asynccontextmanager
async def open_pages(world: World, **doors: object) -> AsyncIterator[Pages]:
    """The pages with these doors instead of sample data."""

    async def user(request: Request) -> str:
        return request.headers["x-user"]

    sample: Doors = preview_app().routes[0].app.app.state.doors  # type: ignore[attr-defined]  # the one mount
    app = pages_app(replace(sample, user=user, **doors))  # type: ignore[arg-type]  # doors by name
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://node") as client:
        yield Pages(world, client)
