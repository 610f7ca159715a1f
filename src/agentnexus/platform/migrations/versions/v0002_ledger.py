"""Tables of the ledger room; the SQL is in ``sql/0002_ledger.{up,down}.sql``."""

from agentnexus.platform.migrations.run import run_sql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0002_ledger.up.sql")


def downgrade() -> None:
    run_sql("0002_ledger.down.sql")
