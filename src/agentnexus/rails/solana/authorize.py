"""Holds on Solana: an x402 `exact` transaction, signed by the payer, that the seller's side may send while it lasts.

Nothing on the chain can take such a signature back. It lapses with its blockhash, after about a minute, and only the
chain's final word (its height, and the payer's transactions) says whether it was used before (decision 0007).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

import asyncpg
from solders.hash import Hash, ParseHashError
from solders.pubkey import Pubkey
from solders.signature import Signature

from agentnexus.core.errors import InsufficientFunds, InvalidInput, NexusError, PaymentUnknown
from agentnexus.core.payments import Hold, Payment, PaymentRequest, PaymentState, PayMode
from agentnexus.core.ports import Clock, Signer
from agentnexus.platform.database import Database
from agentnexus.rails.solana import exact
from agentnexus.rails.solana.cluster import Cluster, Commitment, LatestBlockhash, Outcome
from agentnexus.rails.solana.errors import NodeError, WrongNetwork
from agentnexus.rails.solana.networks import Network, network_by_name
from agentnexus.rails.solana.programs import Token, public_key
from agentnexus.rails.solana.tokens import Mint, read_mint

# The node that knows a seller's blockhash may be ahead of the one that told us the height, some seconds ago.
HINT_MARGIN_BLOCKS = 32
HEIGHT_LIFE_SECONDS = 4.0
# A node lists what an address did some moments after it has the block.
LAPSE_MARGIN_BLOCKS = 16
FINALITY_SECONDS = 20.0
SLOWEST_POLL = 10  # a wait of a minute needs no more than every tenth look of one that may end at once
MAXIMUM_ATTEMPTS = 64
# Not waiting for the disk: the purse's own durable commit follows before the payment leaves, and carries this one.
LIFE_BLOCKS = exact.BLOCKHASH_BLOCKS + HINT_MARGIN_BLOCKS + LAPSE_MARGIN_BLOCKS
INSERT = """insert into x402svm.authorization
        (key, network, message_hash, payload, last_valid_block_height, opened_slot)
    select $1, $2, $3, $4, $5::bigint, $6::bigint where set_config('synchronous_commit', 'off', true) = 'off'
    on conflict do nothing returning *"""
FIND = "select * from x402svm.authorization where key = $1"


@dataclass(frozen=True, slots=True)
class Terms:
    """One checked requirement."""

    mint: Pubkey
    payee: Pubkey
    fee_payer: Pubkey
    memo: bytes | None
    blockhash: Hash | None


class Authorizations:
    """The holding half of the Solana rail for one payer key on one cluster.

    Args:
        settle_wait_seconds: how long `settle` waits for a transaction that the payee claims to have sent.
        cancel_wait_seconds: how long `cancel` waits for the signature to lapse before it raises `PaymentUnknown`.
        poll_seconds: between two looks at the chain.
    """

    def __init__(
        self,
        database: Database,
        cluster: Cluster,
        signer: Signer,
        network: Network,
        clock: Clock,
        *,
        settle_wait_seconds: float = 5.0,
        cancel_wait_seconds: float = 150.0,
        poll_seconds: float | None = None,
    ) -> None:
        self.network = network
        self._database = database
        self._cluster = cluster
        self._signer = signer
        self._payer = public_key(signer.public_id)
        self._clock = clock
        self._settle_wait = settle_wait_seconds
        self._cancel_wait = cancel_wait_seconds
        self._poll = poll_seconds or network.slot_seconds
        self._mints: dict[Pubkey, Mint] = {}
        self._height: LatestBlockhash | None = None
        self._height_until = float("-inf")

    async def open(self, request: PaymentRequest, key: str) -> Hold:
        """Sign a transaction, once per key for ever; nothing leaves and nothing moves yet.

        Evidence: ``payload`` (what goes to the seller), ``payer``, ``signature`` (the payer's), ``message_hash``,
        ``last_valid_block_height``, ``opened_slot``. Raises `InvalidInput`, `WrongNetwork`, `InsufficientFunds`.
        """
        if request.mode is not PayMode.AUTHORIZE:
            raise InvalidInput(f"a Solana hold is an authorisation, not {request.mode}", field="mode")
        terms = read_terms(request, self.network)
        if terms.fee_payer == self._payer:
            raise InvalidInput("the seller names our own wallet as the fee payer", field="reference.extra.feePayer")
        try:
            row = await self._write(*await self._prepare(request, terms, key), key)
        except NexusError:
            # Most holds are new, so the books are asked first only where a new one could not be made.
            known = await self._find(key)
            if known is None:
                raise
            row = known
        return self._hold(request, row)

    async def settle(self, hold: Hold, proof: dict[str, object]) -> Payment:
        """Confirm that our transaction went through, by the signature the payee names or else by looking for it.

        Returns `confirmed`, `refunded` when it can never go through any more, or `unknown`: look again later.
        """
        claimed = _signature(proof.get("transaction"))
        if claimed is not None:
            outcome = await self._await_claimed(claimed)
            if outcome is not None and outcome.error is None and _is_ours(outcome, hold.payment):
                return _confirmed(hold.payment, claimed, outcome.slot)
        now = await self.lookup(hold.payment)
        return now.model_copy(update={"state": PaymentState.UNKNOWN}) if now.state is PaymentState.HELD else now

    async def cancel(self, hold: Hold) -> Payment:
        """Wait until the signature has lapsed. Returns `refunded`, or `confirmed` when the payee was faster.

        Raises `PaymentUnknown` when the wait is over and the chain has not moved on: call again.
        """
        pause = self._poll
        try:
            async with asyncio.timeout(self._cancel_wait):
                while True:
                    now = await self.lookup(hold.payment)
                    if now.state is not PaymentState.HELD:
                        return now
                    await asyncio.sleep(pause)
                    pause = min(1.5 * pause, SLOWEST_POLL * self._poll)
        except TimeoutError:
            raise PaymentUnknown(
                "the signed payment has not lapsed yet",
                next_step="wait: it is looked up by itself; do not pay a second time before that",
                last_valid_block_height=hold.payment.evidence.get("last_valid_block_height"),
            ) from None

    async def lookup(self, payment: Payment) -> Payment:
        """What the chain says now: `held` while the payment can still be collected."""
        # The height first: what is in none of the blocks up to here cannot come into a later one.
        height = await self._cluster.block_height(Commitment.FINALIZED)
        slot = await self._cluster.slot(Commitment.FINALIZED)
        found = await self._search(payment, slot)
        if found is not None:
            transaction, outcome = found
            if outcome.error is None:
                return _confirmed(payment, transaction, outcome.slot)
            if outcome.slot <= slot:  # final: the cluster never takes the same transaction twice
                return _refunded(payment, failed_transaction=transaction, chain_error=outcome.error)
        elif height > _whole(payment, "last_valid_block_height") + LAPSE_MARGIN_BLOCKS:
            return _refunded(payment, expired=True)
        return payment.model_copy(update={"state": PaymentState.HELD})

    async def _prepare(self, request: PaymentRequest, terms: Terms, key: str) -> tuple[exact.Payment, LatestBlockhash]:
        """The payment and the blockhash it will be good for; raises `InsufficientFunds`."""
        mint = await self._mint(terms.mint, request)
        payment = exact.Payment(
            fee_payer=terms.fee_payer,
            payer=self._payer,
            payee=terms.payee,
            token=Token(terms.mint, mint.decimals, mint.program),
            amount=request.amount.atomic,
            memo=terms.memo or exact.memo_for(key),
        )
        balance, latest = await asyncio.gather(
            self._cluster.token_balance(payment.source), self._blockhash(terms.blockhash)
        )
        if (balance or 0) < payment.amount:
            raise InsufficientFunds(
                f"the wallet {self._payer} has less than {request.amount}",
                next_step=f"send {request.amount.asset.symbol} to it on {self.network.caip2}",
                address=str(self._payer),
            )
        return payment, latest

    async def _write(self, payment: exact.Payment, latest: LatestBlockhash, key: str) -> asyncpg.Record:
        """Sign and write down; what another process wrote for this key meanwhile is the answer."""
        for attempt in range(MAXIMUM_ATTEMPTS):
            message = payment.with_unit_limit(exact.unit_limit_for(key, attempt)).message(latest.blockhash)
            signature = await self._signer.sign(exact.signed_bytes(message))
            async with self._database.connection() as connection:
                row = await connection.fetchrow(
                    INSERT,
                    key,
                    self.network.caip2,
                    exact.message_hash(message),
                    exact.partly_signed(message, signature),
                    latest.last_valid_block_height,
                    latest.slot,
                )
            row = row or await self._find(key)
            if row is not None:
                return row
            # Another purchase with the seller's memo is the same transaction: this one must differ.
        raise InvalidInput(
            "too many payments with one memo in one block", next_step="buy again in a second", field="memo"
        )

    async def _blockhash(self, hint: Hash | None) -> LatestBlockhash:
        """The seller's hint while our own node knows it, else the newest; with the height it lasts to at most."""
        if hint is None:
            return await self._cluster.latest_blockhash()
        known, newest = await asyncio.gather(self._cluster.is_valid(hint), self._newest())
        if not known:
            return await self._cluster.latest_blockhash()
        return LatestBlockhash(hint, newest.last_valid_block_height + HINT_MARGIN_BLOCKS, newest.slot)

    async def _newest(self) -> LatestBlockhash:
        """Where the chain is, at most some seconds ago: the margin has room for more blocks than that."""
        now = self._clock.monotonic()
        if self._height is None or self._height_until <= now:
            self._height = await self._cluster.latest_blockhash(Commitment.PROCESSED)
            self._height_until = now + HEIGHT_LIFE_SECONDS
        return self._height

    async def _mint(self, address: Pubkey, request: PaymentRequest) -> Mint:
        known = self._mints.get(address)
        if known is None:
            account = await self._cluster.account(address)
            known = read_mint(*account) if account else None
            if known is None:
                raise InvalidInput(f"{address} is not a token", field="reference.asset")
            self._mints[address] = known
        if known.decimals != request.amount.asset.decimals:
            raise InvalidInput(
                f"{address} has {known.decimals} decimals, not {request.amount.asset.decimals}", field="amount"
            )
        return known

    async def _find(self, key: str) -> asyncpg.Record | None:
        async with self._database.connection() as connection:
            return await connection.fetchrow(FIND, key)

    def _hold(self, request: PaymentRequest, row: asyncpg.Record) -> Hold:
        evidence: dict[str, object] = {
            "payload": {"transaction": row["payload"]},
            "payer": str(self._payer),
            "signature": exact.payer_signature(row["payload"]),
            "message_hash": row["message_hash"],
            "last_valid_block_height": row["last_valid_block_height"],
            "opened_slot": row["opened_slot"],
        }
        payment = Payment(id=row["key"], request=request, state=PaymentState.HELD, evidence=evidence)
        lasts = timedelta(seconds=LIFE_BLOCKS * self.network.slot_seconds + FINALITY_SECONDS)
        return Hold(payment=payment, deadline=self._clock.now() + lasts)

    async def _await_claimed(self, signature: str) -> Outcome | None:
        """The claimed transaction when it gets on the chain in time."""
        until = self._clock.monotonic() + self._settle_wait
        while True:
            outcome = await self._cluster.outcome(signature)
            if outcome is not None or self._clock.monotonic() >= until:
                return outcome
            await asyncio.sleep(min(self._poll, 0.1))

    async def _search(self, payment: Payment, seen_slot: int) -> tuple[str, Outcome] | None:
        """Our transaction among the payer's, wherever the seller's side put its signature before ours."""
        source, memo = exact.source_and_memo(_payload(payment))
        opened = _whole(payment, "opened_slot") - HINT_MARGIN_BLOCKS
        before: str | None = None
        while True:
            page = await self._cluster.mentions(
                source, before=before, commitment=Commitment.CONFIRMED, minimum_slot=seen_slot
            )
            recent = [mention for mention in page if mention.slot >= opened]
            for mention in recent:
                if mention.memo and memo.decode(errors="replace") not in mention.memo:
                    continue
                outcome = await self._cluster.outcome(mention.signature)
                if outcome is None:  # it may be ours: nothing is known before it is shown
                    raise NodeError("getTransaction", 0, f"{mention.signature} is listed and not shown")
                if _is_ours(outcome, payment):
                    return mention.signature, outcome
            if not recent or len(recent) < len(page):
                return None
            before = page[-1].signature


def read_terms(request: PaymentRequest, network: Network) -> Terms:
    """Check a request against its own reference, so that we never sign what the reference says and the budget did not.

    Raises `WrongNetwork` or `InvalidInput` naming the field.
    """
    reference, asset = request.reference, request.amount.asset
    if asset.network != network.caip2:
        raise WrongNetwork(
            f"{asset.caip19} is not on {network.caip2}",
            next_step=f"pay from a wallet on {asset.network}",
            network=network.caip2,
        )
    extra = reference.get("extra")
    extra = extra if isinstance(extra, Mapping) else {}
    stated = {
        "network": network_by_name(reference.get("network")) == network,
        "asset": reference.get("asset") == asset.reference,
        "payTo": reference.get("payTo") == request.payee,
        "scheme": reference.get("scheme", "exact") == "exact",
        "amount": reference.get("amount", reference.get("maxAmountRequired")) == str(request.amount.atomic),
    }
    wrong = [name for name, right in stated.items() if not right]
    if wrong:
        raise InvalidInput(
            f"the seller's requirement does not match the payment in: {', '.join(wrong)}",
            field=f"reference.{wrong[0]}",
            next_step="ask the seller for a new quote",
        )
    if not 0 < request.amount.atomic < 2**64:
        raise InvalidInput(f"not an amount of a token: {request.amount}", field="amount")
    return Terms(
        mint=public_key(asset.reference, field="asset"),
        payee=public_key(request.payee, field="payee"),
        fee_payer=public_key(_text(extra, "feePayer"), field="reference.extra.feePayer"),
        memo=_memo(extra.get("memo")),
        blockhash=_blockhash(extra.get("recentBlockhash")),
    )


def _text(extra: Mapping[str, object], name: str) -> str:
    value = extra.get(name)
    return value if isinstance(value, str) else ""


def _memo(value: object) -> bytes | None:
    if value is None or value == "":
        return None
    memo = value.encode() if isinstance(value, str) else b""
    if not 0 < len(memo) <= exact.MAX_MEMO_BYTES:
        raise InvalidInput(
            f"a memo has at most {exact.MAX_MEMO_BYTES} bytes", field="reference.extra.memo", next_step="buy elsewhere"
        )
    return memo


def _blockhash(value: object) -> Hash | None:
    """A hint that cannot be read is no hint."""
    try:
        return Hash.from_string(value) if isinstance(value, str) else None
    except ParseHashError:
        return None


def _signature(value: object) -> str | None:
    """The seller's word, where it can be a transaction at all."""
    try:
        return str(Signature.from_string(value)) if isinstance(value, str) else None
    except ValueError:
        return None


def _whole(payment: Payment, name: str) -> int:
    value = payment.evidence.get(name)
    if not isinstance(value, int):
        raise InvalidInput(f"this hold has no {name}", field=f"evidence.{name}", next_step="use the rail's own hold")
    return value


def _payload(payment: Payment) -> str:
    payload = payment.evidence.get("payload")
    text = payload.get("transaction") if isinstance(payload, Mapping) else None
    if not isinstance(text, str):
        raise InvalidInput("this hold has no signed transaction", field="evidence.payload", next_step="open it first")
    return text


def _is_ours(outcome: Outcome, payment: Payment) -> bool:
    """Whether this is the very transaction that was signed: then it did exactly what was agreed on, or nothing."""
    return exact.message_hash(outcome.transaction.message) == payment.evidence.get("message_hash")


def _confirmed(payment: Payment, transaction: str, slot: int) -> Payment:
    evidence = {**payment.evidence, "transaction": transaction, "slot": slot}
    return payment.model_copy(update={"state": PaymentState.CONFIRMED, "evidence": evidence})


def _refunded(payment: Payment, **facts: object) -> Payment:
    return payment.model_copy(update={"state": PaymentState.REFUNDED, "evidence": {**payment.evidence, **facts}})
