"""Labelling while the server stands still, dies or cannot be reached, and while the browser itself is put to sleep."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from sqlalchemy import select

from engines import jobs
from engines.data import ImportRequest, import_dataset
from engines.labelling import check_chain, standing
from engines.store import Annotation, Job, JobState, Sample, SelectionRound, Workspace
from engines.store.browse import classes
from tests.browser.conftest import ROOT, write_images

pytestmark = [pytest.mark.browser, pytest.mark.slow]
SHOWN = "[data-part=root][data-shown]"
PATIENCE_OF_THE_PAGE = 8
"""Seconds after which the page asks once more (`PATIENCE` in label_send.js)."""


class Server:
    """A workbench that can be stopped, woken, killed and started again at the same address."""

    def __init__(self, workspace: Workspace, log: Path) -> None:
        self.workspace, self.log = workspace, log
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/"
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "app.main", "--port", str(self.port), "--workspace", str(self.workspace.path)]
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=log, stderr=log
            )
        deadline = time.monotonic() + 120
        while not self._answers():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, "the workbench did not start"
            time.sleep(0.1)

    def _answers(self) -> bool:
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(30)

    @contextmanager
    def asleep(self) -> Iterator[None]:
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("outages")
    workspace = Workspace.open(folder / "clinic")
    with workspace.session() as session:
        session.add(Job(kind="sample", title="Sample data", state=JobState.CANCELLED))
    running = Server(workspace, folder / "log")
    yield running
    running.kill()
    jobs.stop_engine(workspace)
    workspace.close()


class Queue:
    """Ten images that wait for a reader of their own."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server, self.workspace = server, server.workspace
        self.reader = self.name = f"cells {folder.name}"
        source = write_images(folder / self.name, {"lymphocyte": 5, "monocyte": 5})
        report = import_dataset(self.workspace, ImportRequest(source=str(source), name=self.name))
        assert report.dataset_id
        self.id = report.dataset_id
        self.classes = [each.id for each in classes(self.workspace, self.id)]
        with self.workspace.session() as session:
            rows = session.scalars(select(Sample).where(Sample.dataset_id == self.id).order_by(Sample.position))
            self.samples = [sample.id for sample in rows]
            picks = [{"sample": s, "why": "by hand", "predicted": None, "readers": 1} for s in self.samples]
            session.add(SelectionRound(dataset_id=self.id, number=1, strategy="random", budget=len(picks), picks=picks))

    def open(self, page: Page) -> None:
        page.goto(f"{self.server.url}label?data={self.name}")
        name = page.locator("#label-name input")
        name.fill(self.reader)
        name.press("Enter")
        expect_shown(page, self.samples[0])

    def given(self) -> list[tuple[int, int | None]]:
        """(image, class) of each row of the log; no row is allowed to be anything else."""
        with self.workspace.session() as session:
            query = select(Annotation).where(Annotation.sample_id.in_(self.samples)).order_by(Annotation.id)
            rows = list(session.scalars(query))
        assert {row.annotator for row in rows} <= {self.reader}
        return [(row.sample_id, row.class_id) for row in rows]

    def expect_given(self, keys: Sequence[tuple[int, str]]) -> None:
        """Exactly these rows, as (place in the queue, key), and a log that is whole."""
        assert self.given() == [(self.samples[place], self.classes[int(key) - 1]) for place, key in keys]
        said = {sample: each.class_id for sample, each in standing(self.workspace, self.id, self.reader).items()}
        assert said == dict(self.given())
        assert check_chain(self.workspace).broken is None


@pytest.fixture
def queue(server: Server, tmp_path: Path) -> Queue:
    return Queue(server, tmp_path)


def expect_shown(page: Page, sample: int) -> None:
    expect(page.locator(f"{SHOWN[:-1]}='{sample}']")).to_be_visible()


def trouble(page: Page) -> str:
    """What the page says is the matter, once it does."""
    notice = page.locator("#label-reader [data-part=trouble]")
    expect(notice).to_be_visible()
    return notice.inner_text()


def all_is_well(page: Page) -> None:
    expect(page.locator("#label-reader [data-part=trouble]")).to_be_hidden()


def test_a_server_that_stands_still(queue: Queue, page: Page) -> None:
    queue.open(page)
    with queue.server.asleep():
        page.keyboard.press("1")
        assert "Not saved yet: “lymphocyte”." in trouble(page)
        page.keyboard.press("1")  # once more, out of impatience
        page.wait_for_timeout(1000 * (PATIENCE_OF_THE_PAGE + 3))  # beyond the first try's patience
        page.keyboard.press("2")  # and a correction
        assert "Not saved yet: “lymphocyte”, “monocyte”." in trouble(page)
        assert "stay on this page" in trouble(page)
        expect_shown(page, queue.samples[0])
    expect_shown(page, queue.samples[1])
    all_is_well(page)
    page.keyboard.press("2")
    expect_shown(page, queue.samples[2])
    queue.expect_given([(0, "1"), (0, "2"), (1, "2")])


def test_a_laptop_that_is_closed_in_the_middle_of_a_verdict(queue: Queue, page: Page, browser: Browser) -> None:
    queue.open(page)
    found = browser.new_browser_cdp_session().send("SystemInfo.getProcessInfo")["processInfo"]
    renderers = [each["id"] for each in found if each["type"] == "renderer"]
    assert renderers
    with queue.server.asleep():
        page.keyboard.press("1")
        assert "Not saved yet" in trouble(page)
        for process in renderers:
            os.kill(process, signal.SIGSTOP)
        time.sleep(3)
    time.sleep(1)  # the server is awake first
    for process in renderers:
        os.kill(process, signal.SIGCONT)
    expect_shown(page, queue.samples[1])
    all_is_well(page)
    page.keyboard.press("2")
    expect_shown(page, queue.samples[2])
    queue.expect_given([(0, "1"), (1, "2")])


def test_a_network_that_is_gone_for_a_while(queue: Queue, page: Page, problems: list[str]) -> None:
    queue.open(page)
    for place in range(2):
        page.context.set_offline(True)
        page.keyboard.press("1")
        assert "Not saved yet: “lymphocyte”." in trouble(page)
        page.keyboard.press("2")
        assert "Not saved yet: “lymphocyte”, “monocyte”." in trouble(page)
        page.context.set_offline(False)
        expect_shown(page, queue.samples[place + 1])
        all_is_well(page)
    queue.expect_given([(0, "1"), (0, "2"), (1, "1"), (1, "2")])
    problems.clear()  # Gradio, too, tells the console that the network was gone


def test_a_server_that_is_killed_and_started_again(queue: Queue, page: Page, problems: list[str]) -> None:
    queue.open(page)
    page.keyboard.press("1")
    queue.server.kill()  # it may have kept the verdict or not, and told of it or not
    queue.server.start()
    expect_shown(page, queue.samples[1])
    queue.server.process.send_signal(signal.SIGSTOP)
    page.keyboard.press("1")
    page.keyboard.press("2")
    queue.server.kill()  # it has kept neither
    assert "Not saved yet: “lymphocyte”, “monocyte”." in trouble(page)
    queue.server.start()
    expect_shown(page, queue.samples[2])
    all_is_well(page)
    queue.expect_given([(0, "1"), (1, "1"), (1, "2")])
    problems.clear()  # Gradio, too, tells the console that the server was gone
