"""Bringing a workspace's tables up to this program's format."""

from __future__ import annotations

import re
from pathlib import Path

from sqlalchemy import Engine, inspect, text

MIGRATIONS = Path(__file__).parent / "migrations"
REVISIONS = sorted(
    match.group(1)
    for file in (MIGRATIONS / "versions").iterdir()
    if (match := re.match(r"(\d{4})_\w+\.py$", file.name))
)
"""Known formats, oldest first. Files are numbered, so that this needs no import of alembic."""
HEAD = REVISIONS[-1]


def current_revision(engine: Engine) -> str | None:
    """Format of the database, or None where it is empty."""
    if not inspect(engine).has_table("alembic_version"):
        return None
    with engine.connect() as connection:
        return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def upgrade(engine: Engine, revision: str = HEAD) -> None:
    """Run the migrations up to `revision` in one transaction a step."""
    from alembic import command  # not needed at a normal start
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
