"""Rights until a date, and rights that were passed on: the SQL is in ``sql/0028_entitlement_kinds.{up,down}.sql``."""

from agentnexus.platform.migrations.run import run_sql

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0028_entitlement_kinds.up.sql")


def downgrade() -> None:
    run_sql("0028_entitlement_kinds.down.sql")
