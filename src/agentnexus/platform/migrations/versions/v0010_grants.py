"""More tables: the SQL is in ``sql/0010_grants.{up,down}.sql``."""

from agentnexus.platform.migrations.run import run_sql

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0010_grants.up.sql")


def downgrade() -> None:
    run_sql("0010_grants.down.sql")
