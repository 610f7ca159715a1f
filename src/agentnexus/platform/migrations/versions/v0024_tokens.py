"""More columns: the SQL is in ``sql/0024_tokens.{up,down}.sql``."""

from agentnexus.platform.migrations.run import run_sql

revision = "0024"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0024_tokens.up.sql")


def downgrade() -> None:
    run_sql("0024_tokens.down.sql")
