"""Deciding and signing: what our paymaster pays for; each promise is reserved in the ledger before it is given.

A signature is good for minutes, in windows of a fixed grid: the same operation asked for again in one window gets the
same bytes, and one reservation. What nobody can use before the owner has signed is only offered, and promised then.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum, auto
from typing import TypeVar

from agentnexus.core.errors import Conflict, InsufficientFunds, InvalidInput, NexusError, NotFound, RateLimited
from agentnexus.core.ports import Clock
from agentnexus.ledger.books import Books
from agentnexus.ledger.limits import Rejection
from agentnexus.ledger.model import ReservationState
from agentnexus.platform.database import Database
from agentnexus.platform.telemetry import sponsorships_total
from agentnexus.rails.evm.contracts.contract import as_int
from agentnexus.rails.evm.contracts.entry_point import ENTRY_POINT
from agentnexus.rails.evm.contracts.paymaster import DUMMY_SIGNATURE, Paymaster, Policy
from agentnexus.rails.evm.encoding import address, from_hex, to_hex
from agentnexus.rails.evm.fees import FeeLimits, FeeOracle
from agentnexus.rails.evm.networks import Network
from agentnexus.rails.evm.paymaster.accounts import GasAccounts
from agentnexus.rails.evm.paymaster.policy import SponsorPolicy, TokenPrice, account_calls, choose
from agentnexus.rails.evm.paymaster.refusals import NotSponsored
from agentnexus.rails.evm.paymaster.senders import implementation_of, require_account
from agentnexus.rails.evm.paymaster.store import Sponsorship, SponsorshipState, SponsorshipStore
from agentnexus.rails.evm.rpc import Rpc
from agentnexus.rails.evm.signer import EvmSigner, require_network
from agentnexus.rails.evm.userops.build import with_gas
from agentnexus.rails.evm.userops.bundler import GasEstimate
from agentnexus.rails.evm.userops.estimate import estimate_gas
from agentnexus.rails.evm.userops.model import UserOperation
from agentnexus.rails.evm.userops.signers import ECDSA_KIND
from agentnexus.rails.evm.userops.sponsors import (
    SPONSORED_VERIFICATION_GAS,
    TOKEN_POST_OP_GAS,
    TOKEN_VERIFICATION_GAS,
)

_T = TypeVar("_T")
WINDOW_SECONDS = 150  # a signature lives for one to two of these
OPEN_PER_NONCE_MAX = 3
# Of what was handed out: how much one user may leave unsigned, and which part of their day all newcomers may.
UNSIGNED_PER_USER_MAX = 5
UNSIGNED_PART = 2
PAYMASTER_GAS_MAX = 250_000
# A stub never has more zero bytes than the real signature, or it would seem cheaper than that (ERC-7677).
STUB_SIGNATURE = b"\x55" * 64 + b"\x1c"
# What an operation offers may be this much over what the network wants: the rest would be a present to its bundler.
_FEE_FACTOR = 2
# ERC-4337's validation data: who vouches for the operation, in the low 160 bits; 1 is nobody.
_AUTHORIZER, _REFUSED = (1 << 160) - 1, 1


@dataclass(frozen=True, slots=True)
class Chain:
    """Where and as whom: `paymaster` is the contract, `signer` the key it obeys; `factory` makes our accounts."""

    rpc: Rpc
    network: Network
    paymaster: str
    signer: EvmSigner
    factory: str


class Giving(StrEnum):
    """Who can use the signature of ours before the account's owner has signed, and so when gas is promised."""

    LATER = auto()  # nobody: the caller keeps it to himself until `confirm`, and nothing is promised before
    OPEN = auto()  # whoever asked: promised at once, and bounded, since perhaps nobody ever signs
    NOW = auto()  # the caller signs for the account himself, at once


