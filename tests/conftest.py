"""What all tests share: the browser, and saying loudly where there is none."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

from app.chromium import find_chromium
from engines.store import Workspace

# One thread a test: spinning threads of several processes slow each other down tenfold on two cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

settings.register_profile("untimed", deadline=None)  # a busy machine is no failure
settings.load_profile("untimed")

NO_BROWSER = "skipped: no browser"
_chromium = cache(find_chromium)


@pytest.fixture(scope="session")
def chromium_path() -> Path:
    """A Chromium that runs; tests that need it are skipped, loudly, where there is none."""
    path = _chromium()
    if path is None:
        pytest.skip(NO_BROWSER)
    return path


@pytest.fixture(scope="session")
def empty_workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a workspace that nobody writes to: making its tables once saves a second a test."""
    folder = tmp_path_factory.mktemp("template") / "workspace"
    Workspace.open(folder).close()
    return folder


@pytest.fixture
def workspace(empty_workspace: Path, tmp_path: Path) -> Iterator[Workspace]:
    """An empty workspace."""
    shutil.copytree(empty_workspace, tmp_path / "workspace")
    opened = Workspace.open(tmp_path / "workspace")
    yield opened
    opened.close()


class OneBrowser(LoadScopeScheduling):
    """Of the processes that share the tests one drives the browser: two browsers would be too much for two cores."""

    def _split_scope(self, nodeid: str) -> str:
        return "browser" if nodeid.startswith("tests/browser/") else nodeid.split("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    return OneBrowser(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    driven = {item: None for item in items if item.get_closest_marker("browser")}
    items.sort(key=lambda item: item not in driven)  # they take longest, so they begin
    for item in driven:
        # A browser on a busy machine may miss a moment: one failure is tried again (and shown), two count.
        item.add_marker(pytest.mark.flaky(reruns=1))
        if _chromium() is None:
            item.add_marker(pytest.mark.skip(reason=NO_BROWSER))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = [report for report in terminalreporter.getreports("skipped") if NO_BROWSER in str(report.longrepr)]
    if skipped:
        terminalreporter.section(NO_BROWSER, sep="!", red=True, bold=True)
        terminalreporter.line(f"{len(skipped)} browser tests did NOT run: no Chromium was found or could be installed.")
        terminalreporter.line("Install one (Debian: apt-get install chromium) or name it in the variable CHROMIUM.")
