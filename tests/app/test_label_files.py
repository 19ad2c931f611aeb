"""The tab for exports and imports, as its handlers see it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import gradio as gr
import pytest

from app.components.label_desk import LIST, QUEUE
from app.components.label_files import import_done
from app.pages.label import LabelPage
from engines import jobs
from engines.errors import DataError
from engines.jobs import JobContext
from engines.jobs.registry import find_kind
from engines.labelling import Entry, LabelSettings, record, save_label_settings
from engines.store import Job, JobState, Occasion, Verdict, Workspace, now
from tests.app.test_label_page import add_dataset, add_round, built, event, ids, say

STILL = [gr.skip()] * 3


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace.open(tmp_path_factory.mktemp("files") / "ws")


@pytest.fixture(scope="module")
def page(workspace: Workspace) -> LabelPage:
    return built(workspace)


@pytest.fixture(autouse=True)
def no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs.client, "ensure_engine", lambda *_: None)


def job_of(workspace: Workspace, job_id: str) -> Job:
    with workspace.session() as session:
        return session.get_one(Job, job_id)


def done(workspace: Workspace, job_id: str) -> dict[str, Any]:
    """Do the work of a queued job here."""
    kind, row = find_kind(job_of(workspace, job_id).kind), job_of(workspace, job_id)
    result = kind.run(JobContext(workspace), kind.parse(row.payload))
    with workspace.session() as session:
        row = session.get_one(Job, job_id)
        row.state, row.result, row.finished_at = JobState.DONE, result, now()
    return result


def newest(workspace: Workspace, kind: str) -> Job:
    with workspace.session() as session:
        return session.query(Job).filter_by(kind=kind).order_by(Job.created_at.desc()).first()


def table(folder: Path, *lines: str) -> Path:
    file = folder / f"{uuid4().hex[:6]}.csv"
    file.write_text("\n".join(("name,label,probability", *lines)) + "\n", "utf-8")
    return file


def test_a_zip_is_asked_for_where_there_are_images(workspace: Workspace, page: LabelPage) -> None:
    dataset = add_dataset(workspace)
    for form, asked, wanted in (("csv", True, False), ("hf", True, True), ("coco", False, False)):
        page.files.begin(dataset, form, True, asked)
        assert newest(workspace, "export_labels").payload["archive"] is wanted


def test_what_was_exported_is_linked_while_it_is_there(workspace: Workspace, page: LabelPage) -> None:
    dataset = add_dataset(workspace)
    page.files.begin(dataset, "csv", True, False)
    job = newest(workspace, "export_labels")
    result = done(workspace, job.id)
    said = page.files.follow(dataset, "Anna", "", "")[0]
    assert "Download labels.csv" in said
    assert "Download decisions.csv" in said
    assert "ZIP" not in said
    for file in result["files"]:
        workspace.resolve(file).unlink()
    assert "moved or removed since" in page.files.follow(dataset, "Anna", "", "")[0]


@pytest.mark.parametrize(
    ("place", "file", "told"),
    [("", None, "Nothing was chosen"), ("/no/such/place", None, "no folder or file"), ("x", "y", "both a place")],
)
def test_an_import_needs_one_file(workspace: Workspace, page: LabelPage, place: str, file: Any, told: str) -> None:
    dataset = add_dataset(workspace)
    with pytest.raises(DataError, match=told):
        page.files.read(dataset, place, file, "", "labels", False)
    with pytest.raises(DataError, match="No data set"):
        page.files.read(None, place, file, "", "labels", False)


def test_a_source_is_named_by_the_file_if_by_nobody(workspace: Workspace, page: LabelPage, tmp_path: Path) -> None:
    dataset, file = add_dataset(workspace), table(tmp_path, "0.png,blast,")
    for typed, kept in (("  registry   2019 ", "registry 2019"), ("", file.name), (None, file.name)):
        _, job, place, upload = page.files.read(dataset, f'"{file}"', None, typed, "anything", False)
        payload = job_of(workspace, job).payload
        assert (payload["annotator"], payload["as_"], place, upload) == (kept, "suggestions", "", None)


def test_suggestions_reach_the_reading_screen_of_who_brought_them(
    workspace: Workspace, page: LabelPage, tmp_path: Path
) -> None:
    dataset = add_dataset(workspace)
    samples, classes = ids(workspace, dataset)
    add_round(workspace, dataset, samples[:5])
    file = table(tmp_path, "0.png,blast,0.75", "1.png,blast,", "2.png,<i>cyte</i>,much", "x.png,blast,", "3.png,=1+1,")

    def take() -> list[Any]:
        _, job, *_ = page.files.read(dataset, str(file), None, f"source {uuid4().hex}", "suggestions", False)
        assert page.files.follow(dataset, "Anna", job, QUEUE)[2:] == [gr.skip(), *STILL]  # not yet
        done(workspace, job)
        return page.files.follow(dataset, "Anna", job, QUEUE)

    _, said, awaited, *screen = take()
    assert "3 suggestions" in said
    assert awaited == ""
    assert screen == STILL  # this reader is blind
    with pytest.raises(DataError, match="You read blind"):
        page.files.act_on_import(dataset, "Anna", event("confirm", ""))

    save_label_settings(workspace, dataset, LabelSettings(blind=False))
    _, _, _, reader, _, showing = take()
    assert (json.loads(reader)["annotator"], showing) == ("Anna", QUEUE)
    say(workspace, dataset, "Anna", samples[1], classes[0])
    _, opened, _, showing = page.files.act_on_import(dataset, "Anna", event("confirm", ""))
    assert showing == LIST
    assert json.loads(opened)["samples"] == [samples[0], samples[2]]
    assert json.loads(opened)["occasion"] == Occasion.REVIEW.value
    for sample in (samples[0], samples[2]):
        say(workspace, dataset, "Anna", sample, classes[0])
    with pytest.raises(DataError, match="decided all images"):
        page.files.act_on_import(dataset, "Anna", event("confirm", ""))
    with pytest.raises(DataError, match="Who are you"):
        page.files.act_on_import(dataset, "", event("confirm", ""))


def test_what_could_not_be_used_is_counted(workspace: Workspace, page: LabelPage, tmp_path: Path) -> None:
    dataset = add_dataset(workspace)
    lines = ["0.png,blast,", "1.png,,", "2.png,<b>odd</b>,", "3.png,<b>odd</b>,", "4.png,=1+1,", "x.png,blast,"]
    _, job, *_ = page.files.read(dataset, str(table(tmp_path, *lines, "5.png,blast,7")), None, "", "labels", False)
    done(workspace, job)
    said = import_done(job_of(workspace, job))
    assert "2 labels" in said
    assert "Without a label: 1 line." in said
    assert "no number between 0 and 1: 1 line." in said
    assert "Could not be used: 4 lines." in said
    assert "<b>odd" not in said
    assert said.index("&lt;b&gt;odd&lt;/b&gt;") < said.index("=1+1")
    assert "Look at the suggested ones" not in said
    _, job, *_ = page.files.read(dataset, str(table(tmp_path, *lines)), None, "", "labels", True)
    done(workspace, job)
    assert "New classes: &lt;b&gt;odd&lt;/b&gt;, =1+1." in import_done(job_of(workspace, job))


@pytest.mark.parametrize(("name", "value"), [("cancel", "x"), ("retry", ""), (None, None), ("confirm", "1 or 1=1")])
def test_presses_that_the_browser_made_up_change_nothing(
    workspace: Workspace, page: LabelPage, name: Any, value: Any
) -> None:
    dataset = add_dataset(workspace)
    page.files.begin(dataset, "csv", True, False)
    job = newest(workspace, "export_labels")
    page.files.act_on_export(dataset, event(name, value))
    try:
        page.files.act_on_import(dataset, "Anna", event(name, value))
    except DataError:
        assert name == "confirm"
    kept = job_of(workspace, job.id)
    assert (kept.state, kept.cancel_requested) == (JobState.QUEUED, False)
    page.files.act_on_export(dataset, event("cancel", job.id))
    assert job_of(workspace, job.id).state is JobState.CANCELLED


def test_the_reading_screen_is_told_whose_suggestion_it_is(workspace: Workspace) -> None:
    from app.components.label_answers import ReaderAnswers

    dataset = add_dataset(workspace)
    samples, classes = ids(workspace, dataset)
    add_round(workspace, dataset, samples[:3])
    save_label_settings(workspace, dataset, LabelSettings(blind=False))
    for sample, aids in ((samples[0], {}), (samples[1], {"probability": 0.25})):
        entry = {"dataset_id": dataset, "sample_id": sample, "annotator": "registry", "verdict": Verdict.SUGGESTION}
        more = {"class_id": classes[1], "event": uuid4().hex, "occasion": Occasion.IMPORT, "aids": aids}
        record(workspace, Entry(**entry, **more))
    answers = ReaderAnswers(workspace)
    shown = {task["sample"]: task for task in answers.look({"dataset": dataset, "annotator": "Anna"})["tasks"]}
    assert [list(each) for each in shown[samples[0]]["offered"]] == [[classes[1], None, "registry"]]
    assert [list(each) for each in shown[samples[1]]["offered"]] == [[classes[1], 0.25, "registry"]]
    assert "offered" not in shown[samples[2]]
    assert (shown[samples[0]]["top"], shown[samples[0]]["model"]) == ([], "")
    save_label_settings(workspace, dataset, LabelSettings(blind=True))
    assert "registry" not in json.dumps(answers.look({"dataset": dataset, "annotator": "Anna"}))
