"""Agents that try to get out, to take too much or to lie. Each file is one agent; `run` is its entry."""
