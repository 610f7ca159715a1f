"""Tables of the identity room; the SQL is in ``sql/0009_identity.{up,down}.sql``."""

from agentnexus.platform.migrations.run import run_sql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0009_identity.up.sql")


def downgrade() -> None:
    run_sql("0009_identity.down.sql")
