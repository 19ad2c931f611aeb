"""What `pip install .` brings, and that the constraints fit what is asked for."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.launch.project import Project

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in found}


def test_every_requirement_is_pinned_to_a_version_it_allows() -> None:
    pinned = pins()
    for text in [*PROJECT["dependencies"], *(text for extra in EXTRAS.values() for text in extra)]:
        requirement = Requirement(text)
        assert pinned.get(canonicalize_name(requirement.name), "") in requirement.specifier, text
    assert (pinned["torch"], pinned["torchvision"]) == ("2.14.1", "0.29.1")


def test_constraints_hold_on_every_platform() -> None:
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    for line in text.splitlines():
        assert re.fullmatch(r"#.*|[\w.-]+==[\w.]+(; sys_platform == \"linux\")?", line), line
        if line.startswith(("nvidia-", "triton", "cuda-")):
            assert line.endswith('sys_platform == "linux"'), line


def test_launch_offers_only_extras_that_exist(project: Project) -> None:
    assert {*project.module.EXTRAS, "test"} <= EXTRAS.keys()


def test_wheel_holds_every_file_of_the_packages(tmp_path: Path) -> None:
    pytest.importorskip("hatchling")
    tracked = subprocess.run(
        ["git", "ls-files", "-z", "app", "engines", "assets"], cwd=ROOT, capture_output=True, text=True
    )
    if tracked.returncode:
        pytest.skip("not a git checkout")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        held = set(wheel.namelist())
        entry_points = wheel.read(next(name for name in held if name.endswith("entry_points.txt"))).decode()
    expected = {name for name in tracked.stdout.split("\0") if name and (ROOT / name).is_file()}
    assert expected - held == set()
    assert not [name for name in held if name.startswith(("tests/", "docs/", "workspaces/"))]
    assert "promptloupe = app.cli:main" in entry_points
