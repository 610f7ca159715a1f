"""More tables: the SQL is in ``sql/0014_engine.{up,down}.sql``."""

from agentnexus.platform.migrations.run import run_sql

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0014_engine.up.sql")


def downgrade() -> None:
    run_sql("0014_engine.down.sql")
