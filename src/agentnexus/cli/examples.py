"""One thing to type for every command, shown at the end of its help."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import click

EXAMPLES: Final[Mapping[str, str]] = {
    "up": "nexus up --json economy.json",
    "task run": 'nexus task run "Summarise the report" --file report.pdf --budget 0.50',
    "task list": "nexus task list",
    "task show": "nexus task show wf_01a1fc",
    "template save": 'nexus template save wf_01a1fc "Monthly figures"',
    "template list": "nexus template list --json",
    "template run": "nexus template run tpl_01a1fc --file november.csv --yes",
    "template delete": "nexus template delete tpl_01a1fc",
    "schedule add": "nexus schedule add Mornings --cron '0 9 * * mon-fri' --task 'Analyse it' --budget 0.10",
    "schedule list": "nexus schedule list",
    "schedule show": "nexus schedule show sch_01a1fc",
    "schedule pause": "nexus schedule pause sch_01a1fc",
    "schedule resume": "nexus schedule resume sch_01a1fc",
    "schedule delete": "nexus schedule delete sch_01a1fc",
    "webhook add": "nexus webhook add https://example.com/hooks --event workflow.completed",
    "webhook list": "nexus webhook list",
    "webhook log": "nexus webhook log whk_01a1fc --json",
    "webhook delete": "nexus webhook delete whk_01a1fc",
    "offers": "nexus offers pdf.extract --strategy price",
    "hire": "nexus hire text.summarize --input @input.json --max-price 0.05",
    "prefer": "nexus prefer evm:0x70997970c51812dc3a010c7d01b50e0d17dc79c8 --block",
    "agents list": "nexus agents list pdf",
    "agents show": "nexus agents show org.agentnexus.pdf-extractor",
    "agents run": "nexus agents run org.agentnexus.pdf-extractor --input @input.json --max-price 0.05",
    "agents buy": "nexus agents buy org.agentnexus.pdf-extractor --runs 5 --budget 0.10",
    "agents execute": "nexus agents execute org.agentnexus.pdf-extractor --input @input.json",
    "agents new": "nexus agents new my-agent",
    "agents test": "nexus agents test my-agent",
    "purchase list": "nexus purchase list",
    "purchase show": "nexus purchase show pur_01a1fc --wait",
    "purchase sign": "nexus purchase sign pur_01a1fc --key-file wallet.json",
    "purchase refund": "nexus purchase refund pur_01a1fc",
    "entitlements": "nexus entitlements",
    "entitlements pass-on": "nexus entitlements pass-on org.agentnexus.content-summarizer --to 0x7099… --runs 2",
    "budget": "nexus budget --set per_day=5 --set total=none",
    "grant link": "nexus grant link --key wallet.json",
    "grant new": "nexus grant new --key wallet.json --total 5 --per-payment 0.10 --for 7d",
    "grant list": "nexus grant list",
    "grant uses": "nexus grant uses gr_01a1fc",
    "grant revoke": "nexus grant revoke gr_01a1fc",
    "contracts deploy": "nexus contracts deploy --network base-sepolia --key deployer.json --admin 0x7099…",
    "contracts show": "nexus contracts show --network base-sepolia",
    "contracts verify": "nexus contracts verify --json",
    "escrow address": "nexus escrow address",
    "escrow create": "nexus escrow create --key wallet.json",
    "escrow top-up": "nexus escrow top-up 5",
    "escrow deposit": "nexus escrow deposit 5VERv8NMvzbJMEkV8xnrLkEaWRtSz9CosKDYjCJjBRnb",
    "escrow balance": "nexus escrow balance --json",
    "escrow history": "nexus escrow history",
    "escrow withdraw": "nexus escrow withdraw 2.50",
    "metrics": "nexus metrics --days 7",
    "sign-in": "nexus sign-in --email ada@example.org",
    "sign-out": "nexus sign-out",
    "wallet": "nexus wallet",
    "wallet new": "nexus wallet new treasury.json --chain solana --for testnet",
    "wallet create": "nexus wallet create --kind delegated --key-file wallet.json",
    "wallet account": "nexus wallet account",
    "wallet balance": "nexus wallet balance --json",
    "wallet top-up": "nexus wallet top-up 5",
    "wallet history": "nexus wallet history --limit 50",
    "wallet send": "nexus wallet send 0x70997970c51812dc3a010c7d01b50e0d17dc79c8 2.50",
    "wallet sign": "nexus wallet sign op_01a1fc --key-file wallet.json",
    "wallet discard": "nexus wallet discard op_01a1fc",
    "wallet operation": "nexus wallet operation op_01a1fc --wait",
    "wallet gas": "nexus wallet gas",
    "wallet export": "nexus wallet export my-key.json",
    "wallet guardian": "nexus wallet guardian 0x70997970c51812dc3a010c7d01b50e0d17dc79c8 --delay 7d",
    "wallet session grant": "nexus wallet session grant 0x7099… --call '0x5fbd…:approve(address,uint256)' --for 12h",
    "wallet session revoke": "nexus wallet session revoke 0x70997970c51812dc3a010c7d01b50e0d17dc79c8",
    "ledger check": "nexus ledger check --json",
    "ledger statement": "nexus ledger statement wallet:eip155:31337:0x3c44 --format csv",
    "ledger payout": "nexus ledger payout 5VERv8NMvzbJMEkV8xnrLkEaWRtSz9CosKDYjCJjBRnb",
    "token issue": "nexus token issue alice --expires 30d",
    "token list": "nexus token list alice",
    "token revoke": "nexus token revoke tok_01a1fc",
    "receipt verify": "nexus receipt verify receipt.json --rpc http://127.0.0.1:8545",
    "receipt rate": "nexus receipt rate rct_01a1fc --stars 5",
    "doctor": "nexus doctor",
    "db": "nexus db",
    "serve": "nexus serve --port 5000",
    "worker": "nexus worker",
    "facilitator": "nexus facilitator --port 4022",
    "registry": "nexus registry --port 3001",
}


def with_examples(command: click.Command, path: str) -> click.Command:
    """The command, and those below it, with what to type after their help."""
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            with_examples(below, f"{path} {name}")
    elif path in EXAMPLES:
        command.epilog = f"\b\nExample:\n  {EXAMPLES[path]}"  # \b: click keeps the lines as they are
    return command
