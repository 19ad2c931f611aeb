"""The recipe of the mini-CLIP, and the model that is shipped."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

import assets
from engines.miniworld import blood, evaluate, fabric, samples, scenes
from engines.miniworld import model as mini
from engines.miniworld.train import Recipe, Renderings, Trainer, contrastive_loss, train

SHIPPED = Path(assets.__file__).parent / "models" / "mini-clip"
SHORT = Recipe(renderings=6 * 16, minutes=60, batch=16, seed=1)


def test_loss_is_clips_where_every_caption_is_different() -> None:
    torch.manual_seed(0)
    image, text = F.normalize(torch.randn(6, 8), dim=-1), F.normalize(torch.randn(6, 8), dim=-1)
    logits = 10 * image @ text.T
    labels = torch.arange(6)
    expected = (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2
    assert contrastive_loss(image, text, torch.tensor(10.0), labels).item() == pytest.approx(expected.item(), abs=1e-6)


def test_pictures_with_equal_captions_are_all_positives() -> None:
    text = F.normalize(torch.eye(2, 4), dim=-1)
    image = text[[0, 0, 1]]
    right = contrastive_loss(image, text, torch.tensor(100.0), torch.tensor([0, 0, 1]))
    # A caption shared by two pictures can at best give each of them half: log 2 for one of the two captions.
    assert right.item() == pytest.approx(np.log(2) / 4, abs=1e-4)
    assert contrastive_loss(image, text, torch.tensor(100.0), torch.tensor([1, 1, 0])).item() > 10


def test_cut_captions_equal_the_plain_text_tower() -> None:
    torch.manual_seed(0)
    model = mini.build().eval()
    texts = [
        "a cell",
        "a photo of a neutrophil.",
        "a red circle to the left of a blue square on a white background",
        "",
    ]
    tokens = open_clip.SimpleTokenizer()(texts)
    cut = tokens[:, : int(tokens.argmax(dim=-1).max()) + 1]
    with torch.inference_mode():
        expected = model.encode_text(tokens)
        for buckets in (1, 3):
            assert torch.allclose(mini.encode_captions(model, cut, buckets), expected, atol=1e-5)


def test_pixels_are_normalised_like_open_clips_preprocessing() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    preprocess = open_clip.image_transform(64, is_train=False)
    expected = preprocess(Image.fromarray(picture))
    assert torch.allclose(mini.normalise(torch.from_numpy(picture)[None])[0], expected, atol=1e-5)


def test_twenty_steps_decrease_the_loss() -> None:
    trainer = Trainer(Recipe(renderings=20 * 48, minutes=60, batch=48, seed=0), "cpu")
    losses = [progress.loss for progress in trainer.run(workers=0)]
    assert len(losses) == 20
    assert np.mean(losses[-4:]) < np.mean(losses[:4]) - 0.15


def test_resumed_training_ends_with_the_same_weights(tmp_path: Path) -> None:
    whole = Trainer(SHORT, "cpu")
    for progress in whole.run(workers=0):
        if progress.step == 3:
            whole.save(tmp_path / "state.pt")
    resumed = Trainer(SHORT, "cpu")
    resumed.restore(tmp_path / "state.pt")
    assert [progress.step for progress in resumed.run(workers=0)] == [4, 5, 6]
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name


def test_training_writes_a_folder_that_open_clip_loads_offline(tmp_path: Path) -> None:
    recipe = Recipe(renderings=2 * 8, minutes=60, batch=8)
    model = train(tmp_path, recipe, workers=0)
    again, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{tmp_path}")
    picture = Image.fromarray(scenes.render([scenes.sample(np.random.default_rng(0))], 96, 0)[0])
    with torch.inference_mode():
        inputs = preprocess(picture)[None]
        assert inputs.shape == (1, 3, 64, 64)
        assert torch.allclose(again.eval().encode_image(inputs), model.encode_image(inputs), atol=2e-2)
    told = json.loads((tmp_path / "training.json").read_text())
    assert told["trained_on"] == 16
    assert not list(tmp_path.glob("*.part"))


def test_time_ends_a_training_annealed() -> None:
    trainer = Trainer(Recipe(renderings=10**9, minutes=1e-4, batch=8), "cpu")
    steps = list(trainer.run(workers=0))
    assert steps[-1].share == 1.0
    assert len(steps) < 5


def test_batches_are_ready_for_the_towers() -> None:
    pixels, tokens, text_of = Renderings(0, 24)[5]
    assert pixels.shape == (24, 64, 64, 3)
    assert pixels.dtype == torch.uint8
    assert tokens.shape[1] <= 77
    assert tokens.argmax(dim=-1).max() == tokens.shape[1] - 1, "cut to the longest caption"
    assert int(text_of.max()) == len(tokens) - 1


def test_questions_ask_about_every_family_and_about_the_unseen() -> None:
    asked = {question.title: question for question in evaluate.questions(1)}
    assert len(asked) == 10
    unseen = asked["scenes: 64 colour-shape pairs, unseen ones"]
    assert {(s.things[0].colour, s.things[0].shape) for s in unseen.specs} == set(scenes.LEFT_OUT)
    unseen = asked["fabric: 64 pattern-defect pairs, unseen ones"]
    assert {(s.pattern, s.defect) for s in unseen.specs} == set(fabric.LEFT_OUT)
    for question in asked.values():
        assert max(question.answers) < len(question.texts)


def test_shipped_folder_is_small_and_complete() -> None:
    files = {path.name: path.stat().st_size for path in SHIPPED.iterdir()}
    assert {"open_clip_config.json", "open_clip_model.safetensors", "README.md", "evaluation.json"} <= set(files)
    assert sum(files.values()) <= 25_000_000


def test_card_tells_what_was_measured_and_what_was_left_out() -> None:
    card = (SHIPPED / "README.md").read_text("utf-8")
    assert card.startswith("---\nlicense: apache-2.0")
    measured = json.loads((SHIPPED / "evaluation.json").read_text())
    for title, value in measured["zero_shot"].items():
        assert f"| {title} | {value:.1%} |" in card
    sample = measured["blood_smear_sample"]
    for name in ("zero_shot", "linear_probe_16"):
        assert f"| {sample[name]:.1%} |" in card
    for name in blood.UNNAMED:
        assert f"- {name}" in card
    assert re.search(r"[\d,]{6,} renderings \(seed \d+\)", card)
    assert "Not for diagnosis" in card
    assert "synthetic" in card


def test_shipped_model_is_far_above_chance_and_far_below_perfect(tmp_path: Path) -> None:
    model, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{SHIPPED}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{SHIPPED}")
    folder = samples.write_blood_smear(tmp_path / "sample", {"test": 12})
    names = list(blood.CELLS)
    paths = sorted(folder.glob("test/*/*.png"))
    labels = np.array([names.index(path.parent.name) for path in paths])
    inputs = torch.stack([preprocess(Image.open(path)) for path in paths])
    with torch.inference_mode():
        image = F.normalize(model.eval().encode_image(inputs), dim=-1)
        text = F.normalize(model.encode_text(tokenizer([f"a photo of a {name}." for name in names])), dim=-1)
    right = (image @ text.T).argmax(dim=1).numpy() == labels
    assert 3 / len(names) < right.mean() < 0.9
    spoken = np.array([names[label] not in blood.UNNAMED for label in labels])
    assert right[spoken].mean() > right[~spoken].mean() + 0.2, "names that were never spoken are hardly known"
