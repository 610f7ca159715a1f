"""The `exact` scheme on Solana: a partly signed transaction, read strictly and compared with what is asked. No I/O.

The facilitator puts its own signature under what a stranger wrote, so what is not expressly allowed here is refused.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass

from solders.instruction import CompiledInstruction
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.transaction import SanitizeError, VersionedTransaction
from x402.schemas import PaymentRequirements

from agentnexus.core.errors import InvalidInput
from agentnexus.markets.x402.codes import Reason
from agentnexus.markets.x402.wire import Presented, WireError
from agentnexus.rails.solana.exact import (
    MAX_COMPUTE_UNIT_PRICE,
    MAX_MEMO_BYTES,
    MAX_TRANSACTION_BYTES,
    message_hash,
    network_fee_lamports,
    signed_bytes,
)
from agentnexus.rails.solana.programs import (
    COMPUTE_BUDGET_PROGRAM,
    MEMO_PROGRAM,
    TOKEN_PROGRAMS,
    associated_address,
    public_key,
)

LIGHTHOUSE_PROGRAM = Pubkey.from_string("L2TExMFKdjpN9kozasaurPirfHy9P8sbXoAN1qA3S95")
SET_COMPUTE_UNIT_LIMIT = 2
SET_COMPUTE_UNIT_PRICE = 3
TRANSFER_CHECKED = 12
FEWEST_INSTRUCTIONS, MOST_INSTRUCTIONS = 3, 6
SIGNERS = 2  # the fee payer and the payer; every further one is paid for by the facilitator
OPTIONAL_REASONS = (Reason.SVM_UNKNOWN_FOURTH, Reason.SVM_UNKNOWN_FIFTH, Reason.SVM_UNKNOWN_SIXTH)


@dataclass(frozen=True, slots=True)
class SignedTransfer:
    """A transaction in the scheme's layout. Addresses are the transaction's own, not yet compared with anything."""

    transaction: VersionedTransaction
    message: MessageV0
    fee_payer: Pubkey
    payer: Pubkey  # who signs for the tokens
    source: Pubkey
    mint: Pubkey
    destination: Pubkey
    token_program: Pubkey
    amount: int
    decimals: int
    unit_limit: int
    unit_price: int
    memos: tuple[bytes, ...]
    mentioned: frozenset[Pubkey]  # every account that any instruction is given

    @property
    def hash(self) -> str:
        """Hex SHA-256 of what is signed."""
        return message_hash(self.message)

    @property
    def fee_lamports(self) -> int:
        """The most that the network charges the fee payer."""
        return network_fee_lamports(SIGNERS, self.unit_limit, self.unit_price)

    def pays(self, payee: Pubkey) -> bool:
        """Whether the tokens go to the payee's associated account."""
        return self.destination == associated_address(payee, self.mint, self.token_program)

    def signed_by_payer(self) -> bool:
        """Whether the payer's signature is good."""
        return self.transaction.signatures[1].verify(self.payer, signed_bytes(self.message))


def _refuse(reason: Reason, message: str) -> WireError:
    return WireError(message, reason=reason, part="payload.transaction")


def read_transfer(presented: Presented) -> SignedTransfer:
    """The transfer in an exact/SVM payload; raises `WireError` with the scheme's reason for any other layout."""
    return parse_transfer(presented.scheme_payload.get("transaction"))


