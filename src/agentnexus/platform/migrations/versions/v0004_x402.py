"""Tables of the x402 room; the SQL is in ``sql/0004_x402.{up,down}.sql``."""

from agentnexus.platform.migrations.run import run_sql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0004_x402.up.sql")


def downgrade() -> None:
    run_sql("0004_x402.down.sql")
