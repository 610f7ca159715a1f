"""User operations of ERC-4337 v0.8: model, hash, building, signing, and bundlers that bring them on chain."""

from agentnexus.rails.evm.contracts.contract import Call
from agentnexus.rails.evm.userops.build import Sender, build
from agentnexus.rails.evm.userops.bundler import Bundler, GasEstimate, UserOperationReceipt
from agentnexus.rails.evm.userops.model import UserOperation
from agentnexus.rails.evm.userops.passkeys import Assertion, P256Signer, PasskeySigner, passkey_owner
from agentnexus.rails.evm.userops.rpc_bundler import Flavour, RpcBundler
from agentnexus.rails.evm.userops.self_bundler import SelfBundler
from agentnexus.rails.evm.userops.signers import OperationSigner, OwnerSigner, SessionSigner
from agentnexus.rails.evm.userops.sponsors import ServiceSponsor, SigningSponsor, Sponsor

__all__ = [
    "Assertion",
    "Bundler",
    "Call",
    "Flavour",
    "GasEstimate",
    "OperationSigner",
    "OwnerSigner",
    "P256Signer",
    "PasskeySigner",
    "RpcBundler",
    "SelfBundler",
    "Sender",
    "ServiceSponsor",
    "SessionSigner",
    "SigningSponsor",
    "Sponsor",
    "UserOperation",
    "UserOperationReceipt",
    "build",
    "passkey_owner",
]
