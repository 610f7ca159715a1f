"""The heart: gather offers of all markets, rank and choose them, hire with fallback, pay, and keep receipts."""
