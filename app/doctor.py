"""What is installed, what works, and how to mend what does not. `promptloupe doctor` prints it.

Nothing here imports torch. The report may be sent to others: it names no user and no folder of the user's data.
"""

from __future__ import annotations

import getpass
import os
import platform
import shutil
import socket
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from functools import partial
from importlib import metadata, resources
from pathlib import Path
from typing import Any, Literal

import psutil
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from app.chromium import find_chromium
from app.devices import ask_torch
from engines.jobs.presence import EngineFile

State = Literal["ok", "warn", "fail"]
STATES: tuple[State, ...] = ("ok", "warn", "fail")
ROOT = Path(__file__).parents[1]
PORT = 7860


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    state: State
    finding: str
    remedy: str = ""


def collect(workspace: Path | None = None, port: int = PORT) -> list[Check]:
    """Look at everything; takes some seconds, because torch is asked in a process of its own.

    Args:
        workspace: folder of the workspace to look at, which need not exist and is not changed. None: no such check.
        port: the port that the workbench would use.
    """
    looks: dict[str, Callable[[], Iterator[Check]]] = {
        "System": _system,
        "Packages": _packages,
        "Devices": _devices,
        "Shipped models": _shipped_models,
        "SQLite": _sqlite,
        "Port": partial(_port, port),
        "Proxy": _proxy,
        "Model caches": _caches,
        "Browser for tests": _browser,
    }
    if workspace is not None:
        looks["Workspace"] = partial(_workspace, workspace)
        looks["Background engine"] = partial(_engine, workspace)
    checks: list[Check] = []
    for name, look in looks.items():
        try:
            checks += look()
        except Exception as error:  # a doctor that dies of what it should report helps nobody
            checks.append(Check(name, "fail", f"could not be looked at: {error}", "Report this, please."))
    private = _private_words(workspace)
    return [Check(c.name, c.state, _redact(c.finding, private), _redact(c.remedy, private)) for c in checks]


def as_dict(checks: Sequence[Check]) -> dict[str, Any]:
    """The checks and the worst of their states, ready for JSON."""
    worst = max((STATES.index(check.state) for check in checks), default=0)
    return {"state": STATES[worst], "checks": [asdict(check) for check in checks]}


def report(checks: Sequence[Check]) -> str:
    """Plain text to copy into a message."""
    sign = {"ok": "ok  ", "warn": "WARN", "fail": "FAIL"}
    lines = (f"{sign[c.state]}  {c.name}: {c.finding}" + (f" -> {c.remedy}" if c.remedy else "") for c in checks)
    return "\n".join(["Promptloupe doctor", *lines])


def _private_words(workspace: Path | None) -> dict[str, str]:
    """What must not be in a report, and what stands there instead; longest first."""
    words = {str(Path.home()): "~", str(ROOT): "<promptloupe>", tempfile.gettempdir(): "<temporary>"}
    if workspace is not None:
        words |= {str(workspace): "<workspace>", str(workspace.expanduser().resolve()): "<workspace>"}
    return dict(sorted(words.items(), key=lambda item: -len(item[0])))


def _redact(text: str, private: dict[str, str]) -> str:
    for word, instead in private.items():
        text = text.replace(word, instead)
    with suppress(Exception):  # getpass fails where an account has no name
        text = text.replace(f"{os.sep}{getpass.getuser()}{os.sep}", f"{os.sep}<user>{os.sep}")
    return text


def _system() -> Iterator[Check]:
    memory = psutil.virtual_memory()
    yield Check("System", "ok", f"{platform.system()} {platform.release()}, {platform.machine()}")
    yield Check(
        "Memory",
        "ok" if memory.available > 2e9 else "warn",
        f"{memory.available / 1e9:.1f} of {memory.total / 1e9:.0f} GB are free; {os.cpu_count()} cores",
        "" if memory.available > 2e9 else "Close other programs before a training.",
    )
    inside = "in a virtual environment" if sys.prefix != sys.base_prefix else "not in a virtual environment"
    fits = (3, 11) <= sys.version_info[:2] <= (3, 14)
    yield Check(
        "Python",
        "ok" if fits else "fail",
        f"{platform.python_version()}, {inside}",
        "" if fits else "Use Python 3.11 to 3.14.",
    )


