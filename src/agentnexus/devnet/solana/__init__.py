"""The Solana development chain: LiteSVM behind the cluster's own JSON-RPC. A development tool: its keys are public."""
