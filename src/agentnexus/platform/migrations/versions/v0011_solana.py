"""More tables: the SQL is in ``sql/0011_solana.{up,down}.sql``."""

from agentnexus.platform.migrations.run import run_sql

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0011_solana.up.sql")


def downgrade() -> None:
    run_sql("0011_solana.down.sql")
