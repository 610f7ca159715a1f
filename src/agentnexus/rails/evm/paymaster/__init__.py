"""Paying other people's gas: an ERC-7677 service that signs for our paymaster what its visible policies allow, within
budgets of the ledger.
"""
