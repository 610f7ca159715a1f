"""``python -m agentnexus.cli``: the same as `nexus`, for child processes."""

from agentnexus.cli import main

main()
