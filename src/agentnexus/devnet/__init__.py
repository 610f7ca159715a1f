"""The economy on a laptop: development chain, accounts and services, for `nexus up`, tests and demos."""
