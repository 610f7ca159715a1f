"""Reasons an x402 payment is refused: the words of the protocol and of the official SDK, so any peer understands us."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Stable on the wire; clients branch on them."""

    ASSET_NOT_A_CONTRACT = "asset_not_deployed_contract"
    AUTHORIZATION_EXPIRED = "invalid_exact_evm_payload_authorization_valid_before"
    AUTHORIZATION_NOT_YET_VALID = "invalid_exact_evm_payload_authorization_valid_after"
    AUTHORIZATION_VALUE = "invalid_exact_evm_payload_authorization_value_mismatch"
    EIP3009_NOT_SUPPORTED = "invalid_exact_evm_eip3009_not_supported"
    FEE_CAP_EXCEEDED = "sponsored_fee_cap_exceeded"
    INSUFFICIENT_BALANCE = "invalid_exact_evm_insufficient_balance"
    INVALID_NETWORK = "invalid_network"
    INVALID_PAYLOAD = "invalid_payload"
    INVALID_REQUIREMENTS = "invalid_payment_requirements"
    INVALID_SCHEME = "invalid_scheme"
    INVALID_SIGNATURE = "invalid_exact_evm_payload_signature"
    INVALID_STATE = "invalid_transaction_state"
    INVALID_VERSION = "invalid_x402_version"
    MISSING_DOMAIN = "missing_eip712_domain"
    NETWORK_MISMATCH = "network_mismatch"
    NONCE_USED = "invalid_exact_evm_nonce_already_used"
    RECIPIENT_MISMATCH = "invalid_exact_evm_payload_recipient_mismatch"
    SETTLEMENT_PENDING = "settlement_pending"
    SIMULATION_FAILED = "invalid_exact_evm_transaction_simulation_failed"
    TOKEN_NAME_MISMATCH = "invalid_exact_evm_token_name_mismatch"  # noqa: S105 - a reason, not a secret
    TOKEN_VERSION_MISMATCH = "invalid_exact_evm_token_version_mismatch"  # noqa: S105 - a reason, not a secret
    TRANSACTION_FAILED = "transaction_failed"
    TRANSFER_EVENT_MISMATCH = "invalid_exact_evm_transfer_event_mismatch"
    UNDEPLOYED_WALLET = "invalid_exact_evm_payload_undeployed_smart_wallet"
    UNEXPECTED_SETTLE = "unexpected_settle_error"
    UNEXPECTED_VERIFY = "unexpected_verify_error"
    UNSUPPORTED_SCHEME = "unsupported_scheme"
