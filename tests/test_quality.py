"""The house rules that a machine can check: style, types, and which room may import what."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = {"torch", "torchvision", "open_clip", "diffusers", "umap", "transformers", "timm"}
LONGEST_FILE = 400
LIGHT_MODULES = ["app.main", "app.cli", "app.doctor", "engines.store", "engines.jobs", "engines.data"]


def python_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def imported_packages(file: Path) -> set[str]:
    """Top-level names of all packages that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


def offenders(folder: str, forbidden: set[str]) -> dict[str, list[str]]:
    files = python_files(folder)
    assert files
    found = {str(file.relative_to(ROOT)): sorted(imported_packages(file) & forbidden) for file in files}
    return {file: names for file, names in found.items() if names}


@pytest.mark.parametrize(
    "command", [["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"]], ids=["lint", "format", "types"]
)
def test_tools_are_content(command: list[str]) -> None:
    if importlib.util.find_spec(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"


def test_app_imports_nothing_heavy() -> None:
    assert offenders("app", HEAVY) == {}


def test_engines_know_nothing_of_the_app() -> None:
    assert offenders("engines", {"app", "gradio"}) == {}


def test_prompts_know_nothing_of_databases_or_jobs() -> None:
    rooms = r"^\s*(from|import) engines\.(store|jobs)\b"
    files = [f for f in python_files("engines/prompts") if re.search(rooms, f.read_text(encoding="utf-8"), re.M)]
    assert files == []


def test_files_stay_readable_in_one_sitting() -> None:
    lengths = {str(f.relative_to(ROOT)): len(f.read_bytes().splitlines()) for f in python_files("app", "engines")}
    assert {file: lines for file, lines in lengths.items() if lines > LONGEST_FILE} == {}


def test_no_path_of_a_developers_machine_is_committed() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    machine_path = re.compile(r"(?<![\w.}~-])/(work|root)/\w")
    found = []
    for name in filter(None, listed.stdout.split("\0")):
        content = (ROOT / name).read_bytes() if (ROOT / name).is_file() else b""
        if b"\0" not in content[:8192]:
            text = content.decode("utf-8", "replace")
            found += [f"{name}: {match[0]}" for match in machine_path.finditer(text)]
    assert found == []


@pytest.mark.parametrize("module", LIGHT_MODULES)
def test_starting_needs_no_torch(module: str) -> None:
    script = f"import sys, {module}; print(sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1] == "[]"
