"""More tables: the SQL is in ``sql/0018_purchases.{up,down}.sql``."""

from agentnexus.platform.migrations.run import run_sql

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0018_purchases.up.sql")


def downgrade() -> None:
    run_sql("0018_purchases.down.sql")
