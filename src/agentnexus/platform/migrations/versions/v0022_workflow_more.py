"""More tables: the SQL is in ``sql/0022_workflow_more.{up,down}.sql``."""

from agentnexus.platform.migrations.run import run_sql

revision = "0022"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0022_workflow_more.up.sql")


def downgrade() -> None:
    run_sql("0022_workflow_more.down.sql")
