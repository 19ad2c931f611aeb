"""The text-to-image model that comes along: an ordinary pipeline folder, and as good as its card says."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline

from engines.diffusion.places import find_text_to_image
from engines.miniworld.diffusion import gate
from engines.miniworld.diffusion import model as mini
from engines.miniworld.diffusion.pictures import draw

SHIPPED = Path(str(files("assets"))) / "models" / "mini-diffusion"


@pytest.fixture(scope="module")
def pipeline() -> StableDiffusionPipeline:
    return mini.load_folder(SHIPPED)


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    return dict(json.loads((SHIPPED / "evaluation.json").read_text("utf-8")))


def test_the_folder_is_small_and_ordinary(pipeline: StableDiffusionPipeline) -> None:
    assert find_text_to_image("mini-diffusion").image_side == 64
    weights = list(SHIPPED.rglob("*.safetensors"))
    assert len(weights) == 3
    assert sum(path.stat().st_size for path in SHIPPED.rglob("*") if path.is_file()) < 30_000_000
    assert {path.suffix for path in SHIPPED.rglob("*") if path.is_file()} <= {".json", ".md", ".safetensors", ".txt"}
    assert pipeline.vae_scale_factor == 4
    assert pipeline.unet.config.sample_size == 16
    assert pipeline.tokenizer.tokenize("a red circle") == ["a</w>", "red</w>", "circle</w>"]


def test_the_card_tells_what_was_measured(told: dict[str, Any]) -> None:
    card = (SHIPPED / "README.md").read_text("utf-8")
    for name in ("pointing", "right_pictures_1", "on_others_2"):
        assert f"{100 * told[name]:.1f}%" in card
    assert f"{told['autoencoder_psnr']:.1f} dB" in card


def test_words_point_at_their_things(pipeline: StableDiffusionPipeline, told: dict[str, Any]) -> None:
    """A small part of the gate: held-out scenes with exact masks."""
    rows = gate.judge_maps(pipeline, draw(gate.HELD_OUT_SEED, 2, 32, 2))
    pointing, area = (sum(row[name] for row in rows) / len(rows) for name in ("pointing", "own_area"))
    assert pointing == pytest.approx(told["pointing_2"], abs=0.12)
    assert pointing > 5 * area  # where chance would point
    assert sum(row["on_others"] for row in rows) / len(rows) > 0.02  # the leakage that the Leakage page repairs


def test_pictures_show_what_was_asked_for(pipeline: StableDiffusionPipeline, told: dict[str, Any]) -> None:
    assert gate.judge_pictures(pipeline, things=1, count=32) == pytest.approx(told["right_pictures_1"], abs=0.2)
    with torch.no_grad():
        assert gate.autoencoder_psnr(pipeline, draw(gate.HELD_OUT_SEED, 2, 16, 2)) == pytest.approx(
            told["autoencoder_psnr"], abs=1.0
        )
