"""The x402 market, both sides: pay any x402 server, sell any ASGI route, verify and settle as a facilitator."""
