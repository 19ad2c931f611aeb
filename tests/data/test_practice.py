"""Practice copies: the same images, to be labelled anew."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image

from engines.data import ImportOptions, ImportRequest, effective_labels, import_dataset
from engines.data.bin import empty_bin, remove_dataset
from engines.data.practice import practice_copy
from engines.errors import Cancelled, DataError
from engines.jobs import JobContext
from engines.jobs.registry import find_kind
from engines.store import Dataset, Job, JobState, Sample, Workspace


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    return Workspace.open(tmp_path / "ws")


def import_set(ws: Workspace, folder: Path, splits: tuple[str, ...] = ("train", "test"), each: int = 9) -> int:
    stream = np.random.default_rng(0)
    for split in splits:
        for name in ("cat", "dog"):
            place = folder / split / name
            place.mkdir(parents=True)
            for number in range(each):
                Image.fromarray(stream.integers(0, 255, (8, 8, 3), np.uint8)).save(place / f"{number}.png")
    root = folder if len(splits) > 1 else folder / splits[0]
    found = import_dataset(ws, ImportRequest(source=str(root), options=ImportOptions(copy_images=True))).dataset_id
    assert found is not None
    return found


def rows(ws: Workspace, dataset_id: int) -> list[Sample]:
    with ws.session() as session:
        return list(session.query(Sample).filter_by(dataset_id=dataset_id).order_by(Sample.position))


def test_test_images_keep_their_labels_and_all_others_lose_them(ws: Workspace, tmp_path: Path) -> None:
    source = import_set(ws, tmp_path / "in")
    copy = practice_copy(ws, source)
    there, here = rows(ws, source), rows(ws, copy)
    assert {s.sha256 for s in here} == {s.sha256 for s in there}
    assert [s.position for s in here] == list(range(len(here)))
    assert {(s.split, s.class_id is None) for s in here} == {("pool", True), ("test", False)}
    with ws.session() as session:
        original, copied = session.get_one(Dataset, source), session.get_one(Dataset, copy)
        assert [c.name for c in copied.classes] == [c.name for c in original.classes]
        assert copied.name.endswith("(practice)")
        assert copied.fingerprint != original.fingerprint
        name = {c.id: c.name for c in (*original.classes, *copied.classes)}
        truth = {s.sha256: name[s.class_id] for s in there if s.class_id}
        assert all(truth[s.sha256] == name[s.class_id] for s in here if s.class_id)
        assert len(effective_labels(session, copy)) == sum(s.split == "test" for s in there)


def test_a_third_is_set_aside_where_nothing_is(ws: Workspace, tmp_path: Path) -> None:
    source = import_set(ws, tmp_path / "in", ("train",))
    with ws.session() as session:
        for sample in session.query(Sample).filter_by(dataset_id=source):
            sample.split = "train"
    tested = [s for s in rows(ws, practice_copy(ws, source)) if s.split == "test"]
    assert len(tested) == 6
    assert len({s.class_id for s in tested}) == 2


def test_groups_are_not_torn(ws: Workspace, tmp_path: Path) -> None:
    source = import_set(ws, tmp_path / "in", ("train",))
    with ws.session() as session:
        for sample in session.query(Sample).filter_by(dataset_id=source):
            sample.split, sample.group = "train", f"patient {sample.position % 5}"
    found = rows(ws, practice_copy(ws, source))
    assert {s.split for s in found} == {"pool", "test"}
    for group in {s.group for s in found}:
        assert len({s.split for s in found if s.group == group}) == 1


def test_the_pool_can_be_made_small_and_is_the_same_every_time(ws: Workspace, tmp_path: Path) -> None:
    source = import_set(ws, tmp_path / "in")
    first, second = (practice_copy(ws, source, per_class=3) for _ in range(2))
    picked = [[s.sha256 for s in rows(ws, each) if s.split == "pool"] for each in (first, second)]
    assert picked[0] == picked[1]
    assert len(picked[0]) == 6


def test_removing_one_of_the_two_leaves_the_images_of_the_other(ws: Workspace, tmp_path: Path) -> None:
    source = import_set(ws, tmp_path / "in")
    copy = practice_copy(ws, source)
    remove_dataset(ws, source)
    empty_bin(ws, older_than_days=0)
    assert all(ws.resolve(s.file).is_file() for s in rows(ws, copy))
    places = [ws.resolve(s.file) for s in rows(ws, copy)]
    remove_dataset(ws, copy)
    empty_bin(ws, older_than_days=0)
    assert not any(place.is_file() for place in places)


def test_what_cannot_be_practised_on_is_told(ws: Workspace, tmp_path: Path) -> None:
    source = import_set(ws, tmp_path / "in")
    with pytest.raises(DataError, match="at least one image"):
        practice_copy(ws, source, per_class=0)
    with pytest.raises(DataError, match="no longer exists"):
        practice_copy(ws, 99)
    with ws.session() as session:
        for sample in session.query(Sample).filter_by(dataset_id=source):
            sample.class_id = None
    with pytest.raises(DataError, match="too few labels"):
        practice_copy(ws, source)


def sets(ws: Workspace) -> int:
    with ws.session() as session:
        return session.query(Dataset).count()


def test_cancelled_at_any_moment_nothing_half_made_stays(ws: Workspace, tmp_path: Path) -> None:
    source = import_set(ws, tmp_path / "in")
    asked = 0

    def counted() -> None:
        nonlocal asked
        asked += 1

    practice_copy(ws, source, check_cancelled=counted)
    with ws.session() as session:
        there = session.query(Sample).count()
    assert asked >= 3
    for moment in range(asked):
        stop = Mock(side_effect=[*[None] * moment, Cancelled])
        with pytest.raises(Cancelled):
            practice_copy(ws, source, check_cancelled=stop)
    with ws.session() as session:
        assert session.query(Sample).count() == there
    assert sets(ws) == 2


def test_as_a_job_it_tells_how_far_it_is_and_is_made_once(ws: Workspace, tmp_path: Path) -> None:
    source = import_set(ws, tmp_path / "in")
    kind = find_kind("practice_copy")
    assert kind.lane == "waited-for"
    with ws.session() as session:
        session.add(Job(id="abc", kind="practice_copy", state=JobState.RUNNING))
    payload = kind.parse({"dataset_id": source, "per_class": 2})
    job = JobContext(ws, "abc")
    made = kind.run(job, payload)
    job.flush()
    with ws.session() as session:
        assert 0 < session.get_one(Job, "abc").progress < 1
    assert made == {"dataset_id": made["dataset_id"], "name": "in (practice)", "images": 18 + 4}
    assert len(rows(ws, made["dataset_id"])) == 22
    assert kind.run(JobContext(ws, "abc", attempt=2), payload) == made  # a worker that died after it was written
    assert sets(ws) == 2
    with ws.session() as session:
        session.add(Job(id="def", kind="practice_copy", state=JobState.RUNNING, cancel_requested=True))
    with pytest.raises(Cancelled):
        kind.run(JobContext(ws, "def"), payload)
    assert sets(ws) == 2
