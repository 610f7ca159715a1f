"""Tables of the evm room; the SQL is in ``sql/0003_evm.{up,down}.sql``."""

from agentnexus.platform.migrations.run import run_sql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0003_evm.up.sql")


def downgrade() -> None:
    run_sql("0003_evm.down.sql")
