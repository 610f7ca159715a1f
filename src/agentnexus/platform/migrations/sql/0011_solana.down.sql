drop schema solana cascade;
