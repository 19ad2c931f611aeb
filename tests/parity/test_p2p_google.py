"""Mappers, schedules, five-step runs and local blend: Prompt-to-Prompt's official commit 9c472e4."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from engines.diffusion.edit import edit
from engines.diffusion.edit_request import Edit, EditSettings, EditStart
from engines.diffusion.mappers import refinement, replacement, schedule
from engines.diffusion.model import TextToImage
from engines.diffusion.prompt_to_prompt import LocalBlend, blended
from tests.parity import parity_weights
from tests.parity.checks import load_case
from tests.parity.diffusion import parity_model

CASE = load_case("p2p_google")
SWAPS = [
    ("a cat and a dog", "a lion and a dog"),
    ("a photo of a cat", "a photo of a chimpanzee"),
    ("a dermatofibroma on skin", "a nevus on skin"),
]
REFINEMENTS = [
    ("a cat and a dog", "a happy cat and a fluffy dog"),
    ("a school bus", "a photo of a red school bus at night"),
]
CUT = 24
"""Side of the mappers' kept corner."""


@pytest.fixture(scope="module")
def model() -> TextToImage:
    return parity_model()


def swapped(model: TextToImage, number: int) -> Tensor:
    source, edited = (model.caption(text) for text in SWAPS[number])
    return replacement(source, edited, room=77).matrix[:CUT, :CUT]


@pytest.mark.parametrize("number", range(3))
def test_tokens_are_the_official_ones(model: TextToImage, number: int) -> None:
    source, edited = (model.tokenizers[0](text).input_ids for text in SWAPS[number])
    assert [*source, -1, *edited] == CASE[f"ids_{number}"].tolist()


def test_a_swap_of_as_many_tokens(model: TextToImage) -> None:
    np.testing.assert_array_equal(swapped(model, 0), CASE["replace_0"])


@pytest.mark.parametrize(("number", "old", "new"), [(1, [5], [5, 6, 7]), (2, [2, 3, 4, 5, 6], [2, 3])])
def test_a_swap_of_other_numbers_of_tokens(
    model: TextToImage, number: int, old: Sequence[int], new: Sequence[int]
) -> None:
    """Up to the word as in the official code, the word's columns normalised, and what follows shifted.

    Official columns of the word sum to len(old) / len(new), and behind it positions of the edited caption are read.
    """
    expected = np.zeros((CUT, CUT))
    expected[:, : new[-1] + 1] = CASE[f"replace_{number}"][:, : new[-1] + 1]
    assert expected[:, new].sum(axis=0) == pytest.approx(len(old) / len(new))
    expected[:, new] /= len(old) / len(new)
    after = np.arange(new[-1] + 1, CUT)
    after = after[after + old[-1] - new[-1] < CUT]
    expected[after + old[-1] - new[-1], after] = 1
    actual = swapped(model, number)[:, : after[-1] + 1]
    np.testing.assert_allclose(actual, expected[:, : after[-1] + 1], atol=1e-7)


@pytest.mark.parametrize("number", range(2))
def test_refinements(model: TextToImage, number: int) -> None:
    found = refinement(*(model.tokenizers[0](text).input_ids for text in REFINEMENTS[number]), room=77)
    np.testing.assert_array_equal(found.kept, CASE[f"refine_alpha_{number}"])
    positions = torch.where(found.kept > 0, found.matrix.argmax(dim=0), -1)
    np.testing.assert_array_equal(positions, CASE[f"refine_map_{number}"])


def test_positions_of_words(model: TextToImage) -> None:
    assert (
        list(model.caption(SWAPS[2][0]).find("dermatofibroma").positions) == CASE["word_inds_dermatofibroma"].tolist()
    )
    assert list(model.caption(SWAPS[0][0]).find("dog").positions) == CASE["word_inds_dog"].tolist()


def test_schedule_of_words(model: TextToImage) -> None:
    """The official table has a row for one level more, which no step reads."""
    found = schedule(model.caption(SWAPS[0][1]), 10, 77, 0.8, {"lion": (0, 0.4)})
    np.testing.assert_array_equal(found[:, :8], CASE["time_alpha"][:10])


SETTINGS = EditSettings(cross_until=0.8, self_until=0.4)
FREE = EditSettings(cross_until=0, self_until=0)
SWAP = Edit(SWAPS[0][1])


@pytest.mark.parametrize(
    ("key", "wanted", "settings"),
    [
        ("run_empty", SWAP, FREE),
        ("run_replace", SWAP, SETTINGS),
        ("run_refine", Edit(REFINEMENTS[0][1], kind="refine"), SETTINGS),
        ("run_reweight", Edit(SWAPS[0][0], weights={"dog": 4.0}), SETTINGS),
        ("run_replace_reweight", Edit(SWAPS[0][1], weights={"lion": 2.0}), SETTINGS),
    ],
)
def test_images(model: TextToImage, key: str, wanted: Edit, settings: EditSettings) -> None:
    latents = torch.from_numpy(parity_weights.noise("p2p.latent", (1, 4, 16, 16)))
    start = EditStart(SWAPS[0][0], latents, steps=5, guidance=3.0)
    *_, last = edit(model, start, wanted, settings)
    np.testing.assert_allclose(last.latents.numpy(), CASE[key], rtol=0, atol=1e-3)
    if key == "run_empty":
        np.testing.assert_allclose(last.maps[1, :, :, :8].numpy(), CASE["store_cross_16"], rtol=0, atol=1e-5)


def test_local_blend() -> None:
    """Of the maps of five layers with two heads, as the official controller keeps them."""
    names = ("lb.d2", "lb.d3", "lb.u0", "lb.u1", "lb.u2")
    layers = [torch.from_numpy(parity_weights.noise(name, (4, 256, 77), 2.0)).softmax(dim=-1) for name in names]
    maps = torch.stack([layer.view(2, 2, 16, 16, 77).mean(dim=1) for layer in layers]).mean(dim=0)
    words = torch.zeros(2, 77)
    words[:, 2] = 1  # "cat" and "lion"
    latents = torch.from_numpy(parity_weights.noise("lb.x", (2, 4, 16, 16)))
    inside = LocalBlend(words, threshold=0.6).mask(maps, side=16)
    np.testing.assert_allclose(blended(latents, inside).numpy(), CASE["blend"], rtol=0, atol=1e-6)
