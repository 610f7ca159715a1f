"""The x402 service registry and Bazaar: sellers prove who they are, buyers find them, only payers rate."""
