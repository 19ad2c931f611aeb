"""The small project that launch.py is tried on."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest

from tests.launch.project import FAKE_PIP, LAUNCH, PYPROJECT, SETTINGS, Project


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    root = tmp_path / "demo with spaces"
    (root / "app").mkdir(parents=True)
    shutil.copy(LAUNCH, root)
    (root / "pyproject.toml").write_text(PYPROJECT)
    (root / "constraints.txt").write_text("thing==1.0\n")
    (root / "fake_pip.py").write_text(FAKE_PIP)
    (root / "app" / "__init__.py").touch()
    spec = importlib.util.spec_from_file_location("launch_under_test", root / "launch.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name, value in {**SETTINGS, "PIP": (str(root / "fake_pip.py"),)}.items():
        monkeypatch.setattr(module, name, value)
    monkeypatch.delenv("PROMPTLOUPE_PASSWORD", raising=False)
    made = Project(root, module)
    made.plan_pip("Collecting thing", "Installing collected packages: thing")
    return made
