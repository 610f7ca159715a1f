"""The catalogue of an AgentNexus node as a market: found over its API, bought over x402."""
