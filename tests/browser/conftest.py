"""The workbench in a process of its own, and a Chromium that looks at it.

`workbench` is a running workbench on a small workspace, `page` a fresh browser window that fails its test when anything
goes wrong behind the scenes: an error in the page, a refused request, a request that leaves the machine.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image, ImageDraw
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from engines import jobs
from engines.data import ImportRequest, import_dataset
from engines.jobs import registry
from engines.store import Workspace

ROOT = Path(__file__).parents[2]
PATIENCE = 60_000
"""Milliseconds that a test waits for what it expects; test machines are slow."""
expect.set_options(timeout=PATIENCE)
SWITCHES = [
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--use-angle=swiftshader",  # WebGL without a graphics card
    "--enable-unsafe-swiftshader",
    "--disable-gpu-compositing",  # which would put pages together with it, too: more work for nothing
    "--use-fake-device-for-media-stream",  # a camera that shows a test picture
    "--use-fake-ui-for-media-stream",
]
WINDOW: dict[str, Any] = {"viewport": {"width": 1280, "height": 900}, "locale": "en-GB", "reduced_motion": "reduce"}
"""Without motion: drawing endless animations without a graphics card takes half a processor."""
HARMFUL = "<img src=x onerror=document.title='harmed'>"
"""A class name that changes the title of a page that takes it for markup."""


@dataclass(frozen=True)
class Workbench:
    """A running workbench."""

    url: str
    workspace: Workspace


def write_images(folder: Path, classes: dict[str, int], size: int = 32) -> Path:
    """Class folders with small pictures that all differ."""
    for place, (name, count) in enumerate(classes.items()):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            image = Image.new("RGB", (size, size), (40 + 60 * place % 200, 120, 200 - 7 * number % 160))
            draw = ImageDraw.Draw(image)
            draw.ellipse((4, 4, 8 + number % 20, 8 + number % 24), fill=(250, 10 * number % 250, 30 * place % 250))
            image.save(folder / name / f"{number:03d}.png")
    return folder


@contextmanager
def _starter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Workbench]]:
    """Starts workbenches, and ends them behind the block: idle ones would slow the tests that come after."""
    started: list[tuple[subprocess.Popen[str], Workspace]] = []

    def start(workspace: Workspace, **variables: str) -> Workbench:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        environment = os.environ | {registry.PLUGINS: "tests.browser.slow_kinds", "PYTHONPATH": str(ROOT)} | variables
        command = [sys.executable, "-m", "app.main", "--port", str(port), "--workspace", str(workspace.path)]
        log = (tmp_path_factory.mktemp("workbench") / "log").open("w+")
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log, text=True)
        started.append((process, workspace))
        url, deadline = f"http://127.0.0.1:{port}/", time.monotonic() + 120
        while not _listens(port):
            log.seek(0)
            assert process.poll() is None, f"the workbench ended: {log.read()}"
            assert time.monotonic() < deadline, "the workbench did not start"
            time.sleep(0.1)
        return Workbench(url, workspace)

    yield start
    for process, workspace in started:
        family = psutil.Process(process.pid).children(recursive=True)  # an engine that is only starting has no file yet
        process.terminate()  # an interrupt would be ignored where the tests run in the background of a shell
        process.wait(30)
        jobs.stop_engine(workspace, wait=0)
        for child in family:
            with suppress(psutil.NoSuchProcess):
                child.kill()
        workspace.close()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def start_workbench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Workbench]]:
    """Start a workbench on a workspace, with further environment variables; it is ended with the module's tests."""
    with _starter(tmp_path_factory) as start:
        yield start


@pytest.fixture(scope="session")
def workbench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workbench]:
    """A workbench whose workspace holds one data set: 130 images of three classes, one of them badly named."""
    folder = tmp_path_factory.mktemp("source")
    workspace = Workspace.open(folder / "clinic")
    images = write_images(folder / "cells", {"lymphocyte": 70, "monocyte": 50, HARMFUL: 10})
    import_dataset(workspace, ImportRequest(source=str(images)))
    with _starter(tmp_path_factory) as start:
        yield start(workspace)


@pytest.fixture(scope="session")
def browser(chromium_path: Path) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=str(chromium_path), headless=True, args=SWITCHES)
        yield found
        found.close()


@pytest.fixture
def problems() -> list[str]:
    """What went wrong behind the scenes; a test that provokes it empties the list."""
    return []


@pytest.fixture
def page(browser: Browser, problems: list[str]) -> Iterator[Page]:
    """A window with an empty memory."""
    context = browser.new_context(**WINDOW)
    context.set_default_timeout(PATIENCE)
    opened = context.new_page()
    watch(opened, problems)
    yield opened
    context.close()
    assert problems == []


def watch(page: Page, problems: list[str]) -> None:
    """Note errors of the page and its console, refused requests, and requests that leave the machine."""
    page.on("pageerror", lambda error: problems.append(f"page error: {error}"))
    page.on("console", lambda message: _note(message, problems))
    page.on("response", lambda r: problems.append(f"{r.status} {r.url}") if r.status >= 400 else None)
    page.on(
        "request",
        lambda r: (
            problems.append(f"left the machine: {r.url}")
            if r.url.startswith(("http", "ws")) and not r.url.startswith(("http://127.0.0.1", "ws://127.0.0.1"))
            else None
        ),
    )


def _note(message: ConsoleMessage, problems: list[str]) -> None:
    # Leaving a page breaks off what it was asking just then, which Gradio reports; refusals are noted as responses.
    left = ("signal is aborted", "AbortError", "Connection errored out", "Failed to load resource")
    if message.type == "error" and not any(words in message.text for words in left):
        problems.append(f"console: {message.text}")
