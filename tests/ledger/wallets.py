"""Wallets for tests of approvals: two on an EVM chain, one Ed25519, and what they sign."""

from __future__ import annotations

from base64 import b64encode

from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_account.signers.local import LocalAccount

from agentnexus.core.ports import Clock
from agentnexus.ledger.approvers import Approvers
from agentnexus.ledger.books import Books
from agentnexus.ledger.grants import Grants
from agentnexus.ledger.mandates import Constraint, Mandate
from agentnexus.ledger.wallet_signatures import ContractWallets, Document, WalletSignatures, message_text, typed_data
from agentnexus.platform.signing import Ed25519Signer
from tests.ledger.conftest import USDC

NODE = "ed25519:" + "ab" * 32
OWNER: LocalAccount = Account.from_key("0x" + "11" * 32)
OTHER: LocalAccount = Account.from_key("0x" + "22" * 32)
OWNER_ID = f"evm:{OWNER.address.lower()}"
OTHER_ID = f"evm:{OTHER.address.lower()}"
SOLANA = Ed25519Signer.from_seed(b"\x07" * 32)
BUDGET: Constraint = {"type": "payment.budget", "max": "5", "currency": USDC.caip19}


def mandate(clock: Clock, *constraints: Constraint, **fields: object) -> Mandate:
    """An hour for five dollars, unless told otherwise."""
    now = int(clock.now().timestamp())
    given = {
        "jti": "session-1",
        "iss": OWNER_ID,
        "cnf": NODE,
        "constraints": constraints or (BUDGET,),
        "iat": now,
        "exp": now + 3600,
    }
    return Mandate.model_validate(given | fields)


def signed(document: Document, account: LocalAccount = OWNER, network: str = USDC.network) -> str:
    """An EVM wallet's signature."""
    message = encode_typed_data(full_message=typed_data(document, network))
    return "0x" + account.sign_message(message).signature.hex()


async def signed_by_solana(document: Document, signer: Ed25519Signer = SOLANA) -> str:
    """A Solana wallet's signature of the readable message."""
    return b64encode(await signer.sign(message_text(document).encode())).decode()


def grants_of(books: Books, clock: Clock, contracts: ContractWallets | None = None) -> Grants:
    """Grants of a node that spends USDC on the test chain."""
    signatures = WalletSignatures(USDC.network, contracts)
    return Grants(books, clock, USDC, Approvers(books.db, clock, signatures, NODE))
