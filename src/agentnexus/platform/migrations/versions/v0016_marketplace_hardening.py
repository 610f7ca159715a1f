"""More tables: the SQL is in ``sql/0016_marketplace_hardening.{up,down}.sql``."""

from agentnexus.platform.migrations.run import run_sql

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0016_marketplace_hardening.up.sql")


def downgrade() -> None:
    run_sql("0016_marketplace_hardening.down.sql")
