"""Labelling: what was shown and for how long, undo and redo, several readers, how a batch was picked."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("dataset", sa.Column("labelling", sa.JSON(), nullable=False, server_default="{}"))
    op.add_column("selection_round", sa.Column("settings", sa.JSON(), nullable=False, server_default="{}"))
    op.add_column("selection_round", sa.Column("summary", sa.JSON(), nullable=False, server_default="{}"))
    op.add_column("annotation", sa.Column("event", sa.String(36), nullable=True))
    op.add_column("annotation", sa.Column("occasion", sa.String(20), nullable=False, server_default="reading"))
    op.add_column("annotation", sa.Column("refers_to", sa.Integer(), nullable=True))
    op.add_column("annotation", sa.Column("seconds", sa.Float(), nullable=True))
    op.add_column("annotation", sa.Column("aids", sa.JSON(), nullable=False, server_default="{}"))
    op.add_column("annotation", sa.Column("program", sa.String(40), nullable=False, server_default=""))
    op.add_column("annotation", sa.Column("chain", sa.String(64), nullable=False, server_default=""))
    op.create_index("ix_annotation_event", "annotation", ["event"], unique=True)
