"""Collecting signed authorisations: check them in one round trip, settle each exactly once.

The doors for an x402 facilitator: `AuthorizationSettler.verify` and `.settle`. A settlement is known by (network,
token, payer, nonce); its signed transaction is stored before it is sent, so a killed process settles the same
transaction after a restart and a repeated call answers with the one that is there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from agentnexus.core.errors import InvalidInput
from agentnexus.core.money import Asset
from agentnexus.rails.evm.eip3009 import Authorization, SignedAuthorization
from agentnexus.rails.evm.encoding import to_hex, uint
from agentnexus.rails.evm.errors import Refusal, Reverted, SettlementRefused
from agentnexus.rails.evm.receipts import Receipt
from agentnexus.rails.evm.rpc import Call, Rpc, RpcValue, call_data, call_int, eth_call
from agentnexus.rails.evm.signer import EvmSigner, recover, require_network
from agentnexus.rails.evm.staging import SettlementStage, Staging
from agentnexus.rails.evm.token import (
    Token,
    authorization_state_call,
    balance_call,
    paid,
    refusal_of,
    transfer_with_authorization_call,
)
from agentnexus.rails.evm.transactions import (
    GAS_MARGIN_DENOMINATOR,
    GAS_MARGIN_NUMERATOR,
    Intent,
    Outgoing,
    OutgoingState,
    TransactionSender,
)

Admit = Callable[["Verified"], Awaitable[None]]
# An authorisation about to expire could be mined too late and cost gas for nothing.
MINIMUM_VALIDITY_SECONDS = 6
# A settle that follows its verify at once need not ask the chain the same again.
_VERIFY_COUNTS_SECONDS = 2.0
_VERIFIED_KEPT = 1024
# Payments of one token differ a little in gas, by the zeros in their signatures: try with a sixteenth more.
_TRIAL_MARGIN = 16
_BALANCE, _STATE, _GAS, _CODE = range(4)


@dataclass(frozen=True, slots=True)
class Requirement:
    """What the payee wants: exactly this value of this token. `name` and `version` as the payee states them."""

    asset: Asset
    payee: str
    value: int
    name: str | None = None
    version: str | None = None


@dataclass(frozen=True, slots=True)
class Verified:
    """A good authorisation: would settle now, with this much gas."""

    payer: str
    gas: int
    call: bytes


@dataclass(frozen=True, slots=True)
class Settlement:
    """Money that moved. `repeated` tells that an earlier call had settled it already."""

    transaction: str
    payer: str
    payee: str
    value: int
    block_number: int
    repeated: bool = False


class AuthorizationSettler:
    """Verifies and settles ERC-3009 authorisations on one network with one relayer key that pays the gas.

    Any number of processes may run one with the same key and database.
    """

    def __init__(self, sender: TransactionSender, relayer: EvmSigner) -> None:
        require_network(relayer, sender.network)
        self.network = sender.network
        self.relayer = relayer
        self._sender = sender
        self._stage = SettlementStage(sender, relayer)
        self._database = sender.database
        self._rpc = sender.rpc
        self._clock = sender.clock
        self._tokens: dict[str, Token] = {}
        self._trial_gas: dict[str, int] = {}
        self._verified: dict[tuple[SignedAuthorization, Requirement], tuple[float, Verified]] = {}

    @property
    def rpc(self) -> Rpc:
        """The node it settles through."""
        return self._rpc

    async def verify(self, signed: SignedAuthorization, requirement: Requirement) -> Verified:
        """Would this settle right now? Raises `SettlementRefused` saying why not, `Unavailable` without a chain."""
        authorization = signed.authorization
        self._check_terms(authorization, requirement)
        token = self._token(requirement.asset)
        try:
            domain = await token.domain(requirement.name, requirement.version)
        except InvalidInput as error:
            raise SettlementRefused(Refusal.NO_SUCH_TOKEN, error.message) from error
        by_key = recover(authorization.digest(domain), signed.signature) == authorization.payer
        data = transfer_with_authorization_call(signed, contract_wallet=not by_key)
        gas = await self._simulate(token, signed, data, by_key=by_key)
        verified = Verified(authorization.payer, gas, data)
        self._remember(signed, requirement, verified)
        return verified

    async def settle(
        self,
        signed: SignedAuthorization,
        requirement: Requirement,
        *,
        timeout_seconds: float = 60.0,
        claim: str = "",
        admit: Admit | None = None,
    ) -> Settlement:
        """Move the money, once however often it is asked.

        Args:
            claim: for whom. Whoever asked first has it; under another claim it is refused (`CLAIMED`).
            admit: called before gas is spent, never for a repeat; what it raises ends the call.

        Raises `SettlementRefused` (nothing moved), `PaymentUnknown` with the transaction when it is sent and not yet
        mined (call again to go on waiting), `Unavailable` or `InsufficientFunds` when it could not be sent.
        """
        authorization = signed.authorization
        self._check_terms(authorization, requirement, settling=True)
        verified = self._recall(signed, requirement)
        while True:
            # What was just verified has not been settled, so most settlements need not ask the books first.
            attempt, known = (0, None) if verified else await self._known(authorization, requirement, claim)
            if known is None or known.state in (OutgoingState.REJECTED, OutgoingState.REVERTED):
                verified = verified or await self._verify_unsettled(signed, requirement, attempt, claim)
                if verified is None:
                    continue
                if admit is not None:
                    await admit(verified)
                intent = Intent(requirement.asset.reference, verified.call, verified.gas)
                staged = await self._stage.store(Staging(authorization, attempt + 1, intent, claim))
                verified = None
                if staged is None:
                    continue  # another process was faster, or this is a second attempt: look it up
                known, repeated = staged, False
            else:
                repeated = True
            receipt = await self._sender.deliver(self.relayer, known, timeout_seconds=timeout_seconds, noted=False)
            return await self._conclude(signed, requirement, receipt, repeated=repeated)

    async def _verify_unsettled(
        self, signed: SignedAuthorization, requirement: Requirement, attempt: int, claim: str
    ) -> Verified | None:
        """Verify, or None when another process has settled it since we looked: then its transaction is the answer."""
        try:
            return await self.verify(signed, requirement)
        except SettlementRefused as refused:
            if refused.refusal is Refusal.NONCE_USED:
                tried, _ = await self._known(signed.authorization, requirement, claim)
                if tried > attempt:
                    return None
            raise

    async def sent(self, signed: SignedAuthorization, requirement: Requirement, transaction: str) -> bool:
        """Whether that transaction is one of ours for this authorisation, however we thought that it had ended."""
        authorization = signed.authorization
        async with self._database.connection() as connection:
            found = await connection.fetchval(
                "select exists(select 1 from evm.settlement s cross join generate_series(1, s.attempt) as number"
                " join evm.outgoing o on o.network = s.network and o.key = $5 || number"
                " where s.network = $1 and s.token = $2 and s.payer = $3 and s.nonce = $4"
                " and $6 = any(o.transactions || o.mined_transaction))",
                self.network.caip2,
                requirement.asset.reference,
                authorization.payer,
                authorization.nonce,
                f"settle:{requirement.asset.reference}:{authorization.payer}:{to_hex(authorization.nonce)}:",
                transaction,
            )
        return bool(found)

    async def recover(self) -> int:
        """Send again what a killed process left behind; returns how many are still not mined."""
        return len(await self._sender.recover(self.relayer))

    def _check_terms(self, authorization: Authorization, requirement: Requirement, *, settling: bool = False) -> None:
        """All that can be told without the chain. A settle may repeat one whose time has passed since."""
        if requirement.asset.network != self.network.caip2:
            raise SettlementRefused(Refusal.WRONG_NETWORK, f"this settles on {self.network.caip2} only")
        if authorization.payee != requirement.payee.lower():
            raise SettlementRefused(Refusal.WRONG_RECIPIENT, "the authorisation pays somebody else")
        if authorization.value != requirement.value:
            raise SettlementRefused(
                Refusal.WRONG_VALUE, f"the authorisation is for {authorization.value}, not {requirement.value}"
            )
        if settling:
            return
        now = int(self._clock.now().timestamp())
        if authorization.valid_before < now + MINIMUM_VALIDITY_SECONDS:
            raise SettlementRefused(Refusal.EXPIRED, "the authorisation has expired or is about to")
        if authorization.valid_after > now:
            raise SettlementRefused(Refusal.NOT_YET_VALID, "the authorisation is not valid yet")

    async def _simulate(self, token: Token, signed: SignedAuthorization, data: bytes, *, by_key: bool) -> int:
        """The gas it needs, with a margin; raises `SettlementRefused` with what speaks against it."""
        transfer: dict[str, RpcValue] = {"from": self.relayer.public_id, "to": token.contract, "data": to_hex(data)}
        # An estimate is a dozen runs. Where earlier ones say what is enough, one run with that much tells the same; a
        # contract wallet may need any amount.
        trial = self._trial_gas.get(token.contract) if by_key else None
        if trial is not None:
            run = Call("eth_call", ({**transfer, "gas": hex(trial)}, self.network.trial_block))
            (answer,) = await self._rpc.batch([run])
            if not isinstance(answer, Exception):
                return trial * GAS_MARGIN_NUMERATOR // GAS_MARGIN_DENOMINATOR
        gas = await self._estimate(token, signed, transfer, by_key=by_key)
        if by_key:
            # The least ever needed, and a little: one costly payment must not raise what all later ones are offered.
            enough = gas + gas // _TRIAL_MARGIN
            self._trial_gas[token.contract] = min(enough, self._trial_gas.get(token.contract, enough))
        return gas * GAS_MARGIN_NUMERATOR // GAS_MARGIN_DENOMINATOR

    async def _estimate(
        self, token: Token, signed: SignedAuthorization, transfer: dict[str, RpcValue], *, by_key: bool
    ) -> int:
        """One round trip: balance, nonce, the transfer, and whether the payer is a contract when no key signed."""
        authorization = signed.authorization
        payer = authorization.payer
        calls = [
            eth_call(token.contract, balance_call(payer)),
            eth_call(token.contract, authorization_state_call(payer, authorization.nonce)),
            Call("eth_estimateGas", (transfer, self.network.trial_block)),
        ]
        if not by_key:
            calls.append(Call("eth_getCode", (payer, "latest")))
        answers = await self._rpc.batch(calls)
        if not by_key and answers[_CODE] == "0x":
            is_key_signature = len(signed.signature) == 65
            refusal = Refusal.BAD_SIGNATURE if is_key_signature else Refusal.UNDEPLOYED_WALLET
            raise SettlementRefused(refusal, "the signature is not the payer's")
        if uint(call_data(answers[_STATE])):
            raise SettlementRefused(Refusal.NONCE_USED, "the authorisation was used or cancelled")
        if uint(call_data(answers[_BALANCE])) < authorization.value:
            raise SettlementRefused(Refusal.INSUFFICIENT_BALANCE, "the payer has too little of the token")
        estimate = answers[_GAS]
        if isinstance(estimate, Reverted):
            raise SettlementRefused(refusal_of(estimate), f"the token refuses the transfer: {estimate.message}")
        return call_int(estimate)

    async def _known(
        self, authorization: Authorization, requirement: Requirement, claim: str
    ) -> tuple[int, Outgoing | None]:
        """How often we tried this authorisation, and the transaction of the last try.

        What was settled before there were claims is anybody's.
        """
        async with self._database.connection() as connection:
            row = await connection.fetchrow(
                "select settlement.attempt, settlement.payee, settlement.value as settled_value,"
                " settlement.claim, outgoing.*"
                " from evm.settlement settlement join evm.outgoing outgoing"
                " on outgoing.network = settlement.network and outgoing.key = settlement.outgoing_key"
                " where settlement.network = $1 and settlement.token = $2 and settlement.payer = $3"
                " and settlement.nonce = $4",
                self.network.caip2,
                requirement.asset.reference,
                authorization.payer,
                authorization.nonce,
            )
        if row is None:
            return 0, None
        outgoing = Outgoing.from_row(row)
        same = (row["payee"], int(row["settled_value"])) == (authorization.payee, authorization.value)
        if not same and outgoing.state in (OutgoingState.SIGNED, OutgoingState.SUCCEEDED):
            raise SettlementRefused(Refusal.NONCE_USED, "another authorisation with this nonce was settled")
        if row["claim"] not in (None, claim):
            raise SettlementRefused(
                Refusal.CLAIMED, "this payment was settled for somebody else", transaction=outgoing.transaction
            )
        return row["attempt"], outgoing

    async def _conclude(
        self, signed: SignedAuthorization, requirement: Requirement, receipt: Receipt, *, repeated: bool
    ) -> Settlement:
        authorization = signed.authorization
        if not receipt.succeeded:
            await self._explain_revert(signed, requirement, receipt)
        moved = paid(
            receipt.logs,
            requirement.asset.reference,
            payer=authorization.payer,
            payee=authorization.payee,
            value=authorization.value,
            nonce=authorization.nonce,
        )
        if not moved:
            raise SettlementRefused(
                Refusal.TRANSFER_MISMATCH,
                "the transaction succeeded without moving the money; the token is not what it says",
                transaction=receipt.transaction,
            )
        return Settlement(
            receipt.transaction,
            authorization.payer,
            authorization.payee,
            authorization.value,
            receipt.block_number,
            repeated,
        )

    async def _explain_revert(self, signed: SignedAuthorization, requirement: Requirement, receipt: Receipt) -> None:
        """The transaction was mined and moved nothing: something changed after the check. Say what, if it shows."""
        refusal, message = Refusal.REVERTED, "the transfer was mined and reverted"
        try:
            await self.verify(signed, requirement)
        except SettlementRefused as reason:
            refusal, message = reason.refusal, f"{message}: {reason.message}"
        raise SettlementRefused(refusal, message, transaction=receipt.transaction)

    def _token(self, asset: Asset) -> Token:
        return self._tokens.setdefault(asset.reference, Token(self._rpc, asset.reference, self.network.chain_id))

    def _remember(self, signed: SignedAuthorization, requirement: Requirement, verified: Verified) -> None:
        while len(self._verified) >= _VERIFIED_KEPT:
            del self._verified[next(iter(self._verified))]
        self._verified[signed, requirement] = (self._clock.monotonic() + _VERIFY_COUNTS_SECONDS, verified)

    def _recall(self, signed: SignedAuthorization, requirement: Requirement) -> Verified | None:
        """Used once: a second try after a failure must look again."""
        until, verified = self._verified.pop((signed, requirement), (0.0, None))
        return verified if self._clock.monotonic() < until else None
