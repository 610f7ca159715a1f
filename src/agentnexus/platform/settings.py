"""All settings in one place, read from the environment (``NEXUS_*``) and checked once at start."""

from __future__ import annotations

from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from agentnexus.core.money import Asset

LOCAL_CHAIN_ID = 31337


class Environment(StrEnum):
    """`local` is the economy on a laptop: development keys and one implicit user are allowed only there."""

    LOCAL = "local"
    PRODUCTION = "production"


class Settings(BaseSettings):
    """Where things are and what is allowed. Every field can be set as ``NEXUS_<NAME>``."""

    model_config = SettingsConfigDict(env_prefix="NEXUS_", extra="ignore", frozen=True)

    environment: Environment = Environment.LOCAL
    home: Path = Path(".nexus")
    database_url: str | None = Field(default=None, validation_alias=AliasChoices("NEXUS_DATABASE_URL", "DATABASE_URL"))
    database_pool_max: int = Field(default=10, ge=1, le=200)
    redis_url: str | None = Field(default=None, validation_alias=AliasChoices("NEXUS_REDIS_URL", "REDIS_URL"))

    evm_rpc_url: str | None = None
    evm_chain_id: int = LOCAL_CHAIN_ID
    usdc_address: str | None = None
    buyer_key: SecretStr | None = None
    relayer_key: SecretStr | None = None
    seller_keys: SecretStr | None = None  # one per built-in agent, comma-separated; the last serves the rest

    solana_rpc_url: str | None = None
    solana_network: str = "solana-devnet"  # or `solana` (mainnet), `solana-testnet`; what the node must show to be
    key_password_file: Path | None = None  # password (0600) of encrypted key files: keystore v3, or ours on Solana
    treasury_keypair: Path | None = None  # Solana keypair file (0600) of the wallet that holds prepaid money
    treasury_fee_keypair: Path | None = None  # pays the network's fees of withdrawals; the treasury itself if not set

    solana_buyer_keypair: Path | None = None  # Solana keypair file (0600) of the wallet that pays sellers there

    # Pays the network's fees of x402 payments that our facilitator settles on Solana; not set: it settles none there.
    solana_sponsor_keypair: Path | None = None
    solana_pay_to: str | None = None  # wallet that listed agents are paid to on Solana; not set: EVM only
    solana_sponsored_payees: str | None = None  # "any", or addresses, comma-separated; local: any

    facilitator_url: str | None = None
    facilitator_shares_database: bool = False  # its transactions and our answers are on one PostgreSQL server
    # Whose gas the facilitator pays. Not set: everybody's in the local economy, within limits in production.
    sponsored_payees: str | None = None  # "own" (our sellers), "any", or addresses, comma-separated
    sponsored_minimum: str | None = None  # decimal text of USDC
    sponsored_gas_per_payment: int = Field(default=300_000, ge=21_000)
    sponsored_gas_per_payer_hour: int | None = Field(default=None, ge=0)  # 0: no limit
    sponsored_gas_per_hour: int | None = Field(default=None, ge=0)
    # The paymaster's key signs what gas is paid for; not set: the relayer's. Without policies a production node pays
    # nobody's gas, and a local one that of its own market.
    paymaster_key: SecretStr | None = None
    paymaster_policies: Path | None = None  # JSON file
    contracts_start_block: int | None = Field(default=None, ge=0)  # where their events begin; local: 0
    coin_usd: str | None = None  # what a whole coin of the chain is worth in dollars, for balances; not set: not told
    registry_url: str | None = None
    markets: str = "registry,bazaar,catalogue"  # where offers are looked for, the most trusted first
    firm_quotes: bool = False  # ask every seller for its price of the very job before its money is reserved
    api_url: str | None = None
    smtp_url: SecretStr | None = None  # smtps://user:password@host:465, smtp://host:587; not set: no codes by e-mail
    mail_from: str | None = None
    agents_dir: Path = Path("agents")

    llm_base_url: str | None = None
    llm_api_key: SecretStr | None = None
    llm_model: str = "default"
    llm_protocol: Literal["openai", "anthropic"] = "openai"

    unsafe_local: bool = False
    local_user: str | None = None
    workflow_slots: int = Field(default=64, ge=1, le=256)
    engine: Literal["postgres", "restate"] = "postgres"
    restate_url: str = "http://127.0.0.1:8080"
    restate_admin_url: str = "http://127.0.0.1:9070"
    restate_listen_host: str = "127.0.0.1"  # where workers answer Restate; those of one machine share the port
    restate_listen_port: int = Field(default=9080, ge=1, le=65535)
    restate_public_url: str = ""  # how Restate reaches the workers, when not there
    restate_namespace: str = Field(default="nexus", pattern="^[A-Za-z0-9_-]{1,64}$")
    requests_per_minute: int = Field(default=100, ge=1)
    max_upload_bytes: int = Field(default=32 * 1024 * 1024, ge=1024)
    upload_quota_bytes: int = Field(default=2 * 1024 * 1024 * 1024, ge=1024)  # of one user's files together
    uploads_per_hour: int = Field(default=2000, ge=1)
    # What a run of an agent may use at most, whatever its manifest asks for; the upper bounds are the sandbox's own.
    agent_memory_mib: int = Field(default=1024, ge=32, le=8192)
    agent_cpu: float = Field(default=1.0, ge=0.05, le=4)
    agent_timeout_seconds: float = Field(default=300, gt=0, le=1800)
    agent_tmp_mib: int = Field(default=100, ge=1, le=1024)
    agent_processes: int = Field(default=128, ge=4, le=1024)
    agent_concurrency: int = Field(default=10, ge=1, le=1000)
    agent_secrets_file: Path | None = None
    log_level: str = "INFO"
    metrics_port: int | None = Field(default=None, ge=1, le=65535)  # of a role that serves no HTTP otherwise

    @cached_property
    def evm_network(self) -> str:
        """CAIP-2 name of the configured EVM chain."""
        return f"eip155:{self.evm_chain_id}"

    @cached_property
    def usdc(self) -> Asset | None:
        """USDC on the configured chain, when its address is known."""
        if self.usdc_address is None:
            return None
        return Asset("USDC", 6, f"{self.evm_network}/erc20:{self.usdc_address.lower()}")
