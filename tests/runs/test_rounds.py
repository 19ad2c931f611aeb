"""Rounds of labelling: pick, be labelled, learn, pick again."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from engines.data import ImportRequest, import_dataset
from engines.data.practice import practice_copy
from engines.errors import Cancelled, DataError
from engines.labelling import (
    Entry,
    LabelSettings,
    newest_answers,
    pool_answers,
    progress,
    record,
    save_label_settings,
    tasks,
)
from engines.runs import rounds
from engines.runs.perform import Observer
from engines.runs.rounds import run_round
from engines.store import Dataset, Occasion, Run, Sample, SelectionRound, Verdict, Workspace
from engines.store.edit import add_class


@pytest.fixture(autouse=True)
def few_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "MOST_EPOCHS", 12)


QUICK = {"budget": 6, "method": "coop", "seed": 3}


@pytest.fixture
def ws(shapes: Path, tmp_path: Path) -> Iterator[Workspace]:
    workspace = Workspace.open(tmp_path / "clinic")
    import_dataset(workspace, ImportRequest(source=str(shapes)))
    yield workspace
    workspace.close()


@pytest.fixture
def pool(ws: Workspace) -> int:
    """A practice copy with quick settings."""
    with ws.session() as session:
        source = session.query(Dataset).one().id
    made = practice_copy(ws, source)
    save_label_settings(ws, made, LabelSettings(**QUICK))
    return made


def truth(ws: Workspace, pool: int) -> dict[int, int]:
    """Class id in the practice copy by sample id, from the labelled original."""
    with ws.session() as session:
        here, there = session.get_one(Dataset, pool), session.query(Dataset).filter(Dataset.id != pool).one()
        name = {c.id: c.name for c in there.classes}
        ids = {c.name: c.id for c in here.classes}
        known = {s.sha256: name[s.class_id] for s in session.query(Sample).filter_by(dataset_id=there.id) if s.class_id}
        return {s.id: ids[known[s.sha256]] for s in session.query(Sample).filter_by(dataset_id=pool)}


def say(
    ws: Workspace, pool: int, sample: int, verdict: Verdict, class_id: int | None = None, name: str = "Ada"
) -> None:
    record(
        ws,
        Entry(
            dataset_id=pool,
            sample_id=sample,
            annotator=name,
            verdict=verdict,
            class_id=class_id,
            event=str(uuid.uuid4()),
            seen=None,
            occasion=Occasion.READING,
        ),
    )


def label_queue(ws: Workspace, pool: int) -> int:
    """Answer everything that Ada is asked, truly; returns how many."""
    right, asked = truth(ws, pool), tasks(ws, pool, "Ada")
    for task in asked:
        say(ws, pool, task.sample_id, Verdict.LABEL, right[task.sample_id])
    return len(asked)


def test_three_rounds_as_a_reader_lives_them(ws: Workspace, pool: int) -> None:
    first = run_round(ws, pool, Observer(), token="a" * 12)
    assert (first.number, len(first.picks), first.run_id) == (1, 6, None)
    assert len({each["sample"] for each in first.picks}) == 6
    assert all(each["why"].strip() for each in first.picks)
    assert first.summary["labelled"] == 0
    assert first.summary["accuracy"] == first.summary["zero_shot"]
    assert label_queue(ws, pool) == 6
    second = run_round(ws, pool, Observer(), token="b" * 12)
    assert second.number == 2
    assert second.run_id == "b" * 12
    assert second.summary["labelled"] == 6
    assert 0 <= second.summary["change"] <= 1
    low, high = second.summary["accuracy_interval"]
    assert 0 <= low <= second.summary["accuracy"] <= high <= 1
    assert not {each["sample"] for each in second.picks} & {each["sample"] for each in first.picks}
    with ws.session() as session:
        assert session.get_one(Run, "b" * 12).state == "done"
    label_queue(ws, pool)
    third = run_round(ws, pool, Observer(), token="c" * 12)
    assert third.summary["labelled"] == 12
    assert [each.labelled for each in progress(ws, pool).rounds] == [0, 6, 12]


def test_what_was_decided_or_asked_is_not_asked_again(ws: Workspace, pool: int) -> None:
    first = run_round(ws, pool, Observer(), token="a" * 12)
    verdicts = [Verdict.UNSURE, Verdict.NOT_GRADABLE, Verdict.SKIP]
    for each, verdict in zip(first.picks, verdicts, strict=False):
        say(ws, pool, each["sample"], verdict)
    second = run_round(ws, pool, Observer(), token="b" * 12)
    assert second.run_id is None, "there is no label to learn from yet"
    assert not {each["sample"] for each in first.picks} & {each["sample"] for each in second.picks}
    answers = pool_answers(ws, second.id)
    assert answers is not None
    assert set(answers.samples.tolist()) >= {each["sample"] for each in second.picks}


def test_the_pool_runs_out_and_the_last_labels_are_still_measured(ws: Workspace, pool: int) -> None:
    save_label_settings(ws, pool, LabelSettings(**QUICK | {"budget": 30}))
    assert len(run_round(ws, pool, Observer(), token="a" * 12).picks) == 30
    label_queue(ws, pool)
    assert len(run_round(ws, pool, Observer(), token="b" * 12).picks) == 2
    label_queue(ws, pool)
    last = run_round(ws, pool, Observer(), token="c" * 12)
    assert (last.picks, last.budget) == ([], 0)
    assert last.summary["labelled"] == 32
    assert last.summary["pool_left"] == 0


def test_measuring_picks_nothing(ws: Workspace, pool: int) -> None:
    found = run_round(ws, pool, Observer(), token="a" * 12, measure_only=True)
    assert found.picks == []
    assert found.summary["images_tested"] == 24


def test_the_same_seed_and_labels_pick_the_same(ws: Workspace, pool: int, shapes: Path, tmp_path: Path) -> None:
    first = run_round(ws, pool, Observer(), token="a" * 12)
    other = Workspace.open(tmp_path / "other")
    import_dataset(other, ImportRequest(source=str(shapes)))
    again = practice_copy(other, 1)
    save_label_settings(other, again, LabelSettings(**QUICK))
    second = run_round(other, again, Observer(), token="b" * 12)
    assert [each["sample"] for each in first.picks] == [each["sample"] for each in second.picks]


def test_a_round_that_was_stopped_goes_on_and_is_written_once(ws: Workspace, pool: int) -> None:
    run_round(ws, pool, Observer(), token="a" * 12)
    label_queue(ws, pool)

    def stop(fraction: float, message: str) -> None:
        if "step 5 " in message:
            raise Cancelled

    with pytest.raises(Cancelled):
        run_round(ws, pool, Observer(progress=stop), token="b" * 12)
    with ws.session() as session:
        assert session.query(SelectionRound).count() == 1
    found = run_round(ws, pool, Observer(), token="b" * 12)
    assert run_round(ws, pool, Observer(), token="b" * 12).id == found.id
    with ws.session() as session:
        assert session.query(SelectionRound).count() == 2
        assert session.query(Run).count() == 1


def test_warm_rounds_begin_with_what_the_last_one_learned(ws: Workspace, pool: int) -> None:
    save_label_settings(ws, pool, LabelSettings(**QUICK | {"start": "warm"}))
    run_round(ws, pool, Observer(), token="a" * 12)
    label_queue(ws, pool)
    run_round(ws, pool, Observer(), token="b" * 12)
    label_queue(ws, pool)
    run_round(ws, pool, Observer(), token="c" * 12)
    with ws.session() as session:
        first, second = session.get_one(Run, "b" * 12), session.get_one(Run, "c" * 12)
    assert "start_from" not in first.config
    assert second.config["start_from"] == first.id
    assert second.summary["notes"] == []
    add_class(ws, pool, "violet thing")
    label_queue(ws, pool)
    run_round(ws, pool, Observer(), token="d" * 12)
    with ws.session() as session:
        assert any("from scratch" in note for note in session.get_one(Run, "d" * 12).summary["notes"])


def test_second_readers_and_repeats_are_settled_when_the_batch_is_picked(ws: Workspace, pool: int) -> None:
    save_label_settings(ws, pool, LabelSettings(**QUICK | {"second_share": 0.5, "repeat_share": 0.34}))
    found = run_round(ws, pool, Observer(), token="a" * 12)
    assert sum(each["readers"] == 2 for each in found.picks) == 3
    assert sum(bool(each["repeat"]) for each in found.picks) == 2


@pytest.mark.parametrize("strategy", ["random", "entropy", "margin", "coreset", "badge"])
@pytest.mark.parametrize("balanced", [True, False])
def test_every_strategy_gives_a_full_batch(ws: Workspace, pool: int, strategy: str, balanced: bool) -> None:
    save_label_settings(ws, pool, LabelSettings(**QUICK | {"strategy": strategy, "balanced": balanced}))
    found = run_round(ws, pool, Observer(), token="a" * 12)
    assert len({each["sample"] for each in found.picks}) == 6
    assert newest_answers(ws, pool) is not None


def test_without_test_images_the_change_stands_in(ws: Workspace, pool: int) -> None:
    with ws.session() as session:
        for sample in session.query(Sample).filter_by(dataset_id=pool, split="test"):
            sample.split, sample.class_id = "pool", None
    run_round(ws, pool, Observer(), token="a" * 12)
    label_queue(ws, pool)
    found = run_round(ws, pool, Observer(), token="b" * 12)
    assert found.summary["accuracy"] is None
    assert found.summary["change"] is not None


def test_what_cannot_be_picked_from_is_told(ws: Workspace, pool: int) -> None:
    with pytest.raises(DataError, match="no longer exists"):
        run_round(ws, 99, Observer())
    with ws.session() as session:
        session.query(Sample).filter_by(dataset_id=pool, split="pool").delete()
    with pytest.raises(DataError, match="no images to label"):
        run_round(ws, pool, Observer())
    with ws.session() as session:
        session.query(Sample).filter_by(dataset_id=pool).delete()
        for each in session.get_one(Dataset, pool).classes[1:]:
            session.delete(each)
    with pytest.raises(DataError, match="two classes"):
        run_round(ws, pool, Observer())


def test_classes_that_nobody_described_are_named(ws: Workspace, pool: int) -> None:
    save_label_settings(ws, pool, LabelSettings(**QUICK | {"method": "coop-descriptions"}))
    run_round(ws, pool, Observer(), token="a" * 12)
    label_queue(ws, pool)
    found = run_round(ws, pool, Observer(), token="b" * 12)
    assert any("4 of 4 classes have the plain prompt" in note for note in found.summary["notes"])
