"""More tables: the SQL is in ``sql/0020_paymaster.{up,down}.sql``."""

from agentnexus.platform.migrations.run import run_sql

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0020_paymaster.up.sql")


def downgrade() -> None:
    run_sql("0020_paymaster.down.sql")
