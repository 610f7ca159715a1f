"""Our contracts as Python: typed clients over their committed ABI; every one takes a node and an address."""

from agentnexus.rails.evm.contracts.account import Account, AccountFactory, AccountPlan, Owner
from agentnexus.rails.evm.contracts.contract import Call, Contract
from agentnexus.rails.evm.contracts.entitlements import AgentClass, Entitlements, Voucher, epoch_id
from agentnexus.rails.evm.contracts.entry_point import EntryPoint, PackedOperation
from agentnexus.rails.evm.contracts.escrow import Deal, DealStatus, DealTerms, Escrow
from agentnexus.rails.evm.contracts.paymaster import Paymaster, Policy
from agentnexus.rails.evm.contracts.refusals import ContractRefused, refusal
from agentnexus.rails.evm.contracts.sessions import Grant, Limit, Permission

__all__ = [
    "Account",
    "AccountFactory",
    "AccountPlan",
    "AgentClass",
    "Call",
    "Contract",
    "ContractRefused",
    "Deal",
    "DealStatus",
    "DealTerms",
    "Entitlements",
    "EntryPoint",
    "Escrow",
    "Grant",
    "Limit",
    "Owner",
    "PackedOperation",
    "Paymaster",
    "Permission",
    "Policy",
    "Voucher",
    "epoch_id",
    "refusal",
]