def parse_transfer(text: object) -> SignedTransfer:
    """The transfer in a base64 transaction; raises `WireError`."""
    transaction, message = _decode(text)
    keys, instructions = message.account_keys, message.instructions
    if not FEWEST_INSTRUCTIONS <= len(instructions) <= MOST_INSTRUCTIONS:
        raise _refuse(Reason.SVM_INSTRUCTION_COUNT, f"{len(instructions)} instructions, not 3 to 6")
    unit_limit = _compute_budget(keys, instructions[0], SET_COMPUTE_UNIT_LIMIT, 4, Reason.SVM_COMPUTE_LIMIT)
    unit_price = _compute_budget(keys, instructions[1], SET_COMPUTE_UNIT_PRICE, 8, Reason.SVM_COMPUTE_PRICE)
    if unit_price > MAX_COMPUTE_UNIT_PRICE:
        raise _refuse(Reason.SVM_COMPUTE_PRICE_TOO_HIGH, f"{unit_price} micro-lamports per compute unit are too many")
    transfer = instructions[2]
    program, data = keys[transfer.program_id_index], bytes(transfer.data)
    accounts = [keys[index] for index in bytes(transfer.accounts)]
    known = program in TOKEN_PROGRAMS
    # Exactly four accounts: more would be the signers of a multisig or the accounts of a transfer hook.
    if not known or len(data) != 10 or data[0] != TRANSFER_CHECKED or len(accounts) != 4:
        raise _refuse(Reason.SVM_NO_TRANSFER, "the third instruction is not a plain TransferChecked")
    source, mint, destination, payer = accounts
    if not message.is_signer(keys.index(payer)) or keys.index(payer) != 1:
        raise _refuse(Reason.SVM_DECODE_FAILED, "the transaction is not signed by the fee payer and the payer alone")
    return SignedTransfer(
        transaction=transaction,
        message=message,
        fee_payer=keys[0],
        payer=payer,
        source=source,
        mint=mint,
        destination=destination,
        token_program=program,
        amount=int.from_bytes(data[1:9], "little"),
        decimals=data[9],
        unit_limit=unit_limit,
        unit_price=unit_price,
        memos=_optional(keys, instructions[3:]),
        mentioned=frozenset(keys[index] for each in instructions for index in bytes(each.accounts)),
    )


def _decode(text: object) -> tuple[VersionedTransaction, MessageV0]:
    if not isinstance(text, str) or len(text) > MAX_TRANSACTION_BYTES * 4 // 3 + 4:
        raise _refuse(Reason.SVM_DECODE_FAILED, "payload.transaction is not the base64 of one packet")
    try:
        data = base64.b64decode(text, validate=True)
        transaction = VersionedTransaction.from_bytes(data)
        transaction.sanitize()
    except (binascii.Error, ValueError, SanitizeError) as error:
        raise _refuse(Reason.SVM_DECODE_FAILED, f"not a transaction: {error}") from error
    message = transaction.message
    if not isinstance(message, MessageV0) or message.address_table_lookups:
        # Accounts from a table are not in the transaction: what it does could not be read here.
        raise _refuse(Reason.SVM_DECODE_FAILED, "only version 0 transactions without look-up tables are taken")
    if bytes(transaction) != data or len(data) > MAX_TRANSACTION_BYTES:
        raise _refuse(Reason.SVM_DECODE_FAILED, "the transaction has another encoding of itself, or is too long")
    keys = message.account_keys
    if len(set(keys)) != len(keys) or message.header.num_required_signatures != SIGNERS:
        raise _refuse(Reason.SVM_DECODE_FAILED, "exactly two signers are taken: the fee payer and the payer")
    return transaction, message


def _compute_budget(
    keys: Sequence[Pubkey], instruction: CompiledInstruction, kind: int, width: int, reason: Reason
) -> int:
    data = bytes(instruction.data)
    right = keys[instruction.program_id_index] == COMPUTE_BUDGET_PROGRAM and not bytes(instruction.accounts)
    if not right or len(data) != 1 + width or data[0] != kind:
        raise _refuse(reason, "the compute budget is not set as the scheme says")
    return int.from_bytes(data[1:], "little")


def _optional(keys: Sequence[Pubkey], instructions: Sequence[CompiledInstruction]) -> tuple[bytes, ...]:
    """The memos; raises for an instruction of any program but Memo and Lighthouse."""
    memos: list[bytes] = []
    for reason, instruction in zip(OPTIONAL_REASONS, instructions, strict=False):
        program = keys[instruction.program_id_index]
        if program == MEMO_PROGRAM:
            memos.append(bytes(instruction.data))
        elif program != LIGHTHOUSE_PROGRAM:
            raise _refuse(reason, f"an instruction of {program} is not part of a payment")
    return tuple(memos)


