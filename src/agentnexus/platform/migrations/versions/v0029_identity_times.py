"""When people showed who they are, and where: the SQL is in ``sql/0029_identity_times.{up,down}.sql``."""

from agentnexus.platform.migrations.run import run_sql

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0029_identity_times.up.sql")


def downgrade() -> None:
    run_sql("0029_identity_times.down.sql")
