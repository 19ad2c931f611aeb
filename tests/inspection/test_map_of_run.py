"""The map of a run: one fit for before and after, the same twice, and new images beside the old ones."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from engines.data import ImportRequest, import_dataset
from engines.errors import ConfigError, DataError
from engines.inspection.map_answers import MapRequest, read_map, rows_of
from engines.inspection.map_of_run import make_map
from engines.inspection.shift import feature_shift
from engines.jobs.context import JobContext
from engines.jobs.registry import find_kind
from engines.runs.perform import Observer, perform
from engines.runs.request import TrainRequest, create_runs
from engines.store import Dataset, LabelClass, Run, Sample, Workspace
from tests.runs.conftest import COLOURS, write_shapes

QUICK = {"epochs": 3, "views": 1, "learning_rate": 0.05}


@pytest.fixture
def ws(tmp_path: Path) -> Iterator[Workspace]:
    workspace = Workspace.open(tmp_path / "clinic")
    import_dataset(workspace, ImportRequest(source=str(write_shapes(tmp_path / "shapes", 3, 4))))
    yield workspace
    workspace.close()


def trained(ws: Workspace, **values: object) -> str:
    """A run that is done; returns its id."""
    request = {"dataset_id": 1, "shots": 2, "seeds": [1], "training": QUICK} | values
    run = create_runs(ws, TrainRequest(**request))[0]
    summary = perform(ws, run, Observer())
    with ws.session() as session:
        row = session.get_one(Run, run.id)
        row.summary, row.state = summary, "done"
    return run.id


def test_words_move_and_the_images_of_a_frozen_tower_do_not(ws: Workspace) -> None:
    run_id = trained(ws)
    request = MapRequest(run_id=run_id, layout="pca")
    assert read_map(ws, request) is None
    found = make_map(ws, request)
    assert found.classes == sorted(COLOURS)
    assert found.groups == [""] * 4
    assert len(found.samples) == 16
    assert np.array_equal(found.images_before, found.images_after)
    assert not found.images_moved.any()
    assert (found.words_moved > 0).all()
    assert (np.linalg.norm(found.words_after - found.words_before, axis=1) > 0).all()
    with ws.session() as session:
        accuracy = session.get_one(Run, run_id).summary["accuracy"]
    assert (found.said_after == found.labels).mean() == pytest.approx(accuracy)
    kept = read_map(ws, request)
    assert kept is not None
    assert np.array_equal(kept.words_after, found.words_after)
    assert read_map(ws, MapRequest(run_id=run_id, layout="pca", seed=2)) is None


@pytest.mark.parametrize("layout", ["umap", "pca"])
def test_the_same_run_twice_gives_the_same_coordinates(ws: Workspace, layout: str) -> None:
    request = MapRequest(run_id=trained(ws), layout=layout)
    first = make_map(ws, request)
    shutil.rmtree(ws.folder("inspections"))
    second = make_map(ws, request)
    for name in ("images_before", "images_after", "words_before", "words_after"):
        assert np.array_equal(getattr(first, name), getattr(second, name))


def test_new_images_take_their_place_and_the_old_ones_stay(ws: Workspace) -> None:
    request = MapRequest(run_id=trained(ws))
    first = make_map(ws, request)
    with ws.session() as session:
        moved = session.query(Sample).filter_by(split="train").order_by(Sample.position).first()
        gone = session.get_one(Sample, int(first.samples[0]))
        assert moved is not None
        moved.split, gone.split = "test", "train"
        new = moved.id
    second = make_map(ws, request)
    assert second.mark == first.mark
    assert new in second.samples
    assert first.samples[0] not in second.samples
    old = dict(zip(first.samples.tolist(), first.images_before, strict=True))
    for sample, place in zip(second.samples.tolist(), second.images_before, strict=True):
        if sample != new:
            assert np.array_equal(place, old[sample])
        assert np.isfinite(place).all()
    assert np.array_equal(first.words_after, second.words_after)
    assert make_map(ws, request, anew=True).mark != first.mark


def test_both_towers_and_classes_never_seen(ws: Workspace) -> None:
    run_id = trained(ws, method="maple", protocol="base-to-new", training={"epochs": 1, "learning_rate": 0.05})
    found = make_map(ws, MapRequest(run_id=run_id, layout="pca"))
    assert found.groups == ["base", "base", "new", "new"]
    assert np.isfinite(found.words_after).all()
    assert (found.images_moved > 0).all()
    new = found.labels >= 2
    assert (found.said_after[new] >= 2).all()
    rows = rows_of(found)
    assert len(rows) == 16 + 4
    assert {row["what"] for row in rows} == {"image", "words"}
    assert {row["group"] for row in rows} == {"base", "new"}


def test_words_that_depend_on_the_image_are_their_mean_over_the_images(ws: Workspace) -> None:
    found = make_map(ws, MapRequest(run_id=trained(ws, method="cocoop"), layout="pca"))
    assert np.isfinite(found.words_after).all()
    assert (found.words_moved > 0).all()
    assert "mean over the images" in " ".join(found.notes)


def test_the_moves_are_those_of_the_shift(ws: Workspace) -> None:
    run_id = trained(ws, method="maple", training={"epochs": 1, "learning_rate": 0.05})
    found, answer = make_map(ws, MapRequest(run_id=run_id, layout="pca")), feature_shift(ws, run_id)
    assert found.words_moved.tolist() == pytest.approx([row.words for row in answer.classes], abs=1e-5)
    by_sample = dict(zip(found.samples.tolist(), found.images_moved.tolist(), strict=True))
    for each in answer.samples:
        assert by_sample[each.sample_id] == pytest.approx(each.shift, abs=1e-5)


def test_the_gap_between_the_towers_is_kept_or_taken_away(ws: Workspace) -> None:
    run_id = trained(ws)
    apart = make_map(ws, MapRequest(run_id=run_id, layout="pca", keep_gap=True))
    together = make_map(ws, MapRequest(run_id=run_id, layout="pca"))

    def gap(found: object) -> float:
        images, words = found.images_before, found.words_before  # type: ignore[attr-defined]
        spread = np.linalg.norm(images - images.mean(0), axis=1).mean()
        return float(np.linalg.norm(images.mean(0) - words.mean(0)) / spread)

    assert gap(apart) > 2 * gap(together)


def test_one_image_and_one_class_left(ws: Workspace) -> None:
    run_id = trained(ws)
    with ws.session() as session:
        kept = session.query(Sample).filter_by(split="test").order_by(Sample.position).all()
        for sample in kept[1:]:
            sample.split = "pool"
    found = make_map(ws, MapRequest(run_id=run_id))
    assert len(found.samples) == 1
    assert np.isfinite(found.images_before).all()


def test_what_cannot_have_a_map_is_told(ws: Workspace) -> None:
    with pytest.raises(ConfigError, match="no such run"):
        make_map(ws, MapRequest(run_id="gone"))
    with pytest.raises(ConfigError, match="has no words"):
        make_map(ws, MapRequest(run_id=trained(ws, method="linear-probe")))
    run_id = trained(ws)
    with ws.session() as session:
        session.query(LabelClass).filter_by(position=0).one().name = "sky thing"
    with pytest.raises(DataError, match="have changed"):
        make_map(ws, MapRequest(run_id=run_id))
    with ws.session() as session:
        for sample in session.query(Sample):
            sample.class_id = None
    with pytest.raises(DataError, match="Label some images"):
        make_map(ws, MapRequest(run_id=run_id))


def test_the_job_answers_through_what_is_kept(ws: Workspace) -> None:
    run_id = trained(ws)
    kind = find_kind("inspect_map")
    result = kind.run(JobContext(ws), kind.parse({"run_id": run_id, "layout": "pca"}))
    assert result["images"] == 16
    assert read_map(ws, MapRequest(run_id=run_id, layout="pca")) is not None
    with ws.session() as session:
        assert session.query(Dataset).count() == 1
    with pytest.raises(ConfigError):
        kind.parse({"run_id": run_id, "layout": "spiral"})
