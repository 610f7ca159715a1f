"""Runs marketplace agents in isolation: one interface (`port`), several backends (`local`, `unsafe`)."""