class PaymasterService:
    """Sponsors operations on one chain. Any number of processes may run one with the same key and database.

    Args:
        policies: in the order they are tried.
        name: told to wallets as who pays.
        paid: whether a user ever paid for something here; who did not is a newcomer to policies that tell them apart.
    """

    def __init__(
        self,
        database: Database,
        books: Books,
        chain: Chain,
        policies: Sequence[SponsorPolicy],
        *,
        clock: Clock,
        name: str = "AgentNexus",
        paid: Callable[[str], Awaitable[bool]] | None = None,
    ) -> None:
        require_network(chain.signer, chain.network)
        self.chain = replace(chain, paymaster=address(chain.paymaster, field="paymaster"))
        self.name = name
        self.policies = tuple(policies)
        self.accounts = GasAccounts(books, chain.network, self.chain.paymaster)
        self._books = books
        self._store = SponsorshipStore(database, chain.network.caip2, self.chain.paymaster)
        self._clock = clock
        self._fees = FeeOracle(chain.rpc, chain.network, clock, FeeLimits())
        self._paid = paid
        self._known_to_pay: set[str] = set()
        self._budgets: dict[tuple[str, str, bool], str] = {}

    def check_target(self, entry_point: str, chain_id: int) -> None:
        """Raises `InvalidInput` for another EntryPoint or chain than ours."""
        if chain_id != self.chain.network.chain_id:
            raise InvalidInput(
                f"gas is paid on chain {self.chain.network.chain_id}, not on {chain_id}",
                field="chainId",
                next_step=f"ask for {self.chain.network.caip2}",
            )
        if address(entry_point, field="entryPoint") != ENTRY_POINT:
            raise InvalidInput(
                "only EntryPoint v0.8 is served", field="entryPoint", next_step=f"use an account of {ENTRY_POINT}"
            )

    def stub(self, user_id: str, operation: UserOperation, policy_id: str = "") -> UserOperation:
        """The operation with what stands for our part while gas is estimated. Nothing is promised by that.

        Raises `NotSponsored` when no policy would pay.
        """
        policy = choose(self.policies, user_id, operation, account_calls(operation), policy_id)
        return self._offer(operation, policy, self._valid_until() | 0xFFFF, STUB_SIGNATURE)

    async def estimated(self, user_id: str, operation: UserOperation, policy_id: str = "") -> UserOperation:
        """The operation with gas limits and fees where it has none. Raises `ContractRefused` when it would fail."""
        stubbed = self.stub(user_id, operation, policy_id)
        if not stubbed.max_fee_per_gas:
            fees = await self._fees.current()
            stubbed = replace(stubbed, max_fee_per_gas=fees.maximum, max_priority_fee_per_gas=fees.priority)
        if not stubbed.call_gas_limit:
            stubbed = with_gas(stubbed, await self._estimate(stubbed))
        return stubbed

    async def sponsor(
        self, user_id: str, operation: UserOperation, policy_id: str = "", giving: Giving = Giving.OPEN
    ) -> UserOperation:
        """The operation with our signature, which pays whatever it costs up to its own limits.

        Raises `NotSponsored`, `BudgetExceeded`, `InsufficientFunds` (our deposit), `ContractRefused` (it would fail),
        `Conflict` (it was used), `RateLimited` (too many for one nonce, or unsigned), `InvalidInput`, `Unavailable`.
        """
        status = "offered" if giving is Giving.LATER else "promised"
        return await self._counted(status, self._sponsored(user_id, operation, policy_id, giving))

    async def confirm(self, user_id: str, user_operation_hash: str) -> None:
        """Its owner has signed: promise what was offered, count what was handed out as signed.

        Raises `Conflict` when it is over, `BudgetExceeded` and `InsufficientFunds` as `sponsor` does: the same may be
        asked again while the offer is good.
        """
        known = await self._known(user_operation_hash, user_id)
        if known is None:
            raise NotFound("nobody offered to pay for this operation", next_step="build it again")
        if known.state is SponsorshipState.SIGNED and not known.unsigned:
            return
        policy = next((each for each in self.policies if each.id == known.policy), None)
        if policy is None:
            raise NotSponsored(f"policy {known.policy} has ended", next_step="build the operation again")
        taken = await self._store.take(user_operation_hash, unsigned=False)
        if taken is None:
            raise _ended()
        if taken.state is not SponsorshipState.SIGNED:
            await self._counted("promised", self._reserve(taken, policy))

    async def drop(self, user_operation_hash: str) -> bool:
        """Nobody will sign it. True when nothing was promised; what was handed out holds until its time is over."""
        return await self._store.drop(user_operation_hash, self._clock.now())

    async def _counted(self, status: str, work: Awaitable[_T]) -> _T:
        counted = sponsorships_total.labels
        try:
            done = await work
        except NexusError as error:
            counted(self.chain.network.caip2, str(error.code)).inc()
            raise
        counted(self.chain.network.caip2, status).inc()
        return done

    async def _sponsored(self, user_id: str, operation: UserOperation, policy_id: str, giving: Giving) -> UserOperation:
        calls = account_calls(operation)
        policy = choose(self.policies, user_id, operation, calls, policy_id)
        promised = await self._signed(operation, policy)
        choose([policy], user_id, promised, calls)  # with our own part of its gas
        user_operation_hash = to_hex(promised.hash(self.chain.network.chain_id))
        known = await self._known(user_operation_hash, user_id)
        if known is not None and known.state is SponsorshipState.SIGNED:
            return promised
        await self._check_sender(promised, policy)
        await self._check_worth(promised)
        if policy.paid_in is not None:
            await self._check_payment(promised, policy.paid_in)
        await self._check_nonce(promised, user_operation_hash)
        sponsorship = Sponsorship(
            user_operation_hash=user_operation_hash,
            sender=promised.sender,
            nonce=promised.nonce,
            user_id=user_id,
            policy=policy.id,
            maximum_cost=promised.max_cost_wei,
            valid_until=datetime.fromtimestamp(self._valid_until(), UTC),
            paymaster_data=promised.paymaster_data,
            state=SponsorshipState.OFFERED if giving is Giving.LATER else SponsorshipState.RESERVING,
            unsigned=giving is Giving.OPEN,
            newcomer=await self._is_newcomer(user_id),
        )
        await self._promise(sponsorship, policy, giving)
        return promised

    async def _promise(self, sponsorship: Sponsorship, policy: SponsorPolicy, giving: Giving) -> None:
        """Offer it, or reserve what it can cost."""
        if giving is Giving.LATER:
            await self._require_left(sponsorship, policy)

        def fits(of_user: int, of_newcomers: int) -> None:
            self._check_unsigned(sponsorship, policy, of_user, of_newcomers)

        bound = fits if giving is Giving.OPEN else None
        kept = await self._store.keep(sponsorship, self._clock.now(), bound)
        _require_owner(kept, sponsorship.user_id)
        if giving is Giving.LATER:
            return
        if kept.state is SponsorshipState.OFFERED:  # kept to ourselves until now
            taken = await self._store.take(kept.user_operation_hash, unsigned=sponsorship.unsigned)
            if taken is None:
                raise _ended()
        await self._reserve(kept, policy)

    def _check_unsigned(self, sponsorship: Sponsorship, policy: SponsorPolicy, of_user: int, of_newcomers: int) -> None:
        """Handing out costs who asks nothing, and holds what others could use: raises `RateLimited` when it is much."""
        if of_user >= UNSIGNED_PER_USER_MAX:
            raise RateLimited(
                f"{UNSIGNED_PER_USER_MAX} operations of yours are sponsored and wait to be signed and sent",
                next_step="send one of them, or wait until they expire",
                retry_after_seconds=2 * WINDOW_SECONDS,
            )
        coin = self.accounts.coin
        per_day = (policy.newcomers_limits(coin) or policy.limits(coin)).per_day
        if not sponsorship.newcomer or per_day is None:
            return
        if (of_newcomers + sponsorship.maximum_cost) * UNSIGNED_PART > per_day.atomic:
            raise RateLimited(
                "too much gas is promised for operations of newcomers that nobody has signed",
                next_step="try again in some minutes, use a wallet with a passkey, or let the account pay its gas",
                retry_after_seconds=2 * WINDOW_SECONDS,
            )

    async def _require_left(self, sponsorship: Sponsorship, policy: SponsorPolicy) -> None:
        """An offer reserves nothing; but nobody is asked to sign what could not be promised now."""
        await self._budget(policy, sponsorship)
        asked = self.accounts.money(sponsorship.maximum_cost)
        ids = self.accounts.budget_ids(policy, sponsorship.user_id, newcomer=sponsorship.newcomer)
        for budget_id in ids.values():
            status = await self._books.budgets.status(budget_id)
            most = {} if status.limits.per_payment is None else {"per_payment": status.limits.per_payment}
            for name, left in {**most, **status.left}.items():
                if left < asked:
                    raise Rejection(budget_id, name, left, asked).to_error()
        held = (await self._books.balance(self.accounts.deposit, self.accounts.coin)).available
        if held < asked:
            raise InsufficientFunds(
                "the paymaster's deposit does not cover this", next_step="try again when it is filled"
            )

    async def _is_newcomer(self, user_id: str) -> bool:
        """Whoever paid once is none for ever."""
        if user_id in self._known_to_pay:
            return False
        if self._paid is None or not await self._paid(user_id):
            return True
        self._known_to_pay.add(user_id)
        return False

    async def describe(self, user_id: str) -> dict[str, object]:
        """What is paid for and what is left of it for this user, for people and programs; not for whom else."""
        policies, newcomer = [], await self._is_newcomer(user_id)
        for policy in self.policies:
            ids = self.accounts.budget_ids(policy, user_id, newcomer=newcomer)
            left = {whose: await self._left(budget_id) for whose, budget_id in ids.items()}
            policies.append({**policy.model_dump(mode="json", exclude={"users", "senders"}), "left": left})
        return {
            "sponsor": self.name,
            "network": self.chain.network.caip2,
            "entry_point": ENTRY_POINT,
            "paymaster": self.chain.paymaster,
            "coin": self.chain.network.native_symbol,
            "valid_seconds": [WINDOW_SECONDS, 2 * WINDOW_SECONDS],
            "policies": policies,
        }

    async def _left(self, budget_id: str) -> dict[str, str] | None:
        """Decimal text by limit; None before the first operation, when all of it is left."""
        try:
            status = await self._books.budgets.status(budget_id)
        except NotFound:
            return None
        return {name: f"{money.decimal:f}" for name, money in status.left.items()}

    def _valid_until(self) -> int:
        return (int(self._clock.now().timestamp()) // WINDOW_SECONDS + 2) * WINDOW_SECONDS

    def _offer(
        self, operation: UserOperation, policy: SponsorPolicy, valid_until: int, signature: bytes
    ) -> UserOperation:
        """With our part of it."""
        verification, post_op = (SPONSORED_VERIFICATION_GAS, 0)
        if policy.paid_in is not None:
            verification, post_op = TOKEN_VERIFICATION_GAS, TOKEN_POST_OP_GAS
        return replace(
            operation,
            paymaster=self.chain.paymaster,
            paymaster_verification_gas_limit=operation.paymaster_verification_gas_limit or verification,
            paymaster_post_op_gas_limit=operation.paymaster_post_op_gas_limit or post_op,
            paymaster_data=_terms(policy, valid_until).data(signature),
        )

    async def _signed(self, operation: UserOperation, policy: SponsorPolicy) -> UserOperation:
        """With our signature of this window, which is the same for the same operation."""
        if operation.paymaster_verification_gas_limit + operation.paymaster_post_op_gas_limit > PAYMASTER_GAS_MAX:
            raise NotSponsored(
                f"the paymaster's own gas limits are over {PAYMASTER_GAS_MAX}",
                next_step="take the limits that pm_getPaymasterStubData gives",
            )
        until = self._valid_until()
        offered, terms = self._offer(operation, policy, until, STUB_SIGNATURE), _terms(policy, until)
        digest = terms.digest(offered.pack(), self.chain.network.chain_id, self.chain.paymaster)
        return replace(offered, paymaster_data=terms.data(await self.chain.signer.sign(digest)))

    async def _known(self, user_operation_hash: str, user_id: str) -> Sponsorship | None:
        async with self._store.database.connection() as connection:
            known = await self._store.find(connection, user_operation_hash)
        if known is not None:
            _require_owner(known, user_id)
        return known

    async def _check_sender(self, operation: UserOperation, policy: SponsorPolicy) -> None:
        """Rules read calldata as our accounts do, so the code that runs it must be theirs; a simulation proves nothing.

        Accounts that this operation makes are their factory's, and delegations are the policy's.
        """
        if operation.factory is not None or operation.delegation is not None:
            return
        code = await self.chain.rpc.call("eth_getCode", operation.sender, self.chain.network.trial_block)
        require_account(
            operation.sender,
            from_hex(code, field="eth_getCode"),
            implementation_of(self.chain.factory),
            policy.delegates,
        )

    async def _check_worth(self, operation: UserOperation) -> None:
        """Only what will succeed, at the network's price."""
        if not operation.max_cost_wei or not operation.call_gas_limit or not operation.verification_gas_limit:
            raise InvalidInput(
                "gas limits and fees must be final before the operation is signed for",
                field="callGasLimit",
                next_step="estimate with the stub data first, or call pm_sponsorUserOperation",
            )
        fees = await self._fees.current()
        most, tip = _FEE_FACTOR * fees.maximum, _FEE_FACTOR * fees.priority
        if operation.max_fee_per_gas > most or operation.max_priority_fee_per_gas > max(tip, 1):
            raise NotSponsored(
                "the operation offers more for gas than the network asks",
                next_step=f"offer at most {most} wei, {max(tip, 1)} of it as a tip",
                field="maxFeePerGas",
            )
        await self._estimate(operation)

    async def _check_payment(self, operation: UserOperation, price: TokenPrice) -> None:
        """The paymaster itself says whether it would get its tokens: it refuses an operation without reverting."""
        network, paymaster = self.chain.network, Paymaster(self.chain.rpc, self.chain.paymaster)
        terms = (operation.pack().value(), operation.hash(network.chain_id), operation.max_cost_wei)
        call = paymaster.call("validatePaymasterUserOp", *terms)
        answer = await paymaster.try_call(call, ENTRY_POINT, block=network.trial_block)
        _, validation = paymaster.abi.decode("validatePaymasterUserOp", answer)
        if as_int(validation) & _AUTHORIZER == _REFUSED:
            most = price.most(operation)
            raise NotSponsored(
                f"the account cannot pay its gas in {price.token}",
                next_step=f"have it hold {most} atomic units and approve them to {self.chain.paymaster} first",
                token=price.token,
                amount=str(most),
            )

    async def _estimate(self, operation: UserOperation) -> GasEstimate:
        """Raises `ContractRefused` when making the account or its calls would fail."""
        signature = operation.signature or ECDSA_KIND + DUMMY_SIGNATURE
        trial = replace(operation, signature=signature)
        network = self.chain.network
        return await estimate_gas(self.chain.rpc, trial, network.chain_id, block=network.trial_block)

    async def _check_nonce(self, operation: UserOperation, user_operation_hash: str) -> None:
        """The chain takes one operation of a nonce, so a few promises for it are harmless, and many are a mistake."""
        async with self._store.database.connection() as connection:
            others = await self._store.of_nonce(connection, operation.sender, operation.nonce)
        if len([each for each in others if each.user_operation_hash != user_operation_hash]) >= OPEN_PER_NONCE_MAX:
            raise RateLimited(
                f"{OPEN_PER_NONCE_MAX} operations of this nonce are sponsored already",
                next_step="send one of them, or wait until they expire",
                retry_after_seconds=2 * WINDOW_SECONDS,
            )

    async def _reserve(self, sponsorship: Sponsorship, policy: SponsorPolicy) -> None:
        reservation = await self._books.reserve(
            self.accounts.key(sponsorship.user_operation_hash),
            budget_id=await self._budget(policy, sponsorship),
            payer_account=self.accounts.deposit,
            payee_account=self.accounts.gas,
            amount=self.accounts.money(sponsorship.maximum_cost),
            task=policy.id,
            rail="paymaster",
            expires_at=sponsorship.valid_until,
            correlation=sponsorship.user_operation_hash,
        )
        given = await self._store.give(sponsorship.user_operation_hash)
        if given and reservation.state is ReservationState.PENDING:
            return
        if reservation.state is ReservationState.PENDING:
            await self._books.void(reservation.key, "released before it was given")
        raise _ended()

    async def _budget(self, policy: SponsorPolicy, sponsorship: Sponsorship) -> str:
        user_id, newcomer = sponsorship.user_id, sponsorship.newcomer
        known = self._budgets.get((policy.id, user_id, newcomer))
        if known is None:
            known = await self.accounts.budget(policy, user_id, newcomer=newcomer)
            self._budgets[policy.id, user_id, newcomer] = known
        return known


def _ended() -> Conflict:
    return Conflict("the promise for this operation has ended", next_step="build the operation again and ask anew")


def _terms(policy: SponsorPolicy, valid_until: int) -> Policy:
    """What the contract is told."""
    if policy.paid_in is None:
        return Policy(valid_until)
    return Policy(valid_until, token=policy.paid_in.token, token_per_native=policy.paid_in.per_native)


def _require_owner(sponsorship: Sponsorship, user_id: str) -> None:
    """Whoever asked first has it; and what was used or released is not promised twice."""
    if sponsorship.user_id != user_id:
        raise Conflict(
            "this operation is sponsored for somebody else", next_step="wait some minutes, or use another nonce"
        )
    if sponsorship.state in (SponsorshipState.USED, SponsorshipState.RELEASED):
        raise Conflict(
            f"this operation was {sponsorship.state} already",
            next_step="read the account's nonce again and build the operation anew",
        )


@dataclass(frozen=True, slots=True)
class UserSponsor:
    """The service as one user's `Sponsor`, for operations that are built in this process."""

    service: PaymasterService
    user_id: str
    policy_id: str = ""
    giving: Giving = Giving.OPEN

    async def stub(self, operation: UserOperation) -> UserOperation:
        return self.service.stub(self.user_id, operation, self.policy_id)

    async def final(self, operation: UserOperation) -> UserOperation:
        return await self.service.sponsor(self.user_id, operation, self.policy_id, self.giving)
