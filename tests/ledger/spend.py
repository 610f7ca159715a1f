"""A spending process for `test_processes`: follows the plan in its arguments, prints one JSON line per answer."""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections.abc import Awaitable

from agentnexus.core.errors import NexusError
from agentnexus.core.money import Money
from agentnexus.ledger.books import Books
from agentnexus.ledger.model import TransferKind
from agentnexus.platform.database import Database
from tests.ledger.conftest import SELLER, USDC, usdc

ACCOUNTS = [f"wallet:{n}" for n in range(6)]


def say(**fields: object) -> None:
    print(json.dumps(fields), flush=True)


async def same_budget(books: Books, name: str, spenders: int, attempts: int) -> None:
    """Every spender reserves one unit at a time as often as told; half of what it got is captured, the rest stays."""

    async def spender(number: int) -> None:
        for attempt in range(attempts):
            key = f"{name}-{number}-{attempt}"
            try:
                await books.reserve(
                    key,
                    budget_id="agent",
                    payer_account=ACCOUNTS[0],
                    payee_account=SELLER,
                    amount=usdc("0.000001"),
                    task=f"task-{number % 2}",
                )
                if attempt % 2:
                    await books.capture(key)
                say(key=key, answer="ok")
            except NexusError as error:
                say(key=key, answer=str(error.details.get("limit", error.code)))

    async with asyncio.TaskGroup() as group:
        for number in range(spenders):
            group.create_task(spender(number))


async def crossing(books: Books, name: str, spenders: int, attempts: int) -> None:
    """Random operations between six accounts and two budgets, in every direction, with partial captures and voids."""
    dice = random.Random(name)

    async def spender(number: int) -> None:
        for attempt in range(attempts):
            key = f"{name}-{number}-{attempt}"
            payer, payee = dice.sample(ACCOUNTS, 2)
            budget = dice.choice(["agent", "agent-2"])
            amount = dice.randint(1, 50)
            try:
                await books.reserve(
                    key,
                    budget_id=budget,
                    payer_account=payer,
                    payee_account=payee,
                    amount=Money(USDC, amount),
                    task=f"task-{dice.randint(0, 3)}",
                    seller=payee,
                )
                match dice.randint(0, 3):
                    case 0:
                        await books.void(key)
                    case 1:
                        await books.capture(key, Money(USDC, dice.randint(1, amount)))
                    case 2:
                        await books.capture(key)
                say(key=key, answer="ok")
            except NexusError as error:
                say(key=key, answer=str(error.code))

    async with asyncio.TaskGroup() as group:
        for number in range(spenders):
            group.create_task(spender(number))


async def one_key(books: Books, name: str, spenders: int, attempts: int) -> None:
    """All processes use the same keys; `name` decides the terms, and even keys agree between all of them."""

    async def spender(number: int) -> None:
        for attempt in range(attempts):
            key = f"shared-{number}-{attempt}"
            own = int(name) % len(ACCOUNTS) if attempt % 2 else 0
            try:
                await books.reserve(
                    key, budget_id=None, payer_account=ACCOUNTS[own], payee_account=SELLER, amount=usdc("0.000001")
                )
                await books.capture(key)
                say(key=key, answer="ok", name=name)
            except NexusError as error:
                say(key=key, answer=str(error.code), name=name)

    async with asyncio.TaskGroup() as group:
        for number in range(spenders):
            group.create_task(spender(number))


async def refunds(books: Books, name: str, spenders: int, attempts: int) -> None:
    """All processes pay the same keys, have them back in part, and half of that undone: what a chain tells them all."""
    del name

    async def step(key: str, call: Awaitable[object]) -> None:
        try:
            await call
            say(key=key, answer="ok")
        except NexusError as error:
            say(key=key, answer=str(error.code))

    async def spender(number: int) -> None:
        dice = random.Random(number)
        for attempt in range(attempts):
            key, buyer, amount = f"{number}-{attempt}", ACCOUNTS[0], dice.randint(10, 30)
            task, whole, part = f"task-{number % 3}", Money(USDC, amount), Money(USDC, amount // 2)
            asked = books.reserve(
                key, budget_id="agent", payer_account=buyer, payee_account=SELLER, amount=whole, task=task
            )
            await step(key, asked)
            await step(key, books.capture(key))
            told = [(SELLER, buyer, part), (SELLER, buyer, whole - part), (buyer, SELLER, part)]
            moves = [
                books.transfer(f"{key}:{each}", *told[each], TransferKind.REFUND, reservation=key)
                for each in range(dice.randint(1, 3))
            ]
            await asyncio.gather(*(step(key, move) for move in moves))

    async with asyncio.TaskGroup() as group:
        for number in range(spenders):
            group.create_task(spender(number))


async def main(url: str, plan: str, name: str, spenders: int, attempts: int) -> None:
    db = await Database.open(url, max_size=3)
    async with Books(db) as books:
        say(ready=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)  # all processes start together
        await {"same_budget": same_budget, "crossing": crossing, "one_key": one_key, "refunds": refunds}[plan](
            books, name, spenders, attempts
        )
    await db.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])))
