"""Gas that is promised when its operation is signed: the SQL is in ``sql/0030_gas_promises.{up,down}.sql``."""

from agentnexus.platform.migrations.run import run_sql

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0030_gas_promises.up.sql")


def downgrade() -> None:
    run_sql("0030_gas_promises.down.sql")
