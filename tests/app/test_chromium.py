"""A browser for the tests: found where it runs, installed in the way that the computer allows."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from app import chromium

APT = [["apt-get", "update"], ["apt-get", "install", "-y", "--no-install-recommends", "chromium"]]
PLAYWRIGHT = [[sys.executable, "-m", "playwright", "install", "chromium"]]


def program(folder: Path, name: str, code: int) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\nexit {code}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A computer without a browser; its PATH is the folder `bin`."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("CHROMIUM", raising=False)
    monkeypatch.delenv("PLAYWRIGHT_BROWSERS_PATH", raising=False)
    monkeypatch.setattr(chromium, "PLACES", ())
    return tmp_path


pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the stand-ins are shell scripts")


def test_finds_only_a_browser_that_runs(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert chromium.find_chromium() is None
    program(bare / "bin", "chromium", code=1)  # such as Ubuntu's stand-in
    assert chromium.find_chromium() is None
    fetched = program(bare, ".cache/ms-playwright/chromium-1200/chrome-linux64/chrome", code=0)
    assert chromium.find_chromium() == fetched
    installed = program(bare / "bin", "google-chrome", code=0)
    assert chromium.find_chromium() == installed
    named = program(bare, "mine", code=0)
    monkeypatch.setenv("CHROMIUM", str(named))
    assert chromium.find_chromium() == named


@pytest.mark.parametrize(
    ("programs", "root", "ways"),
    [
        ([], True, [PLAYWRIGHT]),
        (["apt-get"], True, [APT, PLAYWRIGHT]),
        (["apt-get"], False, [PLAYWRIGHT]),
        (["apt-get", "sudo"], False, [[["sudo", "-n", *command] for command in APT], PLAYWRIGHT]),
    ],
)
def test_takes_the_way_that_the_computer_allows(
    bare: Path, monkeypatch: pytest.MonkeyPatch, programs: list[str], root: bool, ways: list[list[list[str]]]
) -> None:
    for name in programs:
        program(bare / "bin", name, code=0)
    monkeypatch.setattr(chromium.os, "geteuid", lambda: 0 if root else 1000)
    tried: list[list[str]] = []
    monkeypatch.setattr(chromium, "_succeeds", lambda command: tried.append(command) is None)
    assert chromium.install_chromium() is None  # every command succeeds, and none brings a browser
    assert [command for command in tried if command[-1] != "true"] == [command for way in ways for command in way]


def test_a_failing_way_is_followed_by_the_next(
    bare: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program(bare / "bin", "apt-get", code=0)  # succeeds, and brings nothing that runs
    monkeypatch.setattr(chromium.os, "geteuid", lambda: 0)
    succeeds = chromium._succeeds

    def fetch(command: list[str]) -> bool:
        if "playwright" in command:
            program(bare, ".cache/ms-playwright/chromium-1200/chrome-linux/chrome", code=0)
            return True
        return succeeds(command)

    monkeypatch.setattr(chromium, "_succeeds", fetch)
    assert chromium.main() == 0
    assert "350 MB" in capsys.readouterr().out
    assert chromium.main() == 0
    assert capsys.readouterr().out == ""


def test_no_way_at_all_is_said(bare: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(chromium, "_ways", lambda: [[["false-program-that-is-not-there"]]])
    assert chromium.main() == 1
    assert "skipped: no browser" in capsys.readouterr().out