def _packages() -> Iterator[Check]:
    installed: dict[str, str] = {canonicalize_name(d.name): d.version for d in metadata.distributions()}
    try:
        promptloupe = metadata.distribution("promptloupe")
    except metadata.PackageNotFoundError:
        yield Check("Promptloupe", "warn", "runs from its folder, not installed", "Start it with `python launch.py`.")
        wanted: list[Requirement] = []
    else:
        yield Check("Promptloupe", "ok", promptloupe.version)
        wanted = [Requirement(text) for text in promptloupe.requires or []]
    needed = [r for r in wanted if r.marker is None or r.marker.evaluate({"extra": ""})]
    wrong = _mismatches(needed, installed, absent_matters=True)
    if wrong:
        remedy = "Start `python launch.py --reinstall`."
        yield Check("Packages", "fail", "missing or of an unusable version: " + ", ".join(wrong), remedy)
        return
    pins = _pins()
    other = _mismatches(pins, installed, absent_matters=False)
    tested = f"{len(installed)} packages"
    if other:
        finding = f"{tested}; not the tested version: " + ", ".join(other[:8]) + (" …" if len(other) > 8 else "")
        yield Check("Packages", "warn", finding, "Start `python launch.py --reinstall` should anything misbehave.")
    else:
        yield Check("Packages", "ok", f"{tested}, all of the tested versions" if pins else tested)


def _pins() -> list[Requirement]:
    """The lines of constraints.txt; none where Promptloupe was installed without its folder."""
    file = ROOT / "constraints.txt"
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return [pin for pin in pins if pin.marker is None or pin.marker.evaluate()]


def _mismatches(wanted: list[Requirement], installed: dict[str, str], absent_matters: bool) -> list[str]:
    found = []
    for requirement in wanted:
        version = installed.get(canonicalize_name(requirement.name))
        if version is None:
            found += [f"{requirement.name} (missing)"] if absent_matters else []
        elif not requirement.specifier.contains(version, prereleases=True):
            found.append(f"{requirement.name} {version} (wanted {requirement.specifier})")
    return found


def _devices() -> Iterator[Check]:
    devices = ask_torch()
    if devices.error:
        remedy = "Start `python launch.py --reinstall`."
        yield Check("torch", "fail", f"does not start: {devices.error}", remedy)
        return
    facts = devices.facts
    build = f"CUDA {facts['cuda']}" if facts["cuda"] else "without CUDA"
    yield Check("torch", "ok", f"{facts['torch']} ({build}), torchvision {facts['torchvision']}")
    reason, remedy = devices.trouble()
    finding = f"Trainings run on {devices.describe()}."
    yield Check("Device", "warn" if reason else "ok", f"{finding} {reason}".strip(), remedy)


def _shipped_models() -> Iterator[Check]:
    folder = Path(str(resources.files("assets"))) / "models"
    models = {path.parent: path for path in sorted(folder.glob("*/*.safetensors"))}
    whole = [f"{model.name} ({file.stat().st_size / 1e6:.0f} MB)" for model, file in models.items()]
    if whole:
        yield Check("Shipped models", "ok", ", ".join(whole))
    else:
        yield Check("Shipped models", "fail", "none is there", "Get Promptloupe again: its download is incomplete.")


