"""The Solana rail: keys, SPL tokens and SOL, transactions that are written down before they leave, deposits."""
