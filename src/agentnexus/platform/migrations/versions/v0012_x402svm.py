"""More tables: the SQL is in ``sql/0012_x402svm.{up,down}.sql``."""

from agentnexus.platform.migrations.run import run_sql

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0012_x402svm.up.sql")


def downgrade() -> None:
    run_sql("0012_x402svm.down.sql")
