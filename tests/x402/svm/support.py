"""Parts of the tests of x402 on Solana: keys, payments with the terms a test wants wrong, a purse on the rail."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field

from solders.hash import Hash
from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import VersionedTransaction
from x402.schemas import PaymentPayload, PaymentRequirements

from agentnexus.core.clock import SystemClock
from agentnexus.core.money import Asset, Money
from agentnexus.core.payments import PaymentRequest, PayMode
from agentnexus.devnet.solana.chain import SolanaDevelopmentChain
from agentnexus.markets.x402.svm.facilitator import SolanaFacilitator
from agentnexus.markets.x402.svm.pricing import exact_on_solana
from agentnexus.markets.x402.svm.settle import TransferSettler
from agentnexus.markets.x402.svm.settlements import Settlements
from agentnexus.markets.x402.wire import to_json
from agentnexus.platform.database import Database
from agentnexus.rails.solana import exact
from agentnexus.rails.solana.authorize import Authorizations
from agentnexus.rails.solana.cluster import Cluster
from agentnexus.rails.solana.networks import DEVNET
from agentnexus.rails.solana.programs import (
    Token,
    compute_unit_limit,
    compute_unit_price,
    memo,
    transfer_tokens,
)

PRICE = 20_000
NETWORK = DEVNET.caip2
USDC = Pubkey.from_string(DEVNET.usdc_mint)
USDC_TOKEN = Token(USDC, 6)


class KeySigner:
    """A keypair behind the core `Signer`."""

    def __init__(self, keypair: Keypair) -> None:
        self.keypair = keypair

    @property
    def public_id(self) -> str:
        return str(self.keypair.pubkey())

    async def sign(self, message: bytes) -> bytes:
        return bytes(self.keypair.sign_message(message))


@dataclass
class Stage:
    """A buyer with money, a seller with an account, a sponsor of fees: fresh keys on the session's chain."""

    chain: SolanaDevelopmentChain
    database: Database
    buyer: Keypair = field(default_factory=Keypair)
    seller: Keypair = field(default_factory=Keypair)
    sponsor: Keypair = field(default_factory=Keypair)

    def __post_init__(self) -> None:
        self.cluster = Cluster(self.chain.rpc)
        self.asset: Asset = self.chain.usdc

    async def fund(self, balance: int = 10 * PRICE) -> None:
        await self.chain.mint(self.buyer.pubkey(), balance)
        await self.chain.mint(self.seller.pubkey(), 0)
        await self.chain.airdrop(self.sponsor.pubkey(), 1_000_000_000)

    def asked(self, amount: int = PRICE, *, memo_text: str | None = None, **extra: object) -> PaymentRequirements:
        asked = exact_on_solana(
            Money(self.asset, amount),
            str(self.seller.pubkey()),
            fee_payer=str(self.sponsor.pubkey()),
            memo=memo_text,
        )
        return asked.model_copy(update={"extra": {**(asked.extra or {}), **extra}})

    def settler(self, *, timeout_seconds: float = 10.0) -> TransferSettler:
        return TransferSettler(
            self.cluster,
            NETWORK,
            [KeySigner(self.sponsor)],
            Settlements(self.database),
            SystemClock(),
            settle_timeout_seconds=timeout_seconds,
            poll_seconds=0.02,
        )

    def facilitator(self, *, timeout_seconds: float = 10.0) -> SolanaFacilitator:
        return SolanaFacilitator(self.settler(timeout_seconds=timeout_seconds), [self.asset])

    def rail(self, *, cancel_wait_seconds: float = 10.0, settle_wait_seconds: float = 2.0) -> Authorizations:
        return Authorizations(
            self.database,
            self.cluster,
            KeySigner(self.buyer),
            DEVNET,
            SystemClock(),
            settle_wait_seconds=settle_wait_seconds,
            cancel_wait_seconds=cancel_wait_seconds,
            poll_seconds=0.02,
        )

    async def blockhash(self) -> Hash:
        return (await self.cluster.latest_blockhash()).blockhash

    async def paid(self) -> int:
        """What the seller has got."""
        return await self.chain.tokens_of(self.seller.pubkey())

    async def left(self) -> int:
        """What the buyer has left."""
        return await self.chain.tokens_of(self.buyer.pubkey())

    async def payload(self, key: str = "k", *, amount: int = PRICE, **terms: object) -> dict[str, object]:
        """The scheme payload of a payment."""
        return {"transaction": await self.transaction(key, amount=amount, **terms)}

    async def transaction(
        self,
        key: str = "k",
        *,
        amount: int = PRICE,
        payee: Pubkey | None = None,
        fee_payer: Pubkey | None = None,
        unit_price: int = 1,
        memo_bytes: bytes | None = None,
        blockhash: Hash | None = None,
        token: Token = USDC_TOKEN,
    ) -> str:
        payment = exact.Payment(
            fee_payer=fee_payer or self.sponsor.pubkey(),
            payer=self.buyer.pubkey(),
            payee=payee or self.seller.pubkey(),
            token=token,
            amount=amount,
            memo=exact.memo_for(key) if memo_bytes is None else memo_bytes,
            unit_price=unit_price,
        )
        message = payment.message(blockhash or await self.blockhash())
        return exact.partly_signed(message, bytes(self.buyer.sign_message(exact.signed_bytes(message))))

    def instructions(self, amount: int = PRICE) -> list[Instruction]:
        """The scheme's four, to be changed by tests."""
        destination = USDC_TOKEN.account_of(self.seller.pubkey())
        return [
            compute_unit_limit(exact.UNIT_LIMIT),
            compute_unit_price(1),
            transfer_tokens(self.buyer.pubkey(), destination, amount, USDC_TOKEN),
            memo(b"0" * 32),
        ]

    def compiled(self, instructions: Sequence[Instruction], blockhash: Hash, others: Sequence[Keypair] = ()) -> str:
        """Any instructions as a partly signed transaction."""
        message = MessageV0.try_compile(self.sponsor.pubkey(), list(instructions), [], blockhash)
        signers = {key.pubkey(): key for key in (self.buyer, *others)}
        wanted = message.account_keys[1 : message.header.num_required_signatures]
        signatures = [signers[key].sign_message(exact.signed_bytes(message)) for key in wanted]
        transaction = VersionedTransaction.populate(message, [Signature.default(), *signatures])
        return base64.b64encode(bytes(transaction)).decode()


def presented(asked: PaymentRequirements, payload: dict[str, object]) -> PaymentPayload:
    """A v2 payment as a facilitator gets it."""
    return PaymentPayload(payload=payload, accepted=asked)


def request_of(
    stage: Stage, asked: PaymentRequirements, binding: str = "x402:https://seller.example/report:1"
) -> PaymentRequest:
    """What the buyer asks its purse for."""
    return PaymentRequest(
        rail="solana",
        amount=Money(stage.asset, int(asked.amount)),
        payee=asked.pay_to,
        mode=PayMode.AUTHORIZE,
        reference={**to_json(asked), "envelope": {"x402Version": 2}},
        binding=binding,
    )
