"""More tables: the SQL is in ``sql/0019_indexer.{up,down}.sql``."""

from agentnexus.platform.migrations.run import run_sql

revision = "0019"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0019_indexer.up.sql")


def downgrade() -> None:
    run_sql("0019_indexer.down.sql")
