"""Other people's x402: the official Python and TypeScript packages."""
