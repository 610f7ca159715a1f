"""Numbered schema changes, one SQL pair per room, run by Alembic."""
