"""Ethereum-like chains: signing, sending, settling and watching token payments over plain JSON-RPC."""
