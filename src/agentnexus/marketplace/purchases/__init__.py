"""Purchases of runs of agents: one operation on the chain each, and a state machine that ends with right or money."""
