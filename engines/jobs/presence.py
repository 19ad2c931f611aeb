"""How the workbench and the engine of a workspace find each other: two small files in the workspace."""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from distributed.security import Security

SECRETS = ("tls_ca_file", "tls_client_cert", "tls_client_key")


@dataclass(frozen=True)
class EngineAddress:
    """A living engine: where its scheduler listens, and who may speak to it."""

    address: str
    pid: int
    created: float
    """Start time of the process: a pid alone is used again by others."""
    lanes: list[str]
    secrets: dict[str, str]
    program: str = ""
    """`program_stamp` of the program that started it."""

    def security(self) -> Security | None:
        """Credentials for the scheduler; None for one elsewhere, whose network has to be trusted."""
        from distributed.security import Security

        return Security(require_encryption=True, **self.secrets) if self.secrets else None


class EngineFile:
    """`engine.json` of a workspace, readable by its owner only."""

    def __init__(self, workspace: Path) -> None:
        self.path = workspace / "engine.json"

    def write(self, address: str, security: Security | None, lanes: list[str], program: str) -> None:
        """Announce this process as the workspace's engine."""
        secrets = {name: str(getattr(security, name)) for name in SECRETS} if security else {}
        process = psutil.Process()
        content = {
            "address": address,
            "pid": process.pid,
            "created": process.create_time(),
            "lanes": lanes,
            "secrets": secrets,
            "program": program,
        }
        partial = self.path.with_suffix(".new")
        partial.unlink(missing_ok=True)
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            json.dump(content, file)
        partial.replace(self.path)

    def read(self) -> EngineAddress | None:
        """The engine that is alive, or None."""
        try:
            content: dict[str, Any] = json.loads(self.path.read_text(encoding="utf-8"))
            engine = EngineAddress(**content)
            process = psutil.Process(engine.pid)
            alive = abs(process.create_time() - engine.created) < 1 and process.status() != psutil.STATUS_ZOMBIE
        except (OSError, ValueError, TypeError, psutil.Error):
            return None
        return engine if alive else None

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)


@cache
def program_stamp() -> str:
    """Names this program's code, as it was when this process first asked: another one after every update."""
    root = Path(__file__).parents[1]
    files = sorted((str(file.relative_to(root)), file.stat()) for file in root.rglob("*.py"))
    lines = (f"{name} {found.st_size} {found.st_mtime_ns}" for name, found in files)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def show_presence(workspace: Path) -> None:
    """Say that somebody is looking, which keeps the engine from ending itself."""
    (workspace / "engine.presence").touch()


def presence_age(workspace: Path) -> float:
    """Seconds since somebody looked; infinite where nobody ever did."""
    try:
        return time.time() - (workspace / "engine.presence").stat().st_mtime
    except OSError:
        return float("inf")
