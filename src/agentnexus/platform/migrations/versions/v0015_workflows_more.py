"""More tables: the SQL is in ``sql/0015_workflows_more.{up,down}.sql``."""

from agentnexus.platform.migrations.run import run_sql

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0015_workflows_more.up.sql")


def downgrade() -> None:
    run_sql("0015_workflows_more.down.sql")
