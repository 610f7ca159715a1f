"""Executions: runs of listed agents, each with its state, its ordered events and its kept result."""
