"""Signing in by e-mail code and passkey: the SQL is in ``sql/0025_sign_in.{up,down}.sql``."""

from agentnexus.platform.migrations.run import run_sql

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0025_sign_in.up.sql")


def downgrade() -> None:
    run_sql("0025_sign_in.down.sql")
