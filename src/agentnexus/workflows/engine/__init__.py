"""Durable execution: deterministic bodies whose steps are checkpointed, on PostgreSQL or in memory."""
