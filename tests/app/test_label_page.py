"""The Label page as its handlers see it: empty workspaces, rounds, and whatever a browser may send."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import gradio as gr
import pytest

from app.components.label_agreement import figures
from app.components.label_desk import LIST, OPENING, QUEUE
from app.components.label_setup import known_readers
from app.context import AppContext
from app.pages import label, start
from app.pages.label import LabelPage
from engines import jobs
from engines.errors import ConfigError, DataError
from engines.jobs import JobContext
from engines.jobs.registry import find_kind
from engines.labelling import Entry, agreement, label_settings, record, undo
from engines.store import Dataset, Job, JobState, LabelClass, Occasion, Sample, SelectionRound, Verdict, Workspace

HEAD = 7
"""Values of `refresh` before those of the settings form: dataset, name, empty, body, setup, chooser, who."""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace.open(tmp_path_factory.mktemp("label") / "ws")


def add_dataset(workspace: Workspace, classes: tuple[str, ...] = ("blast", "<i>cyte</i>"), labelled: int = 0) -> int:
    """40 pool images without files, the first few labelled."""
    with workspace.session() as session:
        added = Dataset(name=f"cells {uuid4().hex[:6]}", reader="folder", size=40, fingerprint=uuid4().hex)
        added.classes = [LabelClass(position=n, name=name) for n, name in enumerate(classes)]
        session.add(added)
        session.flush()
        for place in range(40):
            given = added.classes[place % 2].id if place < labelled else None
            kept = {"split": "pool", "class_id": given, "width": 8, "height": 8, "sha256": f"{place:064x}"}
            session.add(Sample(dataset_id=added.id, position=place, name=f"{place}.png", file=f"{place}.png", **kept))
        return added.id


def ids(workspace: Workspace, dataset_id: int) -> tuple[list[int], list[int]]:
    """(samples, classes) of a data set."""
    with workspace.session() as session:
        samples = [s.id for s in session.query(Sample).filter_by(dataset_id=dataset_id).order_by(Sample.position)]
        return samples, [c.id for c in session.get_one(Dataset, dataset_id).classes]


def say(workspace: Workspace, dataset_id: int, reader: str, sample: int, class_id: int, **more: Any) -> None:
    entry = {"dataset_id": dataset_id, "sample_id": sample, "annotator": reader, "verdict": Verdict.LABEL}
    record(workspace, Entry(**entry, class_id=class_id, event=uuid4().hex, **more))


def add_round(workspace: Workspace, dataset_id: int, samples: list[int], number: int = 1) -> None:
    with workspace.session() as session:
        picks = [{"sample": s, "why": "?", "predicted": None, "readers": 1} for s in samples]
        session.add(
            SelectionRound(dataset_id=dataset_id, number=number, strategy="entropy", budget=len(picks), picks=picks)
        )


def built(workspace: Workspace) -> LabelPage:
    with gr.Blocks() as demo:
        page = LabelPage(AppContext(workspace, demo, gr.Timer(1, active=False), frozenset()))
        page.build()
    return page


@pytest.fixture(scope="module")
def page(workspace: Workspace) -> LabelPage:
    return built(workspace)


def eventually(ask: Callable[[], Any], fits: Callable[[Any], bool]) -> Any:
    """What `ask` says as soon as it fits: numbers are worked out beside the page."""
    for _ in range(600):
        if fits(said := ask()):
            return said
        time.sleep(0.05)
    raise AssertionError(said)


def numbers(page: LabelPage, dataset_id: int, name: str) -> list[Any]:
    """The meter, the sentence, the curve and their stamp."""
    return eventually(lambda: page.results(dataset_id, name), lambda shown: bool(shown[-1]))


def event(name: Any, value: Any) -> Any:
    return SimpleNamespace(_data={"name": name, "value": value})


def values(page: LabelPage, shown: list[Any]) -> dict[str, Any]:
    """What `refresh` returns, by name."""
    fields = len(page.form.fields)
    rest = [
        "naming",
        "naming_words",
        "names",
        "offer",
        "work",
        "next",
        "awaited",
        "beside",
        "outcome",
        "curve",
        "stamp",
    ]
    names = ["dataset", "name", "empty", "body", "setup", "chooser", "who"]
    names += [f"setting-{name}" for name in page.form.fields]
    names += [*rest, "reader", "place", "showing"]
    assert len(shown) == len(names) == HEAD + fields + len(rest) + 3
    return dict(zip(names, shown, strict=True))


def test_an_empty_workspace_says_what_to_do(tmp_path: Path) -> None:
    page = built(Workspace.open(tmp_path / "empty"))
    shown = values(page, page.refresh(None, None))
    assert "First bring some in" in shown["empty"]["value"]
    assert not shown["body"]["visible"]


@pytest.mark.parametrize("chosen", [None, 99, "x", {"a": 1}])
@pytest.mark.parametrize("name", [None, 7, "", "  Dr   Meyer "])
def test_whatever_the_browser_remembers_the_newest_data_set_is_shown(
    workspace: Workspace, page: LabelPage, chosen: Any, name: Any
) -> None:
    dataset = add_dataset(workspace)
    shown = values(page, page.refresh(chosen, name))
    assert shown["dataset"] == dataset
    assert shown["name"] == ("Dr Meyer" if name and isinstance(name, str) else "")
    assert shown["setting-budget"] == 20
    assert shown["work"]["visible"]
    assert not shown["naming"]["visible"]
    assert "&lt;i&gt;cyte" in numbers(page, dataset, "Anna")[0]
    assert shown["reader"] == ""


def test_a_queue_is_opened_and_the_form_folded(workspace: Workspace, page: LabelPage) -> None:
    dataset = add_dataset(workspace)
    samples, _ = ids(workspace, dataset)
    add_round(workspace, dataset, samples[:5])
    shown = values(page, page.refresh(dataset, "Anna"))
    assert shown["showing"] == QUEUE
    assert '"annotator": "Anna"' in shown["reader"]
    assert not shown["setup"]["open"]
    assert "<strong>5</strong> left in this round" in numbers(page, dataset, "Anna")[0]
    assert values(page, page.refresh(dataset, ""))["reader"] == ""


def test_an_empty_queue_stays_open_to_take_verdicts_back(workspace: Workspace, page: LabelPage) -> None:
    dataset = add_dataset(workspace)
    samples, classes = ids(workspace, dataset)
    add_round(workspace, dataset, samples[:1])
    say(workspace, dataset, "Anna", samples[0], classes[0])
    reader, place, _ = page.work.open_queue(dataset, "Anna")
    assert reader
    assert place == ""
    awaited, _, place, showing = page.work.go_on(dataset, "Anna", QUEUE)  # as the screen says that it is empty
    assert isinstance(awaited, dict)
    assert place == ""
    assert showing == ""
    add_round(workspace, dataset, samples[1:3], number=2)
    assert page.work.go_on(dataset, "Anna", QUEUE)[3] == QUEUE
    assert "You have looked at all of these" in page.work.go_on(dataset, "Anna", LIST)[2]


def test_images_that_all_have_labels_can_be_practised_on(
    workspace: Workspace, page: LabelPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs.client, "ensure_engine", lambda *_: None)
    dataset = add_dataset(workspace, labelled=40)
    shown = values(page, page.refresh(dataset, "Anna"))
    assert "All 40 images" in shown["offer"]["value"]
    assert not shown["next"]["visible"]
    assert shown["work"]["visible"]  # where likely errors are looked at
    job, said = page.practice.act(dataset, "", event("practise", ""))
    assert "Copy to practise on" in said
    assert page.practice.act(dataset, job, event("practise", ""))[0] == job  # one copy for an impatient reader
    assert page.practice.follow(dataset, "Anna", job)[2:] == [gr.skip()] * len(page.practice.opened)
    kind = find_kind("practice_copy")
    with workspace.session() as session:
        row = session.get_one(Job, job)
        row.result = kind.run(JobContext(workspace), kind.parse(row.payload))
        row.state = JobState.DONE
        copy = row.result["dataset_id"]
    assert page.practice.follow(add_dataset(workspace), "Anna", job)[:2] == ["", ""]  # turned to other images meanwhile
    awaited, said, *opened = page.practice.follow(dataset, "Anna", job)
    assert (awaited, said) == ("", "")
    assert opened[0] == copy != dataset
    assert values(page, opened[:-5])["next"]["visible"]


@pytest.mark.parametrize(("name", "value"), [("cancel", "x"), ("retry", ""), (None, None), ("practise", "")])
def test_what_the_browser_remembers_of_a_copy_may_be_wrong(
    workspace: Workspace, page: LabelPage, name: Any, value: Any
) -> None:
    for awaited in ("", "x", 7, None, {}):
        assert page.practice.follow(add_dataset(workspace), "Anna", awaited)[2:] == [gr.skip()] * len(
            page.practice.opened
        )
        if name != "practise":
            assert page.practice.act(1, awaited, event(name, value)) == [gr.skip()] * 2
    with pytest.raises(DataError, match="No data set is chosen"):
        page.practice.act("x", "", event("practise", ""))


def test_a_reader_is_known_however_the_name_is_typed(workspace: Workspace, page: LabelPage) -> None:
    dataset = add_dataset(workspace)
    samples, classes = ids(workspace, dataset)
    add_round(workspace, dataset, samples[:5])
    say(workspace, dataset, "Dr Kovács", samples[0], classes[0])
    for typed in ("dr kovács", " DR  KOVÁCS ", "Dr Kova\u0301cs"):
        name, shown, _, reader, _, _ = page.rename(dataset, typed)
        assert name == shown == "Dr Kovács"
        assert json.loads(reader)["annotator"] == "Dr Kovács"
        assert values(page, page.refresh(dataset, typed))["name"] == "Dr Kovács"
    entry = {"dataset_id": dataset, "sample_id": samples[1], "annotator": "registry", "verdict": Verdict.SUGGESTION}
    record(workspace, Entry(**entry, class_id=classes[0], event=uuid4().hex, occasion=Occasion.IMPORT))
    offered = known_readers(workspace)
    assert "Dr Kovács" in offered
    assert "registry" not in offered  # nobody's name, but a file's


def test_classes_are_asked_for_and_named(workspace: Workspace, page: LabelPage) -> None:
    dataset = add_dataset(workspace, classes=())
    assert values(page, page.refresh(dataset, "Anna"))["naming"]["visible"]
    with pytest.raises(DataError, match="at least two"):
        page.name_classes(dataset, "one", "Anna")
    shown = values(page, page.name_classes(dataset, " red \n\nblue\nred", "Anna"))
    assert not shown["naming"]["visible"]
    assert "blue" in numbers(page, dataset, "Anna")[0]


def test_a_batch_needs_a_name_and_settings_that_fit(
    workspace: Workspace, page: LabelPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs.client, "ensure_engine", lambda *_: None)
    dataset = add_dataset(workspace)
    given = page.form.values(label_settings(workspace, dataset))
    with pytest.raises(DataError, match="Who are you"):
        page.work.next_batch(dataset, " ", *given)
    place = list(page.form.fields).index("budget")
    for wrong in (0, None, 1.5, "many", 10**9):
        with pytest.raises(ConfigError, match="Images per round"):
            page.work.next_batch(dataset, "Anna", *given[:place], wrong, *given[place + 1 :])
    job, shown, setup, place = page.work.next_batch(dataset, "Anna", *given[:place], 12, *given[place + 1 :])
    assert label_settings(workspace, dataset).budget == 12
    assert "Pick the next images" in shown
    assert "as soon as they are picked" in place
    assert not setup["open"]
    again, *_ = page.work.next_batch(dataset, "Anna", *given)  # one round at a time
    assert again == job
    with workspace.session() as session:
        rounds = session.query(Job).filter_by(kind="label_round").all()
    assert [each.id for each in rounds if each.payload["dataset_id"] == dataset] == [job]


def test_a_round_that_is_ready_opens_by_itself_but_never_over_an_image(workspace: Workspace, page: LabelPage) -> None:
    dataset = add_dataset(workspace)
    samples, _ = ids(workspace, dataset)
    add_round(workspace, dataset, samples[:5])
    with workspace.session() as session:
        job = Job(kind="label_round", payload={"dataset_id": dataset}, state=JobState.DONE, result={"picked": 5})
        session.add(job)
        session.flush()
        job_id = job.id
    *_, reader, _, showing = page.keep_up(dataset, "Anna", job_id, "", OPENING)  # the page itself opens it
    assert isinstance(reader, dict)  # no change
    shown, awaited, *_, reader, _, showing = page.keep_up(dataset, "Anna", job_id, "", "")
    assert (shown, awaited, showing) == ("", "", QUEUE)
    assert reader
    shown, awaited, *_, reader, _, showing = page.keep_up(dataset, "Anna", job_id, "", QUEUE)
    assert "5 more images picked" in shown
    assert isinstance(reader, dict)  # no change


def test_nothing_is_worked_out_while_nothing_changes(workspace: Workspace, page: LabelPage) -> None:
    dataset = add_dataset(workspace)
    samples, classes = ids(workspace, dataset)
    stamp = numbers(page, dataset, "Anna")[-1]
    skipped = gr.skip()
    assert page.keep_up(dataset, "Anna", "", stamp, "")[2:6] == [skipped] * 4
    say(workspace, dataset, "Ben", samples[0], classes[0])
    changed = eventually(lambda: page.keep_up(dataset, "Anna", "", stamp, ""), lambda shown: shown[2] != skipped)
    assert "<strong>1</strong> labelled for training" in changed[2]
    assert changed[5] != stamp


@pytest.mark.parametrize(("name", "value"), [("cancel", "x"), ("retry", ""), (None, None), ("queue", "1 or 1=1")])
def test_presses_that_the_browser_made_up_change_nothing(
    workspace: Workspace, page: LabelPage, name: Any, value: Any
) -> None:
    dataset = add_dataset(workspace)
    with workspace.session() as session:
        before = session.query(Job).count()
    page.work.act_on_round(dataset, "Anna", "", event(name, value))
    for part in (page.find, page.errors, page.second):
        try:
            arguments = (dataset, "Anna", {}) if part is page.find else (dataset, "Anna")
            part.act(*arguments, event(name, value))
        except DataError:
            pass
    with workspace.session() as session:
        assert session.query(Job).count() == before


# --- parts ----------------------------------------------------------------------------


def test_found_images_are_opened_to_be_looked_at(workspace: Workspace, page: LabelPage) -> None:
    dataset = add_dataset(workspace)
    samples, _ = ids(workspace, dataset)
    found, answer = page.find.show(dataset, samples[:20], "Closest to “two <b>lobes</b>”", {"text": "x"})
    assert answer.count("<img") == 20
    assert "<b>lobes" not in answer
    shown = page.find.act(dataset, "Anna", found, event("open", ""))
    assert f'"occasion": "{Occasion.REVIEW.value}"' in shown[2]
    assert shown[4] == LIST
    pending, said, *_ = page.find.act(dataset, "Anna", found, event("like", str(samples[3])))
    assert "Searching" in said
    assert pending == {"pending": {"sample_id": samples[3]}, "title": "Most like that image"}
    assert page.find.carry_on(dataset, found, True) == (gr.skip(), gr.skip())  # after all other buttons
    one = page.find.act(dataset, "Anna", found, event("open-one", str(samples[3])))
    assert f'"samples": [{samples[3]}]' in one[2]
    with pytest.raises(DataError, match="no image to show"):
        page.find.act(dataset, "Anna", found, event("open-one", str(samples[30])))
    with pytest.raises(DataError, match="Who are you"):
        page.find.act(dataset, "", found, event("open", ""))


def test_too_few_labels_to_look_for_wrong_ones(workspace: Workspace, page: LabelPage) -> None:
    dataset = add_dataset(workspace, labelled=9)
    said, _ = page.errors.look(dataset, "Anna")
    assert "too few labels" in said
    assert "“blast” 5, “&lt;i&gt;cyte&lt;/i&gt;” 4" in said
    with pytest.raises(DataError, match="too few"):
        page.errors.begin(dataset)
    assert "too few" not in page.errors.look(add_dataset(workspace, labelled=10), "Anna")[0]


def test_likely_errors_are_a_queue(workspace: Workspace, page: LabelPage) -> None:
    dataset = add_dataset(workspace, labelled=20)
    samples, classes = ids(workspace, dataset)
    hints = [{"sample": s, "given": classes[0], "suggested": classes[1], "confidence": 0.9} for s in samples[:3]]
    with workspace.session() as session:
        job = Job(kind="label_hints", payload={"dataset_id": dataset}, state=JobState.DONE, result={"hints": hints})
        session.add(job)
        session.flush()
        job.finished_at = job.created_at
    said, _ = page.errors.look(dataset, "Anna")
    assert "3 labels may be wrong; you have looked at 0 of them since" in said
    assert said.count("blast → &lt;i&gt;cyte&lt;/i&gt;?") == 3
    say(workspace, dataset, "Anna", samples[1], classes[1], occasion=Occasion.REVIEW)
    assert "you have looked at 1 of them" in page.errors.look(dataset, "Anna")[0]
    opened = page.errors.act(dataset, "Anna", event("review", ""))
    assert f'"samples": [{samples[0]}, {samples[2]}]' in opened[2]


def test_readers_are_compared_and_a_third_decides(workspace: Workspace, page: LabelPage) -> None:
    dataset = add_dataset(workspace)
    samples, (first, second) = ids(workspace, dataset)
    for place, sample in enumerate(samples[:10]):
        say(workspace, dataset, "Anna", sample, first if place < 5 else second)
        say(workspace, dataset, "Ben", sample, first if place < 4 else second)
    told, disputes = page.second.look(dataset, "Anna")
    assert "Anna and Ben said the same of 90.0% of 10 images" in told
    for words in ("Cohen", "Fleiss", "Krippendorff", "Gwet", "95% interval", "What Anna (rows)"):
        assert words in told
    assert "a third reader decides" in disputes
    told, disputes = page.second.look(dataset, "Chris")
    assert "Decide 1 now" in disputes
    assert disputes.count("readers differ") == 1
    opened = page.second.act(dataset, "Chris", event("decide", ""))
    assert f'"samples": [{samples[4]}]' in opened[2]
    assert Occasion.ADJUDICATION.value in opened[2]
    say(workspace, dataset, "Chris", samples[4], second, occasion=Occasion.ADJUDICATION)
    disputes = page.second.look(dataset, "Chris")[1]
    assert "all are settled" in disputes
    assert "last word: &lt;i&gt;cyte&lt;/i&gt;" in disputes


def test_one_reader_alone_is_told_how_to_get_a_second(workspace: Workspace) -> None:
    dataset = add_dataset(workspace)
    samples, classes = ids(workspace, dataset)
    say(workspace, dataset, "Anna", samples[0], classes[0])
    said = figures(agreement(workspace, dataset), {})
    assert "No image has been read by two people yet. So far Anna has read alone." in said


def test_the_log_shows_everything_and_who_wants_only_theirs(workspace: Workspace, page: LabelPage) -> None:
    dataset = add_dataset(workspace)
    samples, classes = ids(workspace, dataset)
    for sample in samples[:30]:
        say(workspace, dataset, "Anna", sample, classes[0], aids={"blind": True}, seconds=2.0)
    say(workspace, dataset, "<u>Ben</u>", samples[0], classes[1], aids={"blind": False}, model="abc")
    mine = page.history.look(dataset, "Anna", "mine")
    assert "1–25 of 30" in mine
    assert "Ben" not in mine
    everybody = page.history.look(dataset, "Anna", "everybody")
    assert "of 31" in everybody
    assert "&lt;u&gt;Ben&lt;/u&gt;" in everybody
    assert "the model’s guess" in everybody
    assert "26–30 of 30" in page.history.turn(dataset, "Anna", "mine", event("page", "25"))
    assert "1–25 of 30" in page.history.turn(dataset, "Anna", "mine", event("page", "x"))


def test_a_log_that_was_changed_is_told(tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path / "changed")
    page, dataset = built(workspace), add_dataset(workspace)
    samples, classes = ids(workspace, dataset)
    for sample in samples[:3]:
        say(workspace, dataset, "Anna", sample, classes[0])
    assert "All 3 entries" in page.history.verify()
    with workspace.engine.begin() as connection:
        for name in connection.exec_driver_sql("select name from sqlite_master where type = 'trigger'").scalars().all():
            connection.exec_driver_sql(f"drop trigger {name}")
        connection.exec_driver_sql("update annotation set annotator = 'Eve' where id = 2")
    assert "Entry 2 does not fit" in page.history.verify()


def test_the_page_stands_between_data_and_train() -> None:
    assert label.PAGE.route == "label"
    assert 20 < label.PAGE.order < 40


def test_start_counts_what_was_labelled_here(tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path / "counted")
    dataset = add_dataset(workspace, labelled=4)
    samples, classes = ids(workspace, dataset)
    assert start.labelled_here(workspace) == 0
    for sample in samples[3:10]:  # the first of them came with a label
        say(workspace, dataset, "Anna", sample, classes[0])
    say(workspace, dataset, "Ben", samples[9], classes[1])
    assert start.labelled_here(workspace) == 6
    undo(workspace, dataset, "Anna", uuid4().hex)
    assert start.labelled_here(workspace) == 6
    undo(workspace, dataset, "Ben", uuid4().hex)
    assert start.labelled_here(workspace) == 5
