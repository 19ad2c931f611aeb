"""An exported prompt is trained again: the same comes out, and whatever is not the same is found out."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from engines.errors import BackboneError, ConfigError, DataError
from engines.labelling import Entry, record
from engines.runs import reproduce as module
from engines.runs.export import export_prompt
from engines.runs.perform import Observer
from engines.runs.recipe import Recipe, file_digest, opened_export
from engines.runs.reproduce import Reproduction, compare, find_dataset, flat, reproduce
from engines.runs.used_images import UsedImages
from engines.store import Artifact, Dataset, Run, Sample, Verdict, Workspace, new_id
from engines.store.run_queries import experiments
from tests.reports.trained import train
from tests.runs.conftest import write_shapes

SHORT = {"epochs": 2, "views": 1}


@pytest.fixture(scope="module")
def exported(ws: Workspace, dataset_id: int) -> Path:
    """The ZIP file of a CoOp prompt that was trained for two passes."""
    (run,) = train(ws, method="coop", shots=2, seeds=[1], training=SHORT)
    return export_prompt(ws, run.id)


@pytest.fixture
def folder(exported: Path, tmp_path: Path) -> Path:
    """The same, unpacked."""
    place = tmp_path / "prompt"
    with zipfile.ZipFile(exported) as archive:
        archive.extractall(place)
    return place


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Workspace]:
    """Another workspace, with the same images from another folder."""
    from engines.data import ImportRequest, import_dataset

    workspace = Workspace.open(tmp_path / "elsewhere")
    import_dataset(workspace, ImportRequest(source=str(write_shapes(tmp_path / "copied")), name="other name"))
    yield workspace
    workspace.close()


def again(ws: Workspace, path: Path, **options: Any) -> Reproduction:
    with opened_export(path) as found:
        return reproduce(ws, found, new_id(), Observer(), **options)


def rewrite(folder: Path, sealed: bool = True, **changes: Any) -> None:
    """Change the recipe by hand; `sealed`: as somebody would who knows about the checksum."""
    values = json.loads((folder / "run.json").read_text()) | changes
    text = Recipe.model_validate(values).sealed().model_dump_json() if sealed else json.dumps(values)
    (folder / "run.json").write_text(text)


# --- the same ---------------------------------------------------------------------


def test_the_same_comes_out_exactly(ws: Workspace, exported: Path) -> None:
    found = again(ws, exported)
    assert found.same == "exactly", found
    assert found.differences == []
    assert found.learned_difference == 0
    assert found.conditions == []
    assert found.compared >= 10
    with ws.session() as session:
        run = session.get_one(Run, found.run)
        assert run.state == "done"
        assert run.deleted_at is not None
    assert found.run not in {line.id for each in experiments(ws) for line in each.lines}


def test_it_comes_out_in_another_workspace_too(elsewhere: Workspace, folder: Path) -> None:
    found = again(elsewhere, folder)
    assert found.same == "exactly", found


@pytest.mark.parametrize(
    "request_",
    [
        {"method": "tip-adapter", "shots": 2, "seeds": [3]},
        {"method": "kgcoop", "shots": 2, "seeds": [1], "protocol": "base-to-new", "training": SHORT},
        {"method": "zero-shot", "shots": 0, "seeds": [1]},
    ],
    ids=["closed form", "base to new", "nothing learned"],
)
def test_other_kinds_of_training_come_out_the_same(ws: Workspace, dataset_id: int, request_: dict[str, Any]) -> None:
    (run,) = train(ws, **request_)
    assert again(ws, export_prompt(ws, run.id)).same == "exactly"


def test_a_job_that_begins_again_may_use_the_same_run(ws: Workspace, exported: Path) -> None:
    with opened_export(exported) as found:
        first, second = (reproduce(ws, found, "0123456789ab", Observer()) for _ in range(2))
    assert (first.same, second.same) == ("exactly", "exactly")
    with ws.session() as session:
        assert session.query(Run).filter_by(id="0123456789ab").count() == 1
        paths = [row.path for row in session.query(Artifact).filter_by(run_id="0123456789ab")]
    assert len(paths) == len(set(paths))


# --- not the same -------------------------------------------------------------------


def test_a_recipe_that_was_changed_is_found_out(ws: Workspace, folder: Path) -> None:
    rewrite(folder, sealed=False, seed=2)
    with pytest.raises(ConfigError, match=r"run\.json .* has been changed"):
        again(ws, folder)


def test_a_better_number_written_into_the_recipe_is_found_out(ws: Workspace, folder: Path) -> None:
    results = json.loads((folder / "run.json").read_text())["results"]
    claimed = results["accuracy"] - 0.25 if results["accuracy"] > 0.5 else results["accuracy"] + 0.25
    rewrite(folder, results=results | {"accuracy": claimed})
    found = again(ws, folder)
    assert found.same == "no"
    (difference,) = found.differences
    assert difference.number == "accuracy"
    assert difference.then == claimed
    assert difference.now == results["accuracy"]
    assert "1 of" in found.sentence


def test_other_settings_in_the_recipe_are_found_out(ws: Workspace, folder: Path) -> None:
    training = json.loads((folder / "run.json").read_text())["training"]
    rewrite(folder, training=training | {"learning_rate": 0.5})
    found = again(ws, folder)
    assert found.same == "no"
    assert found.learned_difference > 0


def test_another_seed_in_the_recipe_draws_other_images(ws: Workspace, folder: Path) -> None:
    rewrite(folder, seed=2)
    with pytest.raises(DataError, match="images to learn from"):
        again(ws, folder)


def test_learned_numbers_of_another_prompt_are_found_out(ws: Workspace, folder: Path) -> None:
    (other,) = train(ws, method="coop", shots=2, seeds=[5], training=SHORT)
    shutil.copy(ws.run_folder(other.id) / "prompt" / "prompt.safetensors", folder)
    with pytest.raises(ConfigError, match="not those that were exported"):
        again(ws, folder)
    rewrite(folder, tensors=file_digest(folder / "prompt.safetensors"))
    found = again(ws, folder)
    assert found.learned_difference > 0
    assert found.same == "no"
    assert found.differences == []
    assert "not from the training that its recipe tells of" in found.sentence


def test_a_changed_label_is_found_out(elsewhere: Workspace, folder: Path) -> None:
    with elsewhere.session() as session:
        dataset = session.query(Dataset).one()
        ids = [each.id for each in dataset.classes]
        shown = json.loads((folder / "images.json").read_text())["images"]["train"][0]
        sample = session.query(Sample).filter_by(sha256=shown[0]).one()
        other = next(each for each in ids if each != sample.class_id)
        said = {"dataset_id": dataset.id, "sample_id": sample.id, "class_id": other, "verdict": Verdict.LABEL}
    record(elsewhere, Entry(annotator="ada", event=new_id(), comment="", **said))
    with pytest.raises(DataError, match="not as they were") as error:
        again(elsewhere, folder)
    assert "another label" in str(error.value) or "were not used then" in str(error.value)
    assert "Take the changes back" in error.value.remedy


def test_an_image_that_has_changed_or_gone_is_found_out(elsewhere: Workspace, folder: Path) -> None:
    with elsewhere.session() as session:
        shown = json.loads((folder / "images.json").read_text())["images"]
        files = [session.query(Sample).filter_by(sha256=shown[role][0][0]).one().file for role in ("train", "test")]
    Path(files[0]).write_bytes(Path(files[0]).read_bytes() + b" ")
    Path(files[1]).unlink()
    with pytest.raises(DataError, match="1 are gone and 1 have changed"):
        again(elsewhere, folder)


def test_images_that_were_never_imported_are_missed(folder: Path, tmp_path: Path) -> None:
    empty = Workspace.open(tmp_path / "empty")
    with pytest.raises(DataError, match="not in this workspace") as error:
        again(empty, folder)
    assert "Import the same images" in error.value.remedy


def test_a_data_set_that_is_not_whole_says_how_much_is_there(folder: Path, tmp_path: Path) -> None:
    from engines.data import ImportRequest, import_dataset

    images = write_shapes(tmp_path / "fewer")
    for file in sorted(images.rglob("train/blue thing/*.png"))[:4]:
        file.unlink()
    part = Workspace.open(tmp_path / "part")
    import_dataset(part, ImportRequest(source=str(images), name="fewer"))
    used = UsedImages.read(folder / "images.json")
    assert used is not None
    with opened_export(folder) as found, pytest.raises(DataError, match=r"“fewer” holds \d+ of the \d+ images"):
        find_dataset(part, found.recipe.dataset, used)


def test_another_model_is_found_out(ws: Workspace, folder: Path) -> None:
    rewrite(folder, backbone_fingerprint="0" * 64)
    prompt = json.loads((folder / "prompt.json").read_text())
    prompt["backbone"]["fingerprint"] = "0" * 64
    (folder / "prompt.json").write_text(json.dumps(prompt))
    with pytest.raises(BackboneError, match="weights differ"):
        again(ws, folder)


def test_other_versions_are_named_and_can_be_passed_over(ws: Workspace, folder: Path) -> None:
    known = json.loads((folder / "run.json").read_text())["versions"]
    rewrite(folder, versions=known | {"torch": "1.0.0"})
    with pytest.raises(ConfigError, match=rf"torch is {known['torch']}, was 1\.0\.0"):
        again(ws, folder)
    found = again(ws, folder, other_versions=True)
    assert found.same == "exactly"
    assert found.conditions == [f"Another version: torch is {known['torch']}, was 1.0.0."]


def test_a_prompt_that_began_with_another_one_needs_that_one(ws: Workspace, folder: Path) -> None:
    rewrite(folder, start_from="ffffffffffff")
    with pytest.raises(ConfigError, match="not learned from scratch"):
        again(ws, folder)


# --- damaged ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["run.json", "prompt.json", "prompt.safetensors"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ConfigError, match=f"the file {name} is missing"), opened_export(folder):
        pass


@pytest.mark.parametrize("name", ["run.json", "prompt.json", "images.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"format": "x"}'])
def test_a_damaged_file_is_told(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises((ConfigError, DataError)) as error, opened_export(folder):
        pass
    assert error.value.remedy


def test_a_cut_off_zip_file_is_told(exported: Path, tmp_path: Path) -> None:
    part = tmp_path / "part.zip"
    part.write_bytes(exported.read_bytes()[:2000])
    with pytest.raises(ConfigError, match="no ZIP file, or it is damaged"), opened_export(part):
        pass
    with pytest.raises(ConfigError, match="There is no exported prompt"), opened_export(tmp_path / "nowhere"):
        pass


def test_a_zip_file_writes_nothing_outside_its_folder(exported: Path, tmp_path: Path) -> None:
    evil = tmp_path / "evil.zip"
    shutil.copy(exported, evil)
    with zipfile.ZipFile(evil, "a") as archive:
        archive.writestr("../escaped.txt", "x")
    with opened_export(evil) as found:
        assert sorted(file.name for file in found.folder.iterdir()) == [
            "images.json",
            "prompt.json",
            "prompt.safetensors",
            "run.json",
        ]
    assert not (tmp_path / "escaped.txt").exists()


def test_an_older_export_says_that_it_left_too_little(folder: Path) -> None:
    (folder / "run.json").write_text(json.dumps({"dataset": {}, "seed": 1}))
    with pytest.raises(ConfigError, match="older Promptloupe"), opened_export(folder):
        pass


# --- comparing ------------------------------------------------------------------------


def test_numbers_are_compared_by_their_place_and_with_their_tolerance() -> None:
    then = {"accuracy": 0.5, "images": 20, "per_class": [{"name": "a", "count": 10, "accuracy": 0.5}], "macro_f1": 0.5}
    now = {"accuracy": 0.55, "images": 20, "per_class": [{"name": "a", "count": 10, "accuracy": 0.7}], "macro_f1": 0.5}
    found = {each.number: each for each in compare(then, now)}
    assert set(found) == {"accuracy", "per_class: a: accuracy"}
    assert found["accuracy"].tolerance == 1 / 20
    assert found["accuracy"].tolerated
    assert found["per_class: a: accuracy"].tolerance == 1 / 10
    assert not found["per_class: a: accuracy"].tolerated


def test_half_a_point_is_tolerated_of_many_images_and_no_image_more_or_less() -> None:
    found = compare({"accuracy": 0.5, "images": 10_000}, {"accuracy": 0.506, "images": 9_999})
    assert [(each.number, each.tolerance, each.tolerated) for each in found] == [
        ("accuracy", module.TOLERANCE, False),
        ("images", 0.0, False),
    ]


def test_a_number_that_is_missing_is_no_small_difference() -> None:
    (found,) = compare({"accuracy": 0.5, "ece": 0.1}, {"accuracy": 0.5})
    assert (found.number, found.now, found.tolerated) == ("ece", None, False)
    assert flat({"a": float("nan"), "b": True, "c": {"d": 1}}) == {"c: d": 1}


# --- the card ---------------------------------------------------------------------------


def test_the_card_is_yaml_with_the_measured_numbers(ws: Workspace, folder: Path) -> None:
    text = (folder / "README.md").read_text("utf-8")
    _, front, words = text.split("---\n", 2)
    card = yaml.safe_load(front)
    measured = json.loads((folder / "run.json").read_text())["results"]
    assert card["license"] == "other"
    assert card["library_name"] == "open_clip"
    assert card["pipeline_tag"] == "zero-shot-image-classification"
    assert card["base_model"] == "mini-clip"
    assert {"coop", "few-shot"} <= set(card["tags"])
    ((result,),) = (index["results"] for index in card["model-index"])
    assert result["dataset"]["args"] == {"shots": 2, "seed": 1, "protocol": "few-shot"}
    values = {metric["name"]: metric["value"] for metric in result["metrics"]}
    assert values["Accuracy"] == measured["accuracy"]
    assert values["F1, mean of the classes"] == measured["macro_f1"]
    assert "Not for diagnosis" in words


def test_the_card_is_read_by_the_hub_s_own_reader(folder: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    card = hub.ModelCard((folder / "README.md").read_text("utf-8"))
    assert card.data.library_name == "open_clip"
    (accuracy, *_) = [each for each in card.data.eval_results if each.metric_type == "accuracy"]
    assert accuracy.metric_value == json.loads((folder / "run.json").read_text())["results"]["accuracy"]


def test_names_cannot_break_the_card(ws: Workspace, dataset_id: int, tmp_path: Path) -> None:
    (run,) = train(ws, method="zero-shot", shots=0, seeds=[1])
    name = '---\n"evil": [x\n<script>alert(1)</script> # \u2028'
    with ws.session() as session:
        session.get_one(Run, run.id).name = name
    with zipfile.ZipFile(export_prompt(ws, run.id)) as archive:
        text = archive.read("README.md").decode()
    card = yaml.safe_load(text.split("\n---\n", 1)[0])
    assert card["model-index"][0]["name"] == name
    assert "<script>" not in text.split("\n---\n", 1)[1]
