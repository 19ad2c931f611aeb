"""Pictures under study: where words look, repairs that are cut off and go on, edits, masks, and bad input."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from engines.diffusion.leakage import working
from engines.diffusion.leakage.editing import edit_study
from engines.diffusion.leakage.edits import WAYS
from engines.diffusion.leakage.measuring import measure
from engines.diffusion.leakage.repairs import find_repair, open_repair, repairs
from engines.diffusion.leakage.requests import EditRequest, MapsRequest, RepairRequest
from engines.diffusion.leakage.samples import SAMPLES
from engines.diffusion.leakage.sentences import leak_sentence, overlap_sentence
from engines.diffusion.leakage.studies import Study, find_study, studies, study_file, study_sample, word_number
from engines.diffusion.leakage.working import Watch, look, model_for, repair_study
from engines.diffusion.model import TextToImage
from engines.diffusion.places import find_text_to_image, text_to_image_models
from engines.diffusion.settings import RepairSettings
from engines.errors import BackboneError, Cancelled, ConfigError, DataError, PromptloupeError
from engines.jobs import JobContext
from engines.jobs.registry import find_kind
from engines.store import Workspace
from tests.diffusion.tiny import tiny_pipeline

STEPS = 3
CIRCLE, STAR = 2, 6
SHORT = RepairSettings(attention_steps=2, null_steps=1)
SWAPPED = "a red heart and a blue star on grass"
LONG = "a red circle " + "and a blue star " * 30


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny_pipeline("sd1").save_pretrained(folder / "tiny")
    return folder


@pytest.fixture(autouse=True)
def in_models_folder(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMPTLOUPE_MODELS", str(models))


@pytest.fixture(scope="module")
def model(models: Path) -> TextToImage:
    from engines.diffusion.loading import load_text_to_image

    return load_text_to_image(models / "tiny", "cpu")


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    return Workspace.open(tmp_path / "clinic")


@pytest.fixture
def study(ws: Workspace) -> Study:
    return study_sample(ws, "circle-star", "tiny", STEPS)


def watch(check: Callable[[], None] = lambda: None) -> Watch:
    return Watch(lambda share, what: None, check)


def request(study: Study, **options: Any) -> RepairRequest:
    return RepairRequest(**{"study": study.id, "words": [CIRCLE, STAR], "settings": SHORT} | options)


def after(times: int) -> Callable[[], None]:
    """Somebody cancels at the so many-th look."""
    left = [times]

    def check() -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Cancelled

    return check


def test_every_word_has_a_map_at_every_step_and_leaks_add_up(study: Study, model: TextToImage) -> None:
    assert not study.looked
    assert look(study, model, watch()) == {"unread": "", "cut": []}
    maps = study.maps()
    assert maps is not None
    assert maps.shape == (len(study.words), STEPS, 16, 16)
    assert (maps.sum(axis=(2, 3)) > 0).all()
    figures = study.figures()
    assert set(figures) == {str(CIRCLE), str(STAR)}
    for rows in figures.values():
        assert len(rows) == 1 + STEPS
        for row in rows:
            assert row["own"] + sum(row["others"].values()) + row["background"] == pytest.approx(1, abs=1e-4)
    assert find_study(Workspace.open(study.folder.parents[2]), study.id).looked  # also for the next start


def test_leaks_are_said_in_words() -> None:
    row = {"own": 0.29, "others": {"6": 0.31}, "background": 0.4}
    words = ["a", "red", "circle", "and", "a", "blue", "star"]
    said = leak_sentence(words, 2, row)
    assert said == "31% of “circle” falls on the star, 40% on the background, 29% on the circle itself."
    half = np.zeros((7, 2, 2), np.float32)
    half[2, 0], half[6, :, 0] = 1, 1
    assert overlap_sentence(words, 2, 6, half) == (
        "“circle” and “star” look at the same places with 50% of their attention."
    )


def test_a_cancelled_repair_goes_on_and_ends_as_if_nothing_had_happened(
    study: Study, model: TextToImage, tmp_path: Path
) -> None:
    twin = study_sample(Workspace.open(tmp_path / "twin"), "circle-star", "tiny", STEPS)
    whole = repair_study(twin, model, request(twin), watch())
    for looks in (1, STEPS + 4):  # on the way to noise, and within the second step
        with pytest.raises(Cancelled):
            repair_study(study, model, request(study), watch(after(looks)))
    assert not open_repair(study, request(study)).finished
    found = repair_study(study, model, request(study), watch())
    assert found.id == whole.id
    assert (found.folder / "picture.png").read_bytes() == (whole.folder / "picture.png").read_bytes()
    assert [step for step, _ in found.live()["updates"]] == [step for step, _ in whole.live()["updates"]]
    assert repair_study(study, None, request(study), watch()).finished  # type: ignore[arg-type] # nothing left to do


def test_a_killed_worker_leaves_a_repair_that_goes_on(
    study: Study, model: TextToImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(working, "SAVE_EVERY", 0.0)
    left = tmp_path / "left"

    def die() -> None:  # what lies on the disk at this moment is all that a kill leaves
        state = open_repair(study, request(study)).state
        if state.is_file() and not left.exists():
            shutil.copytree(study.folder, left)

    whole = repair_study(study, model, request(study), watch(die))
    picture = (whole.folder / "picture.png").read_bytes()
    shutil.rmtree(study.folder)
    shutil.copytree(left, study.folder)
    again = repair_study(study, model, request(study), watch())
    assert (again.folder / "picture.png").read_bytes() == picture


def test_a_damaged_state_begins_anew(study: Study, model: TextToImage) -> None:
    found = open_repair(study, request(study))
    found.state.write_bytes(b"torn")
    assert repair_study(study, model, request(study), watch()).finished


def test_a_repair_shows_its_curves_and_what_changed(study: Study, model: TextToImage) -> None:
    look(study, model, watch())
    found = repair_study(study, model, request(study), watch())
    updates = found.live()["updates"]
    assert len(updates) == found.result["updates"] > 0
    assert {"balancing", "disjoint"} <= set(updates[0][1])
    before, behind = study.maps(), found.maps()
    assert before is not None
    assert behind is not None
    assert behind.shape == before.shape
    assert set(found.figures()) == {str(CIRCLE), str(STAR)}
    assert found.preview is not None
    assert [each.id for each in repairs(study)] == [found.id]


def test_masks_are_drawn_taken_back_and_bind_words(study: Study, model: TextToImage) -> None:
    look(study, model, watch())
    true = study.mask(STAR)
    assert true is not None
    left = np.zeros((64, 64), bool)
    left[:, :32] = True
    study.draw(STAR, left)
    measure(study)
    assert study.mask(STAR)[:, :16].all()  # type: ignore[index]
    drawn = study.figures()[str(STAR)][0]["own"]
    found = repair_study(study, model, request(study, masks=True, adjectives={STAR: STAR - 1}), watch())
    assert set(found.live()["updates"][0][1]) == {"similarity", "overlap", "binding"}
    study.draw(STAR, None)
    measure(study)
    assert (study.mask(STAR) == true).all()
    assert study.figures()[str(STAR)][0]["own"] != pytest.approx(drawn)
    with pytest.raises(ConfigError, match="no mask for “red”"):
        open_repair(study, request(study, words=[1], masks=True))
    with pytest.raises(ConfigError, match="Adjectives can be bound with masks only"):
        open_repair(study, request(study, adjectives={STAR: STAR - 1}))
    with pytest.raises(ConfigError, match="mask is empty"):
        study.draw(STAR, np.zeros((8, 8), bool))


@pytest.fixture
def repaired(study: Study, model: TextToImage) -> RepairRequest:
    return repair_study(study, model, request(study), watch()).request


def test_an_edit_is_made_three_ways_and_each_file_says_that_it_is_synthetic(
    study: Study, model: TextToImage, repaired: RepairRequest
) -> None:
    wanted = EditRequest(study=study.id, repair=repairs(study)[0].id, prompt=SWAPPED)
    with pytest.raises(Cancelled):
        edit_study(study, model, wanted, watch(after(2 * STEPS)))
    found = edit_study(study, model, wanted, watch())
    record = found.record
    assert record is not None
    assert set(record["ways"]) == set(WAYS)
    assert record["measured"] == "outside"
    mask = study.mask(2)
    assert mask is not None
    left = int(record["middle"] * study.facts.side)
    assert (
        abs(mask[:, :left].sum() - mask[:, left + 1 :].sum()) < mask.sum() / 10
    )  # of the object, as much on both sides
    for way in WAYS:
        with Image.open(found.picture(way)) as picture:
            assert picture.size == (study.facts.side,) * 2
            assert picture.info["synthetic"] == "true"
            assert picture.info["edited caption"] == SWAPPED
        row = record["ways"][way]
        assert row["psnr"] == pytest.approx(-10 * np.log10(row["mse"]), abs=1e-6)
        assert isinstance(row["clip"], float)
    pictures = {way: found.picture(way).read_bytes() for way in WAYS}
    assert len(set(pictures.values())) == 3


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"prompt": "a red circle and a blue star on grass"}, "the same as before"),
        ({"prompt": "a heart"}, "one for one"),
        ({"prompt": SWAPPED, "kind": "weight"}, "leaves the caption"),
        ({"prompt": "a red circle and a blue star on grass", "kind": "weight"}, "another weight"),
        ({"prompt": "a red circle and a blue star on sand", "where": "masks"}, "no mask"),
        ({"prompt": SWAPPED, "repair": "missing"}, "no such repair"),
    ],
    ids=["same", "fewer words", "weight and swap", "no weight", "no mask", "no repair"],
)
def test_edits_that_cannot_work_say_why(
    study: Study, model: TextToImage, repaired: RepairRequest, options: dict[str, Any], said: str
) -> None:
    given = {"study": study.id, "repair": repairs(study)[0].id} | options
    with pytest.raises(PromptloupeError, match=said):
        edit_study(study, model, EditRequest(**given), watch())


@pytest.mark.parametrize(
    "options",
    [
        {"prompt": "a big red circle and a blue star on grass", "kind": "refine", "bound": [0]},
        {"prompt": "a red circle and a blue star on grass", "kind": "weight", "weights": {STAR: 3.0}},
        {"prompt": SWAPPED, "where": "masks"},
    ],
    ids=["add", "weight", "masks"],
)
def test_words_are_added_and_weighted(
    study: Study, model: TextToImage, repaired: RepairRequest, options: dict[str, Any]
) -> None:
    wanted = EditRequest(study=study.id, repair=repairs(study)[0].id, **options)
    record = edit_study(study, model, wanted, watch()).record
    assert record is not None
    assert all(row["psnr"] > 0 for row in record["ways"].values())


# --- bad input --------------------------------------------------------------------------------------------------------


def image_file(folder: Path, image: Image.Image) -> Path:
    file = folder / "picture.png"
    image.save(file)
    return file


@pytest.mark.parametrize(
    ("size", "said"), [((1, 1), "too small"), ((20_000, 20), "most would be cut off"), ((7, 300), "too small")]
)
def test_pictures_that_show_nothing_are_refused(
    ws: Workspace, tmp_path: Path, size: tuple[int, int], said: str
) -> None:
    with pytest.raises(DataError, match=said):
        study_file(ws, image_file(tmp_path, Image.new("RGB", size)), "a cell", "tiny")
    assert studies(ws) == []


def test_a_deep_picture_and_an_emoji_work(ws: Workspace, tmp_path: Path, model: TextToImage) -> None:
    deep = Image.fromarray(np.arange(64 * 48, dtype=np.uint16).reshape(64, 48) * 20)
    study = study_file(ws, image_file(tmp_path, deep), "a 🐱 beside a cell", "tiny", STEPS)
    assert np.asarray(Image.open(study.image)).std() > 10  # stretched, not black
    look(study, model, watch())
    maps = study.maps()
    assert maps is not None
    assert study.words[1] == "🐱"
    assert maps[1].sum() > 0
    assert study.figures() == {}  # no mask is known


def test_the_end_of_a_long_caption_is_not_read_and_that_is_said(ws: Workspace, model: TextToImage) -> None:
    study = study_sample(ws, "circle-star", "tiny", STEPS, caption=LONG)
    found = look(study, model, watch())
    assert found["unread"].endswith("star")
    last = len(study.words) - 1
    assert last in found["cut"]
    with pytest.raises(ConfigError, match="too long"):
        repair_study(study, model, request(study, words=[last]), watch())


@pytest.mark.parametrize("caption", ["", "   ", "...", "x" * 3000], ids=["none", "blanks", "dots", "endless"])
def test_captions_without_words_are_refused(ws: Workspace, tmp_path: Path, caption: str) -> None:
    with pytest.raises(ConfigError, match=r"no caption|3,000 characters"):
        study_file(ws, image_file(tmp_path, Image.new("RGB", (64, 64))), caption, "tiny")


def test_words_models_and_studies_that_are_not_there(ws: Workspace, study: Study) -> None:
    with pytest.raises(ConfigError, match="does not contain “hippo”"):
        word_number(study.facts.caption, "hippo")
    with pytest.raises(ConfigError, match="not in the caption"):
        open_repair(study, request(study, words=[99]))
    with pytest.raises(BackboneError, match="no text-to-image model “nothing”"):
        study_sample(ws, "circle-star", "nothing")
    with pytest.raises(DataError, match="no such picture"):
        find_study(ws, "../../etc")
    with pytest.raises(DataError, match="no such repair"):
        find_repair(study, "../..")


def test_too_little_memory_names_the_remedy(study: Study, model: TextToImage, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")

    with monkeypatch.context() as patched:
        patched.setattr(model, "predict", full)
        with pytest.raises(BackboneError, match="attention slicing"):
            repair_study(study, model, request(study), watch())
    sliced = model_for(study, MapsRequest(study=study.id, slicing=True, device="cpu"))
    assert repair_study(study, sliced, request(study), watch()).finished


def test_the_jobs_do_the_same_and_name_what_they_made(ws: Workspace, study: Study) -> None:
    job = JobContext(ws)
    maps, repair, edit = (find_kind(f"leakage-{name}") for name in ("maps", "repair", "edit"))
    assert maps.run(job, maps.parse({"study": study.id}))["study"] == study.id
    done = repair.run(job, repair.parse(request(study)))
    assert find_repair(study, done["repair"]).finished
    made = edit.run(job, edit.parse({"study": study.id, "repair": done["repair"], "prompt": SWAPPED}))
    assert set(made["ways"]) == set(WAYS)


def write_captioner(folder: Path) -> None:
    """A tiny random BLIP that knows few words."""
    from transformers import BertTokenizer, BlipConfig, BlipForConditionalGeneration, BlipImageProcessor, BlipProcessor

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "[ENC]", "a", "cell"]
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    places = {"bos_token_id": 5, "eos_token_id": 3, "sep_token_id": 3, "pad_token_id": 0, "max_position_embeddings": 64}
    text = {**small, **places, "vocab_size": len(words), "encoder_hidden_size": 16}
    config = BlipConfig(text_config=text, vision_config={**small, "image_size": 32, "patch_size": 16})
    BlipForConditionalGeneration(config).save_pretrained(folder)
    tokenizer = BertTokenizer(vocab={word: number for number, word in enumerate(words)})
    BlipProcessor(BlipImageProcessor(size={"height": 32, "width": 32}), tokenizer).save_pretrained(folder)


def test_a_captioning_model_on_the_disk_describes(
    ws: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMPTLOUPE_MODELS", str(tmp_path / "models"))
    kind, file = find_kind("leakage-caption"), image_file(tmp_path, Image.new("RGB", (40, 30), "grey"))
    with pytest.raises(BackboneError, match="no captioning model"):
        kind.run(JobContext(ws), kind.parse({"file": str(file)}))
    write_captioner(tmp_path / "models" / "blip")
    assert isinstance(kind.run(JobContext(ws), kind.parse({"file": str(file)}))["caption"], str)
    (tmp_path / "models" / "blip" / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(BackboneError, match="cannot be read"):
        kind.run(JobContext(ws), kind.parse({"file": str(file)}))


def test_samples_and_models_are_found(models: Path) -> None:
    assert list(text_to_image_models())[-1] == "tiny"
    assert find_text_to_image(str(models / "tiny")).image_side == 32
    for sample in SAMPLES.values():
        image, masks = sample.draw(64)
        assert image.size == (64, 64)
        assert all(noun in sample.caption.split() and mask.any() for noun, mask in masks.items())
