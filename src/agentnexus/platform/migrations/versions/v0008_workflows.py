"""Tables of the workflows room; the SQL is in ``sql/0008_workflows.{up,down}.sql``."""

from agentnexus.platform.migrations.run import run_sql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0008_workflows.up.sql")


def downgrade() -> None:
    run_sql("0008_workflows.down.sql")
