"""Smart accounts of users and their operations: the SQL is in ``sql/0026_wallets.{up,down}.sql``."""

from agentnexus.platform.migrations.run import run_sql

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0026_wallets.up.sql")


def downgrade() -> None:
    run_sql("0026_wallets.down.sql")
