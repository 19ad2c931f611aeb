"""Edits with repaired tokens, 4 steps end to end: DPL's official commit b3d30f7."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from engines.diffusion.edit import edit
from engines.diffusion.edit_request import BlendPlaces, Edit, EditSettings, EditStart
from engines.diffusion.mappers import refinement
from engines.diffusion.model import TextToImage
from tests.parity.checks import load_case
from tests.parity.diffusion import parity_model

TOKENS, CASE = load_case("dpl_tokens"), load_case("dpl_edit")
SOURCE = "a cat and a dog"
"""The official run calls both nouns by placeholders, which start from these words."""
SETTINGS = EditSettings(behaviour="official", cross_until=3 / 4, self_until=2 / 4)
FREE = EditSettings(behaviour="official", cross_until=0, self_until=0)
SWAP = "a lion and a dog"


@pytest.fixture(scope="module")
def model() -> TextToImage:
    return parity_model()


def start() -> EditStart:
    return EditStart(
        SOURCE,
        torch.from_numpy(TOKENS["inv_latents"][-1:]),
        steps=4,
        unconditional=list(torch.from_numpy(TOKENS["uncond"])[:, None]),
        tokens=[(rows,) for rows in torch.from_numpy(TOKENS["tokens"])],
        positions=[2, 5],
    )


@pytest.mark.parametrize(
    ("key", "wanted", "settings"),
    [
        ("swap_store_only", Edit(SWAP), FREE),
        ("swap_replace", Edit(SWAP), SETTINGS),
        ("refine", Edit("a happy cat and a dog", kind="refine"), SETTINGS),
        ("reweight", Edit(SOURCE, weights={"dog": 5.0}), SETTINGS),
        ("swap_replace_local", Edit(SWAP, blend=BlendPlaces(source=["cat"], edited=["lion"])), SETTINGS),
    ],
)
def test_images(model: TextToImage, key: str, wanted: Edit, settings: EditSettings) -> None:
    *_, last = edit(model, start(), wanted, settings)
    np.testing.assert_allclose(last.latents.numpy(), CASE[key], rtol=0, atol=1e-3)


def test_refinement(model: TextToImage) -> None:
    ids = [model.tokenizers[0](text).input_ids for text in (SOURCE, "a happy cat and a dog")]
    found = refinement(*ids, room=77)
    np.testing.assert_array_equal(found.kept[:16], CASE["refine_alphas"])
    np.testing.assert_array_equal(
        torch.where(found.kept > 0, found.matrix.argmax(dim=0), -1)[:16], CASE["refine_mapper"]
    )
