"""More tables: the SQL is in ``sql/0013_escrow.{up,down}.sql``."""

from agentnexus.platform.migrations.run import run_sql

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0013_escrow.up.sql")


def downgrade() -> None:
    run_sql("0013_escrow.down.sql")
