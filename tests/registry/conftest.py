"""The registry over HTTP on a real database, for every test of this room."""

from tests.registry.test_registry import world

__all__ = ["world"]
