"""Prepaid accounts: a user sends SOL or USDC on chain, claims it by signature, works from it, withdraws the rest."""
