"""Marked defects: a picture beside an image that says where they are."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("sample", sa.Column("mask", sa.Text(), nullable=False, server_default=""))
