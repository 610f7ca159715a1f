drop schema x402 cascade;
