"""The small enhancer that comes along: it loads, brightens pictures it was not trained on, and its card tells so."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from engines.enhance import load_enhancer
from engines.enhance.backlit import (
    HELD_OUT_PICTURES,
    TRAINING_PICTURES,
    backlit,
    darker_part,
    photo_pairs,
    rendered_pairs,
)
from engines.enhance.metrics import appearance
from engines.enhance.recipe import fresh_network, held_out, quality, train
from engines.errors import ConfigError, DataError

FOLDER = Path(str(files("assets"))) / "models" / "mini-enhancer"


@pytest.mark.parametrize("kind", ["drawn scenes", "photos"])
def test_what_the_card_says_is_so(kind: str) -> None:
    """Held-out pictures come nearer to their truth, by as much as was kept when the file was made."""
    found, kept = (
        quality(load_enhancer(FOLDER), held_out(96)[kind]),
        json.loads((FOLDER / "evaluation.json").read_text()),
    )
    told = kept["96"][kind]
    assert found.psnr_before == pytest.approx(told["psnr_before"], abs=0.1)
    assert found.psnr_after == pytest.approx(told["psnr_after"], abs=0.1)
    assert found.psnr_after > found.psnr_before + 2
    assert found.ssim_after > found.ssim_before
    assert f"{told['psnr_after']:.1f}" in (FOLDER / "README.md").read_text("utf-8")


def test_dark_pixels_get_fewer() -> None:
    pairs, enhancer = photo_pairs(HELD_OUT_PICTURES, 2, 96, seed=5), load_enhancer(FOLDER)
    before, after = (
        float(np.mean([appearance(method(dark / np.float32(255))).dark for dark in pairs.backlit]))
        for method in (lambda pixels: pixels, enhancer)
    )
    assert after < before / 2


def test_the_files_are_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 2_000_000


# --- the recipe -------------------------------------------------------------------


def test_recipe_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    import engines.enhance.recipe as recipe

    monkeypatch.setattr(recipe, "SIZES", ((24, 4),))
    monkeypatch.setattr(recipe, "training_pairs", lambda size, seed: rendered_pairs(4, size, seed))
    losses = list(train(fresh_network(), 40))
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


# --- backlit pictures with known truth --------------------------------------------


def test_only_the_subject_is_in_shadow() -> None:
    clean, subject = np.full((40, 60, 3), 0.6, np.float32), np.zeros((40, 60), np.float32)
    subject[:, :20] = 1
    found = backlit(clean, subject, np.random.default_rng(0))
    assert 0.6 * 0.1 < found[:, :10].mean() < 0.6 * 0.5
    assert 0.59 < found[:, 40:].mean() < 0.6 * 1.16
    assert np.allclose(np.round(found * 255), found * 255, atol=1e-4)
    with pytest.raises(ConfigError, match="size of its picture"):
        backlit(clean, subject[:10], np.random.default_rng(0))


def test_pairs_are_drawn_alike_for_a_seed_and_never_from_training_pictures() -> None:
    first, again, other = (rendered_pairs(2, 32, seed) for seed in (1, 1, 2))
    assert np.array_equal(first.backlit, again.backlit)
    assert np.array_equal(first.truth, again.truth)
    assert not np.array_equal(first.truth, other.truth)
    assert (first.backlit.mean(axis=(1, 2, 3)) < first.truth.mean(axis=(1, 2, 3)) + 40).all()
    assert not set(TRAINING_PICTURES) & set(HELD_OUT_PICTURES)
    ramp = np.linspace(0, 1, 64, dtype=np.float32)[None, :, None].repeat(32, 0).repeat(3, 2)
    part = darker_part(ramp)
    assert part[:, :16].min() > 0.9
    assert part[:, -16:].max() < 0.1
    with pytest.raises(DataError, match="not exist"):
        photo_pairs(("no-such-picture.png",), 1, 32, seed=0)
