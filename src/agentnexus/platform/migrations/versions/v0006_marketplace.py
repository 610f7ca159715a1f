"""Tables of the marketplace room; the SQL is in ``sql/0006_marketplace.{up,down}.sql``."""

from agentnexus.platform.migrations.run import run_sql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0006_marketplace.up.sql")


def downgrade() -> None:
    run_sql("0006_marketplace.down.sql")
