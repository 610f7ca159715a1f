"""Tables of the registry room; the SQL is in ``sql/0005_registry.{up,down}.sql``."""

from agentnexus.platform.migrations.run import run_sql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0005_registry.up.sql")


def downgrade() -> None:
    run_sql("0005_registry.down.sql")
