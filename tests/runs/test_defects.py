"""Finding defects from the request to the result: learned on painted textures, tried on one that was never seen."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from engines.backbones import load_backbone
from engines.data import ImportRequest, import_dataset
from engines.errors import ConfigError, DataError, PromptloupeError
from engines.prompts import create_method, load_prompt
from engines.prompts.anomalyclip import AnomalyCLIP
from engines.runs.anomalies import judge_target, summary_of
from engines.runs.estimate import PROBE, check
from engines.runs.material import Item, Target, gather
from engines.runs.perform import Observer
from engines.runs.request import TrainRequest, create_runs, plan_runs
from engines.runs.views import KEPT_BYTES, Masks, StillPixels, mask_of
from engines.store import Artifact, Dataset, Run, Sample, Workspace
from tests.runs.test_perform import finish

SIDE = 96
MEASURES = ("image_auroc", "image_ap", "pixel_auroc", "pixel_ap", "pro")
QUICK = {"epochs": 1}


def texture(kind: str, rng: np.random.Generator) -> np.ndarray:
    """Coloured stripes, checks, rings or waves, somewhere in their period."""
    y, x = np.mgrid[:SIDE, :SIDE].astype(float)
    start = rng.uniform(0, 2 * np.pi)
    grey, colour = {
        "stripes": (np.sin((x + 0.3 * y) / 2.5 + start), (150, 120, 90)),
        "checks": (np.sign(np.sin(x / 5 + start) * np.sin(y / 5)), (110, 130, 150)),
        "rings": (np.sin(np.hypot(x - SIDE / 2, y - SIDE / 2) / 3 + start), (140, 140, 120)),
        "waves": ((np.sin(x / 4 + start) + np.sin(y / 4)) / 2, (120, 150, 120)),
    }[kind]
    return np.array(colour) + 25 * grey[..., None] + rng.normal(0, 6, (SIDE, SIDE, 3))


def stained(picture: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """With a dark stain somewhere, and where it is."""
    y, x = np.mgrid[:SIDE, :SIDE]
    centre, radius = rng.uniform(20, SIDE - 20, 2), rng.uniform(8, 14)
    stain = np.hypot(y - centre[0], (x - centre[1]) * 0.8) < radius
    return np.where(stain[..., None], np.array((40, 25, 25)) + rng.normal(0, 10, picture.shape), picture), stain


def save(pixels: np.ndarray, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file)


def write_textures(root: Path, kinds: list[str], count: int = 6, trained: bool = False, masks: bool = True) -> Path:
    """Folders as in MVTec AD; `trained` puts the same among the training images."""
    for kind in kinds:
        rng = np.random.default_rng([*kind.encode()])
        for split in ("train", "test") if trained else ("test",):
            for i in range(count):
                save(texture(kind, rng), root / kind / split / "good" / f"{split}{i}.png")
                picture, stain = stained(texture(kind, rng), rng)
                save(picture, root / kind / split / "stain" / f"{split}{i}.png")
                if masks:
                    save(255 * stain, root / kind / "ground_truth" / "stain" / f"{split}{i}_mask.png")
    return root


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    workspace = Workspace.open(tmp_path_factory.mktemp("defects") / "lab")
    yield workspace
    workspace.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("textures")


def imported(lab: Workspace, source: Path) -> int:
    found = import_dataset(lab, ImportRequest(source=str(source))).dataset_id
    assert found is not None
    return found


@pytest.fixture(scope="module")
def known(lab: Workspace, folder: Path) -> int:
    return imported(lab, write_textures(folder / "known", ["stripes", "checks", "rings"]))


@pytest.fixture(scope="module")
def unseen(lab: Workspace, folder: Path) -> int:
    return imported(lab, write_textures(folder / "unseen", ["waves"]))


def request(dataset_id: int, *targets: int, **values: object) -> TrainRequest:
    asked = {"dataset_id": dataset_id, "method": "anomalyclip", "protocol": "zero-shot-anomaly", "seeds": [1]}
    return TrainRequest(**(asked | {"test_datasets": list(targets)} | values))


@pytest.fixture(scope="module")
def done(lab: Workspace, known: int, unseen: int) -> Run:
    (run,) = create_runs(lab, request(known, unseen, training={"epochs": 5}))
    return finish(lab, run)


def test_defects_are_found_on_a_texture_that_was_never_seen(done: Run) -> None:
    """The proof: after learning on other textures, places and images are told better than by ready-made sentences."""
    summary = done.summary
    assert (summary["images_trained"], summary["images"], done.shots) == (36, 12, 0)
    assert summary["pixel_auroc"] > 0.97 > summary["zero_shot"]["pixel_auroc"]
    assert summary["pro"] > 0.9 > summary["zero_shot"]["pro"]
    assert summary["image_auroc"] > 0.9 > summary["zero_shot"]["image_auroc"]
    assert summary["accuracy"] > summary["zero_shot"]["accuracy"]
    assert summary["class_names"] == ["normal", "anomalous"]
    assert summary["targets"]["unseen"]["things"]["waves"]["images"] == 12
    for name in MEASURES:
        assert (
            summary[name] == summary["targets"]["unseen"][name] == summary["targets"]["unseen"]["things"]["waves"][name]
        )


def test_what_a_run_leaves_behind(lab: Workspace, done: Run) -> None:
    place = lab.run_folder(done.id)
    rows = json.loads((place / "defects.json").read_text())
    assert len(rows) == 12
    assert {row["target"] for row in rows} == {"unseen"}
    with lab.session() as session:
        samples = {s.id: s for s in session.query(Sample)}
        assert "defects" in {a.kind for a in session.query(Artifact).filter_by(run_id=done.id)}
    for row in rows:
        sample = samples[row["sample_id"]]
        assert row["anomalous"] == bool(sample.mask)
        shown = np.asarray(Image.open(place / row["map"])) / 255
        if sample.mask:
            marked = mask_of(lab, Item(0, "", "", 1, mask=sample.mask), len(shown))
            assert shown[marked].mean() > shown[~marked].mean() + 0.3
    loaded = load_prompt(place / "prompt", load_backbone("mini-clip"))
    first = samples[rows[0]["sample_id"]]
    with torch.no_grad():
        logits = loaded.logits(loaded.prepare(Image.open(lab.resolve(first.file)))[None])
    assert float(logits.softmax(dim=1)[0, 1]) == pytest.approx(rows[0]["score"], abs=1e-4)
    json.dumps(done.summary, allow_nan=False)


def test_a_run_that_was_stopped_goes_on_to_the_same_end(lab: Workspace, known: int, unseen: int, done: Run) -> None:
    class StoppedError(Exception):
        pass

    def stop(name: str, epoch: int, value: float) -> None:
        if epoch == 2:
            raise StoppedError

    (run,) = create_runs(lab, request(known, unseen, training={"epochs": 5}))
    with pytest.raises(StoppedError):
        finish(lab, run, Observer(metric=stop))
    assert finish(lab, run).summary["pixel_auroc"] == pytest.approx(done.summary["pixel_auroc"], abs=1e-6)


def test_tested_on_its_own_images(lab: Workspace, folder: Path) -> None:
    dataset = imported(lab, write_textures(folder / "own", ["stripes", "checks"], 3, trained=True))
    (run,) = create_runs(lab, request(dataset, training=QUICK))
    material = gather(lab, run, "masks")
    assert not {i.sample_id for i in material.train} & {i.sample_id for i in material.test}
    summary = finish(lab, run).summary
    assert (summary["images_trained"], summary["images"]) == (12, 12)
    assert list(summary["things"]) == ["checks", "stripes"]
    assert "targets" not in summary
    things = summary["things"].values()
    assert summary["pro"] == pytest.approx(sum(thing["pro"] for thing in things) / 2)


def test_splits_without_defects_are_not_learned_from(lab: Workspace, folder: Path, unseen: int) -> None:
    """MVTec AD has good images alone among its training images; published training leaves them out."""
    root = write_textures(folder / "mvtec", ["stripes"], 2)
    save(texture("stripes", np.random.default_rng(9)), root / "stripes" / "train" / "good" / "extra.png")
    dataset = imported(lab, root)
    material = gather(lab, plan_runs(lab, request(dataset, unseen))[0], "masks")
    assert [item.label for item in material.train].count(1) == 2
    assert len(material.train) == 4
    with pytest.raises(DataError, match="set aside for testing show defects"):
        gather(lab, plan_runs(lab, request(dataset))[0], "masks")


def test_any_names_of_classes_and_no_masks_to_test_on(lab: Workspace, folder: Path, known: int) -> None:
    """Whatever is not normal is anomalous; where nothing was marked, places cannot be measured."""
    rng = np.random.default_rng(0)
    for name in ("Healthy", "burn", "stain"):
        for i in range(2):
            picture = texture("waves", rng)
            save(
                picture if name == "Healthy" else stained(picture, rng)[0],
                folder / "named" / "test" / name / f"{i}.png",
            )
    dataset = imported(lab, folder / "named")
    (run,) = create_runs(lab, request(known, dataset, training=QUICK))
    summary = finish(lab, run).summary
    assert summary["images"] == 6
    assert summary["confusion"][1][0] + summary["confusion"][1][1] == 4
    assert math.isfinite(summary["image_auroc"])
    assert summary["pixel_auroc"] is summary["pro"] is summary["zero_shot"]["pixel_ap"] is None
    with pytest.raises(DataError, match="does not say where its defects are"):
        plan_runs(lab, request(dataset, known))


def test_images_without_masks_are_told(lab: Workspace, folder: Path, unseen: int) -> None:
    root = write_textures(folder / "partly", ["rings"], 2)
    (root / "rings" / "ground_truth" / "stain" / "test0_mask.png").unlink()
    run = plan_runs(lab, request(imported(lab, root), unseen))[0]
    assert "Defects of 1 training images are not marked" in gather(lab, run, "masks").notes[0]


@pytest.mark.parametrize("damage", ["missing", "garbage"])
def test_masks_that_are_lost(lab: Workspace, folder: Path, damage: str) -> None:
    place = folder / f"{damage}.png"
    if damage == "garbage":
        place.write_bytes(b"no picture")
    with pytest.raises(DataError, match=f"“{damage}.png”, which marks defects, can no longer be read"):
        mask_of(lab, Item(0, "", "", 1, mask=str(place)), 32)


def test_masks_are_stretched_like_their_images(lab: Workspace, folder: Path) -> None:
    marked = np.zeros((40, 80), np.uint8)
    marked[:20, 40:] = 1  # whatever is not black
    save(marked, folder / "quarter.png")
    found = mask_of(lab, Item(0, "", "", 1, mask=str(folder / "quarter.png")), 32)
    assert found[:16, 16:].all()
    assert found.sum() == 256
    assert not mask_of(lab, Item(0, "", "", 0), 32).any()
    masks = Masks(lab, [Item(0, "", "", 0), Item(1, "", "", 1, mask=str(folder / "quarter.png"))], 30)
    for epoch in range(2):
        both = masks(torch.tensor([1, 0]), epoch)
        assert torch.equal(both[0], torch.from_numpy(mask_of(lab, masks.items[1], 30)).float())
        assert both.shape == (2, 30, 30)
        assert not both[1].any()


def test_nothing_to_test_on(lab: Workspace, tmp_path: Path) -> None:
    method = create_method("anomalyclip", load_backbone("mini-clip"), ["normal", "anomalous"])
    assert isinstance(method, AnomalyCLIP)
    empty = Target("nothing", 0, ["normal", "anomalous"], [])
    judged = judge_target(lab, method, empty, tmp_path, lambda done: None)
    summary = summary_of({"nothing": judged}, own=True)
    assert (summary["images"], summary["pro"], summary["things"]) == (0, None, {})


def test_pixels_are_kept_while_there_is_room(lab: Workspace, unseen: int, known: int) -> None:
    method = create_method("anomalyclip", load_backbone("mini-clip"), ["normal", "anomalous"])
    items = gather(lab, plan_runs(lab, request(known, unseen))[0], "masks").test
    pixels = StillPixels(lab, method.prepare, items)
    first = pixels(torch.tensor([2, 0]), 0)
    assert first.shape == (2, 3, method.image_size, method.image_size)
    assert torch.equal(pixels(torch.tensor([2, 0]), 7), first)
    assert pixels.room == KEPT_BYTES - first.nbytes
    pixels.room = 0
    pixels(torch.tensor([1]), 0)
    assert set(pixels.kept) == {0, 2}


BAD = [
    ({"method": "coop"}, ConfigError, "do not fit together"),
    ({"method": "zero-shot"}, ConfigError, "do not fit together"),
    ({"protocol": "few-shot", "test_datasets": []}, ConfigError, "do not fit together"),
    ({"test_datasets": [999]}, DataError, "no longer exists"),
    ({"target_domains": ["rings"]}, ConfigError, "Domains to test on"),
]


@pytest.mark.parametrize(("values", "error", "said"), BAD)
def test_what_does_not_fit_is_refused(
    lab: Workspace, known: int, values: dict[str, object], error: type[PromptloupeError], said: str
) -> None:
    with pytest.raises(error, match=said):
        plan_runs(lab, request(known, **values))


def test_no_class_is_normal(lab: Workspace, shapes: Path, known: int) -> None:
    shapes_id = imported(lab, shapes)
    for asked in (request(shapes_id), request(known, shapes_id)):
        with pytest.raises(DataError, match="does not say which images are normal"):
            plan_runs(lab, asked)


def test_what_it_will_cost(lab: Workspace, known: int, unseen: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with lab.session() as session:
        names = [c.name for c in session.get_one(Dataset, known).classes] + ["scratch"]
    found = check(request(known, unseen), names, 36)
    assert found["ok"]
    assert found["seconds"] > 0
    many = check(request(known, unseen), names, 36, 3600)
    assert many["seconds"] > 10 * found["seconds"]  # every image is learned from
    looks, see = [], AnomalyCLIP.see
    monkeypatch.setattr(AnomalyCLIP, "see", lambda self, pixels: looks.append(len(pixels)) or see(self, pixels))
    check(request(known, unseen), names, 36, 3600)
    assert looks == [1, PROBE, 8]  # the step that is timed knows its images already, as all after the first pass do