def _workspace(workspace: Path) -> Iterator[Check]:
    folder = workspace.expanduser().resolve()
    place = next(path for path in (folder, *folder.parents) if path.is_dir())
    free = shutil.disk_usage(place).free / 1e9
    state: State = "fail" if free < 0.5 else "warn" if free < 5 else "ok"
    remedy = "" if state == "ok" else "Free some space: features and results of large sets take several GB."
    yield Check("Disk", state, f"{free:.1f} GB are free where the workspace lies", remedy)
    try:
        with tempfile.TemporaryDirectory(dir=place, prefix=".doctor-") as scratch:
            mode = _journal_mode(Path(scratch) / "probe.db")
    except (OSError, sqlite3.Error) as error:
        remedy = "Choose a folder of your own with --workspace."
        yield Check("Workspace", "fail", f"its folder cannot be written ({_reason(error)})", remedy)
        return
    if mode != "wal":
        remedy = "Keep the workspace on a local disk, not on a network folder."
        yield Check("Workspace", "fail", "its disk does not support SQLite's write-ahead log", remedy)
        return
    database = folder / "workspace.db"
    if not database.is_file():
        yield Check("Workspace", "ok", "not made yet; its folder can be written")
        return
    try:
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
            tables = connection.execute("SELECT count(*) FROM sqlite_master WHERE type = 'table'").fetchone()[0]
    except sqlite3.Error as error:
        remedy = "Put back the newest copy in the workspace's folder `backups`."
        yield Check("Workspace", "fail", f"its database cannot be read ({error})", remedy)
        return
    yield Check("Workspace", "ok", f"{tables} tables, {database.stat().st_size / 1e6:.1f} MB; can be written")


def _engine(workspace: Path) -> Iterator[Check]:
    engine = EngineFile(workspace.expanduser().resolve()).read()
    finding = f"running, for {', '.join(engine.lanes)}" if engine else "not running; the first job starts it"
    yield Check("Background engine", "ok", finding)


def _journal_mode(database: Path) -> str:
    with closing(sqlite3.connect(database)) as connection:
        return str(connection.execute("PRAGMA journal_mode = WAL").fetchone()[0])


def _reason(error: Exception) -> str:
    """The error's words without the path that Python adds to them."""
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)


def _sqlite() -> Iterator[Check]:
    recent = sqlite3.sqlite_version_info >= (3, 35)
    remedy = "" if recent else "Use a newer Python, which brings SQLite 3.35 or later."
    yield Check("SQLite", "ok" if recent else "fail", sqlite3.sqlite_version, remedy)


def _port(port: int) -> Iterator[Check]:
    with socket.socket() as probe:
        if os.name != "nt":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            remedy = f"If it is another program, start Promptloupe with --port {port + 1}."
            yield Check("Port", "ok", f"{port} is in use, perhaps by Promptloupe itself", remedy)
            return
    yield Check("Port", "ok", f"{port} is free")


def _proxy() -> Iterator[Check]:
    names = [name for name in ("http_proxy", "https_proxy", "all_proxy") if _variable(name)]
    exempt = {entry.strip() for entry in _variable("no_proxy").split(",")}
    if names and not ({"127.0.0.1", "localhost"} <= exempt or "*" in exempt):
        remedy = "Add 127.0.0.1,localhost to NO_PROXY, or the browser may not reach the workbench."
        yield Check("Proxy", "warn", f"{', '.join(names)} set, and NO_PROXY does not exempt this computer", remedy)
    else:
        yield Check("Proxy", "ok", f"{', '.join(names)} set; this computer is exempt" if names else "none")


def _variable(name: str) -> str:
    return os.environ.get(name) or os.environ.get(name.upper()) or ""


def _caches() -> Iterator[Check]:
    home = Path.home() / ".cache"
    folders = {
        "Hugging Face models": Path(os.environ.get("HF_HOME") or home / "huggingface"),
        "open_clip models": home / "clip",
        "models put there by hand": Path(os.environ.get("PROMPTLOUPE_MODELS") or home / "promptloupe" / "models"),
    }
    sizes = [f"{name} {_size(path) / 1e6:.0f} MB" for name, path in folders.items() if path.is_dir()]
    downloads = "allowed" if os.environ.get("PROMPTLOUPE_ONLINE") == "1" else "off"
    yield Check("Model caches", "ok", f"{', '.join(sizes) or 'empty'}; downloads are {downloads}")


def _size(folder: Path) -> int:
    """Bytes in a folder; links are not followed, so that the hub's cache is not counted twice."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_symlink() and path.is_file())


def _browser() -> Iterator[Check]:
    found = find_chromium()
    yield Check("Browser for tests", "ok", found.name if found else "none; only the browser tests need one")
