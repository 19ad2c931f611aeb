"""Which workspace a person means when none is named."""

from __future__ import annotations

import os
from pathlib import Path

from engines.store import Workspace


def default_workspace() -> Path:
    """`PROMPTLOUPE_WORKSPACE`, else `workspaces/default` beside the program, else the user's own data folder."""
    if chosen := os.environ.get("PROMPTLOUPE_WORKSPACE"):
        return Path(chosen).expanduser()
    checkout = Path(__file__).parents[1]
    if (checkout / "launch.py").is_file():
        return checkout / "workspaces" / "default"
    if os.name == "nt":
        return Path(os.environ.get("LOCALAPPDATA", Path.home())) / "promptloupe" / "workspaces" / "default"
    return (
        Path(os.environ.get("XDG_DATA_HOME", Path.home() / ".local" / "share"))
        / "promptloupe"
        / "workspaces"
        / "default"
    )


def open_workspace(path: str | Path | None = None) -> Workspace:
    """The workspace at `path`, or the default one; made where it does not exist."""
    return Workspace.open(path or default_workspace())
