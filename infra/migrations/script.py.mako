"""${message}."""

from alembic import op

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}


def upgrade() -> None:
    """Expand first; contract in a later release, when no old code runs."""
    ${upgrades if upgrades else 'op.execute("")'}
