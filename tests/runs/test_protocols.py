"""Training on one data set or some domains, testing on others."""

from __future__ import annotations

from pathlib import Path

import pytest

from engines.data import ImportRequest, import_dataset
from engines.errors import ConfigError, DataError, PromptloupeError
from engines.runs.material import gather
from engines.runs.request import TrainRequest, create_runs, plan_runs
from engines.store import Dataset, Sample, Workspace
from tests.runs.conftest import COLOURS, draw
from tests.runs.test_perform import QUICK, begin, finish

SITES = ("Basel", "Leiden", "Porto")


@pytest.fixture(scope="module")
def sites(ws: Workspace, dataset_id: int) -> int:
    """The images of `dataset_id`, each said to come from one of three sites in turn."""
    with ws.session() as session:
        for sample in session.query(Sample).filter_by(dataset_id=dataset_id):
            sample.domain = SITES[sample.position % 3]
    return dataset_id


@pytest.fixture(scope="module")
def other(ws: Workspace, tmp_path_factory: pytest.TempPathFactory) -> int:
    """A second data set: other classes, all images set aside for testing or not at all."""
    folder = tmp_path_factory.mktemp("other") / "discs"
    for name in ("red disc", "blue disc"):
        (folder / name).mkdir(parents=True)
        for i in range(5):
            draw(COLOURS[f"{name.split()[0]} thing"], 700 + i).save(folder / name / f"{i}.png")
    import_dataset(ws, ImportRequest(source=str(folder)))
    with ws.session() as session:
        return session.query(Dataset).filter_by(name="discs").one().id


def test_cross_dataset(ws: Workspace, dataset_id: int, other: int) -> None:
    run = finish(ws, begin(ws, dataset_id, protocol="cross-dataset", test_datasets=[other], settings={"n_ctx": 4}))
    assert list(run.summary["targets"]) == ["discs"]
    found = run.summary["targets"]["discs"]
    assert found["images"] > 0
    assert run.summary["target_accuracy"] == found["accuracy"]
    assert run.summary["zero_shot"]["target_accuracy"] == found["zero_shot"]["accuracy"]
    assert run.summary["images"] == 24
    assert run.summary["class_names"] == sorted(COLOURS)


def test_domain_generalisation(ws: Workspace, sites: int) -> None:
    run = begin(ws, sites, protocol="domain-generalisation", target_domains=["Porto"], settings={"n_ctx": 4})
    material = gather(ws, run)
    assert {item.domain for item in material.train} == {"Basel", "Leiden"}
    assert {item.domain for item in material.test} == {"Basel", "Leiden"}
    assert {item.domain for item in material.targets[0].items} == {"Porto"}
    assert {item.label for item in material.unlabelled} == {-1}
    assert not {i.sample_id for i in material.unlabelled} & {i.sample_id for i in material.targets[0].items}
    assert all(sum(item.label == label for item in material.train) == 4 for label in range(4))
    summary = finish(ws, run).summary
    assert list(summary["targets"]) == ["Porto"]
    assert summary["images"] == 16
    assert summary["targets"]["Porto"]["images"] == 8


def test_methods_without_labels_never_get_any(ws: Workspace, dataset_id: int) -> None:
    run = begin(ws, dataset_id)
    material = gather(ws, run, "unlabelled")
    assert len(material.train) == 32
    assert {item.label for item in material.train} == {-1}
    assert material.val == []
    assert not {i.sample_id for i in material.train} & {i.sample_id for i in material.test}


def test_draws_of_different_domains_are_kept_apart(ws: Workspace, sites: int) -> None:
    def drawn(*targets: str) -> list[int]:
        run = plan_runs(ws, _request(sites, "domain-generalisation", target_domains=list(targets)))[0]
        return [item.sample_id for item in gather(ws, run).train]

    assert drawn("Porto") == drawn("Porto")
    assert drawn("Porto") != drawn("Basel")


BAD = [
    ("cross-dataset", {}, ConfigError, "Data sets to test on"),
    ("few-shot", {"test_datasets": [1]}, ConfigError, "Data sets to test on"),
    ("cross-dataset", {"test_datasets": [999]}, DataError, "no longer exists"),
    ("domain-generalisation", {}, ConfigError, "Domains to test on"),
    ("few-shot", {"target_domains": ["Basel"]}, ConfigError, "Domains to test on"),
    ("domain-generalisation", {"target_domains": ["Rome"]}, DataError, "has no domain “Rome”. .*Basel, Leiden, Porto"),
    ("domain-generalisation", {"target_domains": list(SITES)}, DataError, "No domain would be left"),
    ("unsupervised", {}, ConfigError, "learns from labels"),
    ("zero-shot-anomaly", {}, ConfigError, "do not fit together"),
    ("cross-dataset", {"test_datasets": [1], "method": "linear-probe"}, ConfigError, "cannot be used on others"),
]


@pytest.mark.parametrize(("protocol", "values", "error", "said"), BAD)
def test_what_does_not_fit_is_refused(
    ws: Workspace, sites: int, protocol: str, values: dict[str, object], error: type[PromptloupeError], said: str
) -> None:
    with pytest.raises(error, match=said):
        create_runs(ws, _request(sites, protocol, **values))


def _request(dataset_id: int, protocol: str, **values: object) -> TrainRequest:
    return TrainRequest(
        **({"dataset_id": dataset_id, "protocol": protocol, "shots": 2, "seeds": [1], "training": QUICK} | values)
    )


def test_settings_bound_to_classes_are_refused_before_training(ws: Workspace, dataset_id: int, other: int) -> None:
    run = begin(ws, dataset_id, protocol="cross-dataset", test_datasets=[other], settings={"csc": True, "ctx_init": ""})
    with pytest.raises(ConfigError, match="cannot be used on others"):
        finish(ws, run)
    assert not Path(ws.run_folder(run.id) / "checkpoint.pt").exists()


def test_what_was_seen_without_labels_is_not_called_unseen(ws: Workspace, dataset_id: int) -> None:
    """Where nothing is set aside, methods without labels are tested on images that they saw: the note says so."""
    with ws.session() as session:
        tested = session.query(Sample).filter_by(dataset_id=dataset_id, split="test").all()
        for sample in tested:
            sample.split = "train"
        ids = [sample.id for sample in tested]
    try:
        run = begin(ws, dataset_id)
        assert "saw them before, without their labels" in gather(ws, run, "unlabelled").notes[0]
        assert "not trained on" in gather(ws, run).notes[0]
    finally:
        with ws.session() as session:
            for sample in session.query(Sample).filter(Sample.id.in_(ids)):
                sample.split = "test"
