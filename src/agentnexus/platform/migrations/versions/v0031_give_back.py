"""Payments that come back to their budgets: the SQL is in ``sql/0031_give_back.{up,down}.sql``."""

from agentnexus.platform.migrations.run import run_sql

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0031_give_back.up.sql")


def downgrade() -> None:
    run_sql("0031_give_back.down.sql")
