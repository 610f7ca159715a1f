"""The `exact` scheme on Solana: read and checked strictly, priced, verified and settled."""
