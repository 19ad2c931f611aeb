"""Markup from untrusted text: everything is escaped exactly once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest

from app.components import html
from app.components.datasets import balance, report, summary_line
from app.components.folders import browser
from app.components.gallery import Cell, grid, pager
from app.components.jobs import drawer, pill, progress, status_line
from engines.store import Job, JobState, LabelClass
from engines.store.browse import DatasetSummary

EVIL = "<img src=x onerror=\"alert('1')\">${alert(2)}"
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Tags(HTMLParser):
    """Collects elements, attribute names and text."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.attributes: set[str] = set()
        self.words = ""
        self.feed(markup)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.words += data


def dataset(name: str = EVIL, description: str = EVIL) -> DatasetSummary:
    return DatasetSummary(1, name, 5, 1, "folder", description, NOW)


def job(**values: object) -> Job:
    return Job(
        **{"id": "0123456789ab", "kind": "wait", "title": EVIL, "state": JobState.RUNNING, "progress": 0.42} | values
    )


CLASSES = [LabelClass(id=1, dataset_id=1, position=0, name=EVIL, descriptions=[])]
TALLY = {("train", 1, EVIL): 5}
REPORT = {"reasons": {EVIL: 2}, "left_out": [{"file": EVIL, "reason": EVIL}], "warnings": [EVIL]}


@pytest.mark.parametrize(
    "markup",
    [
        html.tag("p", EVIL, title=EVIL),
        html.notice("error", EVIL, EVIL, EVIL),
        html.table([EVIL], [[EVIL]], EVIL),
        html.term(EVIL, EVIL),
        html.page_title(EVIL, EVIL),
        html.action(EVIL, "open", EVIL),
        grid([Cell(EVIL, EVIL, EVIL, EVIL)]),
        summary_line(dataset(), TALLY),
        report(dataset(), REPORT, CLASSES, TALLY),
        progress(job(message=EVIL, rate=EVIL), log=True),
        progress(job(state=JobState.FAILED, error=EVIL, detail=EVIL)),
        drawer([job()], [job(state=JobState.DONE)]),
    ],
)
def test_names_never_become_elements_or_handlers(markup: str) -> None:
    read = Tags(markup)
    assert "onerror" not in read.attributes
    assert "alert" not in "".join(read.elements)
    assert read.elements.count("img") == markup.count('class="pl-frame"')
    assert "alert(2)" in read.words or "alert(2)" in markup


def test_text_is_escaped_once_and_markup_not_again() -> None:
    assert html.tag("b", "a < b", html.tag("i", "&")) == "<b>a &lt; b<i>&amp;</i></b>"
    assert html.tag("a", "x", href=None, disabled=True, hidden=False, data_value='"') == (
        '<a disabled data-value="&quot;">x</a>'
    )


def test_a_report_says_what_came_in_and_what_did_not() -> None:
    words = Tags(report(dataset("cells", ""), REPORT, CLASSES, TALLY)).words
    assert "5 images came in. 2 files were left out." in words
    assert "… and 1 more file." in words
    assert "Nothing was left out." in Tags(report(dataset("cells", ""), {}, CLASSES, TALLY)).words
    published = Tags(report(dataset("cells", ""), {"template": "a {}, a type of pet."}, CLASSES, TALLY)).words
    assert "ready-made prompts use the sentence “a {}, a type of pet.”" in published


def test_the_balance_of_very_many_classes_shows_both_ends() -> None:
    many = [LabelClass(id=n, dataset_id=1, position=n, name=f"class {n}", descriptions=[]) for n in range(1, 501)]
    figure = balance(many, {("train", n, ""): n for n in range(1, 501)})
    assert figure is not None
    (bars,) = figure["data"]
    assert bars["x"][0] == 500
    assert bars["x"][-1] == 1
    assert len(bars["x"]) == 60


def test_the_pill_says_how_many_how_far_and_how_long() -> None:
    running, waiting = job(seconds_left=200.0), job(state=JobState.QUEUED)
    assert "1 running · 42% · 3 min left · 1 waiting" in pill([running, waiting], True)
    assert "No jobs running" in pill([], True)
    assert "worker is starting" in pill([waiting], False)


def test_a_job_that_is_silent_for_long_is_told() -> None:
    quiet = job(started_at=NOW, heartbeat_at=NOW, message="", rate="")
    assert "nothing heard" not in status_line(quiet, NOW + timedelta(seconds=20))
    assert "nothing heard for 5 min" in status_line(quiet, NOW + timedelta(minutes=5))


def test_ids_of_jobs_are_not_text() -> None:
    assert "0123456789ab" not in Tags(progress(job(), log=True)).words


def test_the_pager_stops_at_both_ends() -> None:
    first, last = pager(0, 60, 130), pager(120, 10, 130)
    assert "1–60 of 130" in first
    assert first.count("disabled") == 2
    assert last.count("disabled") == 2


def test_the_folder_browser_lists_folders_and_tables_but_nothing_hidden(tmp_path: Path) -> None:
    for name in ("cells", ".secret", EVIL.replace("/", "")):
        (tmp_path / name).mkdir()
    (tmp_path / "table.csv").touch()
    (tmp_path / "a.png").touch()
    (tmp_path / "notes.txt").touch()
    words = Tags(browser(str(tmp_path))).words
    assert "1 image" in words
    assert "cells" in words
    assert "table.csv" in words
    assert ".secret" not in words
    assert "notes.txt" not in words
    assert "cannot be opened" in Tags(browser(str(tmp_path / "gone"))).words