def payment_id(signed: SignedTransfer, network: str) -> str:
    """What can be spent only once: the network remembers it as long as its blockhash lives, we longer."""
    return f"{network}:{signed.hash}"


def requirement_for(presented: Presented, candidates: Sequence[PaymentRequirements]) -> PaymentRequirements | None:
    """The seller's own requirement that the payment claims to meet; `candidates` are of its scheme and network."""
    accepted = presented.accepted
    if accepted is None:
        # v1 does not say which entry was chosen: the transaction tells.
        signed = read_transfer(presented)
        meant = [asked for asked in candidates if _pays(signed, asked) and str(signed.amount) == asked.amount]
        return next(iter(meant or candidates), None)
    terms = (accepted.asset, accepted.amount, accepted.pay_to)
    return next((asked for asked in candidates if (asked.asset, asked.amount, asked.pay_to) == terms), None)


def _pays(signed: SignedTransfer, asked: PaymentRequirements) -> bool:
    return str(signed.mint) == asked.asset and signed.pays(public_key(asked.pay_to, field="payTo"))


def check_terms(
    presented: Presented, signed: SignedTransfer, requirement: PaymentRequirements, sponsors: Sequence[Pubkey]
) -> Reason | None:
    """The first reason why the transaction does not meet the requirement, or would cost a sponsor more than the fee.

    Args:
        sponsors: every fee payer of this facilitator; none of them may be in any instruction.
    """
    fee_payer, payee, mint = _addresses(requirement)
    named = (requirement.extra or {}).get("feePayer")
    own_accounts = {associated_address(sponsor, signed.mint, signed.token_program) for sponsor in sponsors}
    amount = int(requirement.amount)
    checks = (
        (presented.scheme != "exact" or requirement.scheme != "exact", Reason.UNSUPPORTED_SCHEME),
        (presented.network != requirement.network, Reason.NETWORK_MISMATCH),
        (named is None, Reason.SVM_FEE_PAYER_MISSING),
        (payee is None or mint is None or fee_payer is None, Reason.INVALID_REQUIREMENTS),
        (fee_payer not in sponsors or signed.fee_payer != fee_payer, Reason.SVM_FEE_PAYER_NOT_MANAGED),
        (signed.payer in sponsors or signed.source in own_accounts, Reason.SVM_FEE_PAYER_TRANSFERRING),
        (not signed.mentioned.isdisjoint(sponsors), Reason.SVM_FEE_PAYER_IN_ACCOUNTS),
        (signed.mint != mint, Reason.SVM_MINT_MISMATCH),
        (payee is None or not signed.pays(payee), Reason.SVM_RECIPIENT_MISMATCH),
        (signed.source == signed.destination, Reason.SVM_RECIPIENT_MISMATCH),
        (signed.amount < amount, Reason.SVM_AMOUNT_INSUFFICIENT),
        (signed.amount > amount, Reason.SVM_AMOUNT_MISMATCH),
    )
    return next((reason for failed, reason in checks if failed), None) or _check_memo(signed, requirement)


def _addresses(requirement: PaymentRequirements) -> tuple[Pubkey | None, Pubkey | None, Pubkey | None]:
    """Fee payer, payee and mint; None for what is not an address."""

    def read(value: object) -> Pubkey | None:
        try:
            return public_key(value, field="requirement") if isinstance(value, str) else None
        except InvalidInput:
            return None

    return read((requirement.extra or {}).get("feePayer")), read(requirement.pay_to), read(requirement.asset)


def _check_memo(signed: SignedTransfer, requirement: PaymentRequirements) -> Reason | None:
    asked = (requirement.extra or {}).get("memo")
    if not isinstance(asked, str) or not asked:
        return None
    wanted = asked.encode()
    if len(wanted) > MAX_MEMO_BYTES:
        return Reason.INVALID_REQUIREMENTS
    if len(signed.memos) != 1:
        return Reason.SVM_MEMO_COUNT
    return None if signed.memos[0] == wanted else Reason.SVM_MEMO_MISMATCH
