"""A run from its request to its result, through the shipped model."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from engines.backbones import load_backbone
from engines.errors import Cancelled, ConfigError, DataError, PromptloupeError
from engines.prompts import load_prompt
from engines.runs.estimate import check
from engines.runs.export import export_prompt
from engines.runs.perform import Observer, perform
from engines.runs.predict import images_below, predict, prompt_folder
from engines.runs.request import TrainRequest, create_runs
from engines.runs.tables import read_predictions
from engines.store import Artifact, Run, Workspace
from tests.runs.conftest import COLOURS, draw

QUICK = {"epochs": 5, "views": 2, "learning_rate": 0.02}


def begin(ws: Workspace, dataset_id: int, **values: object) -> Run:
    request = TrainRequest(dataset_id=dataset_id, **({"shots": 4, "seeds": [1], "training": QUICK} | values))
    return create_runs(ws, request)[0]


def finish(ws: Workspace, run: Run, observer: Observer | None = None) -> Run:
    summary = perform(ws, run, observer or Observer())
    with ws.session() as session:
        done = session.get_one(Run, run.id)
        done.summary, done.state = summary, "done"
    return done


def test_few_shot_coop(ws: Workspace, dataset_id: int) -> None:
    metrics: dict[str, list[float]] = {}
    observer = Observer(metric=lambda name, step, value: metrics.setdefault(name, []).append(value))
    run = finish(ws, begin(ws, dataset_id, settings={"n_ctx": 4}), observer)
    summary = run.summary
    assert summary["images"] == 24
    assert summary["images_trained"] == 16
    assert summary["accuracy"] > 0.5
    assert summary["class_names"] == sorted(COLOURS)
    assert sum(map(sum, summary["confusion"])) == 24
    assert 0 <= summary["zero_shot"]["accuracy"] <= 1
    assert [len(metrics[name]) for name in ("loss", "train_accuracy", "learning_rate")] == [5, 5, 5]
    assert summary["learned_numbers"] == 4 * load_backbone("mini-clip").text_width
    rows = read_predictions(ws.run_folder(run.id) / "predictions.parquet")
    assert len(rows) == 24
    assert sum(row["true"] == row["predicted"] for row in rows) / 24 == pytest.approx(summary["accuracy"])
    assert all(len(row["top_classes"]) == 3 for row in rows)
    with ws.session() as session:
        kinds = {artifact.kind for artifact in session.query(Artifact).filter_by(run_id=run.id)}
    assert kinds == {"prompt", "settings", "predictions", "snapshots"}
    json.dumps(summary, allow_nan=False)


def test_an_interrupted_run_ends_as_an_undisturbed_one(ws: Workspace, dataset_id: int) -> None:
    undisturbed = finish(ws, begin(ws, dataset_id))
    run, steps = begin(ws, dataset_id), iter(range(1000))

    def stop() -> None:
        if (ws.run_folder(run.id) / "checkpoint.pt").exists() and next(steps) > 1:
            raise Cancelled

    with pytest.raises(Cancelled):
        perform(ws, run, Observer(check_cancelled=stop))
    resumed = finish(ws, run)
    for key in ("accuracy", "ece", "confusion", "reliability"):
        assert resumed.summary[key] == undisturbed.summary[key]


def test_base_to_new(ws: Workspace, dataset_id: int) -> None:
    summary = finish(ws, begin(ws, dataset_id, protocol="base-to-new")).summary
    assert summary["class_names"] == ["blue thing", "green thing"]
    assert summary["new"]["class_names"] == ["grey thing", "red thing"]
    base, new = summary["base_accuracy"], summary["new_accuracy"]
    assert summary["harmonic_mean"] == pytest.approx(2 * base * new / (base + new) if base + new else 0)
    assert summary["images_trained"] == 8
    assert set(summary["zero_shot"]) >= {"base_accuracy", "new_accuracy", "harmonic_mean"}


def test_zero_shot_and_linear_probe(ws: Workspace, dataset_id: int) -> None:
    ready_made = finish(ws, begin(ws, dataset_id, method="zero-shot", seeds=[1, 2, 3]))
    assert ready_made.summary["accuracy"] == ready_made.summary["zero_shot"]["accuracy"]
    assert (ready_made.shots, ready_made.summary["images_trained"]) == (0, 0)
    probe = finish(ws, begin(ws, dataset_id, method="linear-probe"))
    assert probe.summary["accuracy"] > 0.9


def test_fresh_crops_for_every_step(ws: Workspace, dataset_id: int) -> None:
    live = {"epochs": 2, "views": 0, "batch_size": 8}
    first = finish(ws, begin(ws, dataset_id, training=live))
    second = finish(ws, begin(ws, dataset_id, training=live))
    assert first.summary["confusion"] == second.summary["confusion"]
    assert first.summary["ece"] == second.summary["ece"]


def test_all_images(ws: Workspace, dataset_id: int) -> None:
    assert finish(ws, begin(ws, dataset_id, shots=0)).summary["images_trained"] >= 16


def test_features_are_computed_once(ws: Workspace, dataset_id: int, monkeypatch: pytest.MonkeyPatch) -> None:
    finish(ws, begin(ws, dataset_id))
    backbone = load_backbone("mini-clip")

    def refuse(*args: object) -> None:
        raise AssertionError("an image was looked at again")

    monkeypatch.setattr(type(backbone), "encode_image", refuse)
    finish(ws, begin(ws, dataset_id, settings={"n_ctx": 2}))


def test_runs_that_differ_by_seed_share_an_experiment(ws: Workspace, dataset_id: int) -> None:
    runs = create_runs(ws, TrainRequest(dataset_id=dataset_id, seeds=[1, 2]))
    (other,) = create_runs(ws, TrainRequest(dataset_id=dataset_id, seeds=[1], settings={"n_ctx": 4}))
    assert runs[0].experiment == runs[1].experiment != other.experiment
    assert runs[0].config["training"]["epochs"] == 200
    assert "16 images per class" in runs[0].name


BAD = [
    ({"dataset_id": 999}, "no longer exists"),
    ({"method": "copo"}, "no method called"),
    ({"training": {"epochs": 0}}, "epochs"),
    ({"training": {"epoch": 5}}, "epoch"),
    ({"training": {"learning_rate": "fast"}}, "learning_rate"),
    ({"training": {"optimizer": "lion"}}, "optimizer"),
    ({"settings": {"n_context": 4}}, "n_context"),
    ({"settings": {"n_ctx": 0}}, "at least 1"),
    ({"settings": {"n_ctx": 65}}, "at most 64"),
    ({"settings": {"n_ctx": 2.5}}, "whole number"),
    ({"settings": {"n_ctx": True}}, "whole number"),
    ({"settings": {"csc": "yes"}}, "true or false"),
    ({"settings": {"ctx_init": 3}}, "text"),
    ({"settings": {"class_token_position": "behind"}}, "end, middle, front"),
    ({"method": "linear-probe", "settings": {"strength": 0}}, "more than 0"),
]


@pytest.mark.parametrize(("values", "said"), BAD)
def test_bad_requests(ws: Workspace, dataset_id: int, values: dict[str, object], said: str) -> None:
    with ws.session() as session:
        before = session.query(Run).count()
    with pytest.raises(PromptloupeError, match=said):
        create_runs(ws, TrainRequest(**({"dataset_id": dataset_id} | values)))
    with ws.session() as session:
        assert session.query(Run).count() == before


@pytest.mark.parametrize(
    "values", [{"seeds": []}, {"seeds": [1, 1]}, {"seeds": [-1]}, {"shots": -1}, {"protocol": "x"}]
)
def test_requests_that_make_no_sense(dataset_id: int, values: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        TrainRequest(**({"dataset_id": dataset_id} | values))


def test_predict_on_images_never_imported(ws: Workspace, dataset_id: int, tmp_path: Path) -> None:
    run = finish(ws, begin(ws, dataset_id, method="linear-probe"))
    draw(COLOURS["red thing"], 77).save(tmp_path / "a.png")
    (tmp_path / "sub").mkdir()
    draw(COLOURS["blue thing"], 78).save(tmp_path / "sub" / "b.jpg")
    (tmp_path / "c.png").write_bytes(b"not an image")
    (tmp_path / "notes.txt").write_text("ignored")
    answers = predict(prompt_folder(ws, run.id), images_below(tmp_path))
    assert [Path(answer["file"]).name for answer in answers] == ["a.png", "c.png", "b.jpg"]
    assert answers[0]["learned"][0]["class"] == "red thing"
    assert answers[2]["learned"][0]["class"] == "blue thing"
    assert "error" in answers[1]
    assert sum(best["probability"] for best in answers[0]["learned"]) <= 1.0001
    assert len(answers[0]["ready_made"]) == 3


def test_predict_refusals(ws: Workspace, dataset_id: int, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such run"):
        prompt_folder(ws, "nope")
    with pytest.raises(ConfigError, match="not finished"):
        prompt_folder(ws, begin(ws, dataset_id).id)
    with pytest.raises(DataError, match="no images"):
        images_below(tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        images_below(tmp_path / "nowhere")


def test_export_can_be_loaded_elsewhere(ws: Workspace, dataset_id: int, tmp_path: Path) -> None:
    run = finish(ws, begin(ws, dataset_id))
    file = export_prompt(ws, run.id)
    assert file.parent == ws.folder("exports")
    with zipfile.ZipFile(file) as archive:
        archive.extractall(tmp_path)
    prompt = load_prompt(tmp_path, load_backbone("mini-clip"))
    assert prompt.class_names == sorted(COLOURS)
    card = (tmp_path / "README.md").read_text()
    assert card.startswith("---\n")
    assert "Not for diagnosis" in card
    recipe = json.loads((tmp_path / "run.json").read_text())
    assert recipe["seed"] == 1
    assert recipe["dataset"]["fingerprint"] == run.dataset_fingerprint


def test_estimate(dataset_id: int) -> None:
    names = sorted(COLOURS)
    good = check(TrainRequest(dataset_id=dataset_id), names, 24)
    assert good["ok"]
    assert good["seconds"] > 0
    assert good["memory_mb"] > 1
    for values, field in (
        ({"settings": {"n_ctx": 0}}, "n_ctx"),
        ({"training": {"epochs": -1}}, "settings"),
        ({"method": "linear-probe", "protocol": "base-to-new"}, "protocol"),
        ({"backbone": "no-such-model"}, "settings"),
    ):
        bad = check(TrainRequest(**({"dataset_id": dataset_id} | values)), names, 24)
        assert not bad["ok"]
        assert bad["problems"][0]["field"] == field


@pytest.mark.parametrize("method", ["tfup", "tfup-t", "promptkd"])
@pytest.mark.parametrize("protocol", ["unsupervised", "base-to-new"])
def test_cost_of_methods_without_labels(dataset_id: int, method: str, protocol: str) -> None:
    request = TrainRequest(dataset_id=dataset_id, method=method, protocol=protocol, shots=0)
    answer = check(request, sorted(COLOURS), 24)
    assert answer["ok"], answer["problems"]
    assert "labelled" not in answer["note"]


def test_a_teacher_that_is_not_there_is_told_before_the_start(dataset_id: int) -> None:
    request = TrainRequest(dataset_id=dataset_id, method="promptkd", settings={"teacher": "nobody"})
    answer = check(request, sorted(COLOURS), 24)
    assert not answer["ok"]
    assert "nobody" in answer["problems"][0]["message"]
