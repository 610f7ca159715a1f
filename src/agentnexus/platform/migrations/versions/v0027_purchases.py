"""Purchases on chain and the rights to run that they give: the SQL is in ``sql/0027_purchases.{up,down}.sql``."""

from agentnexus.platform.migrations.run import run_sql

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0027_purchases.up.sql")


def downgrade() -> None:
    run_sql("0027_purchases.down.sql")
