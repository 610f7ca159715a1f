"""Tables of the hiring room; the SQL is in ``sql/0007_hiring.{up,down}.sql``."""

from agentnexus.platform.migrations.run import run_sql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0007_hiring.up.sql")


def downgrade() -> None:
    run_sql("0007_hiring.down.sql")
