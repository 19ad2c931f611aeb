"""Where files live that belong to the program rather than to a workspace."""

from __future__ import annotations

import os
import sys
from importlib.resources import files
from pathlib import Path


def assets() -> Path:
    """The shipped files: models, templates, class lists."""
    return Path(str(files("assets")))


def cache_dir() -> Path:
    """A folder for what can be made again; `PROMPTLOUPE_CACHE` overrides the platform's place."""
    if chosen := os.environ.get("PROMPTLOUPE_CACHE"):
        folder = Path(chosen).expanduser()
    elif sys.platform == "win32":
        folder = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "promptloupe" / "cache"
    elif sys.platform == "darwin":
        folder = Path.home() / "Library" / "Caches" / "promptloupe"
    else:
        folder = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "promptloupe"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
