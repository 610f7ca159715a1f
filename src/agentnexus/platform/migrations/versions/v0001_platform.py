"""Tables of the platform room; the SQL is in ``sql/0001_platform.{up,down}.sql``."""

from agentnexus.platform.migrations.run import run_sql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0001_platform.up.sql")


def downgrade() -> None:
    run_sql("0001_platform.down.sql")
