"""DDIM inversion and the attention averaged over it: DPL's official commit b3d30f7, 50 steps of a tiny model."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score
from torch import Tensor

from engines.diffusion.attention import AttentionRecorder
from engines.diffusion.background import find_background
from engines.diffusion.inversion import rising_levels
from engines.diffusion.means import AttentionMeans
from engines.diffusion.model import CLEAN, Conditions, TextToImage
from engines.diffusion.repair import repair, start_repair
from engines.diffusion.state import RepairSettings, RepairState
from tests.parity import parity_weights
from tests.parity.checks import load_case
from tests.parity.diffusion import parity_model

CAPTION = "a cat and a dog"
LATENTS, ATTENTION = load_case("dpl_inversion"), load_case("dpl_attention")


@pytest.fixture(scope="module")
def model() -> TextToImage:
    return parity_model()


@pytest.fixture(scope="module")
def state(model: TextToImage) -> RepairState:
    image = parity_weights.integers("diffusion.image", (32, 32, 3), 0, 256)
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    state = start_repair(model, pixels, CAPTION, ["cat", "dog"], RepairSettings(schedule="official", steps=50))
    for _ in repair(model, state):
        if state.inverted:
            return state
    raise AssertionError("never inverted")


@pytest.fixture(scope="module")
def conditions(model: TextToImage) -> Conditions:
    with torch.no_grad():
        return model.encode([CAPTION])


def same(actual: Tensor, expected: np.ndarray, absolute: float) -> None:
    np.testing.assert_allclose(actual.detach().numpy(), expected, rtol=0, atol=absolute)


def test_latents(state: RepairState, model: TextToImage) -> None:
    assert [higher for _, higher in rising_levels(model, 50)] == LATENTS["timesteps"].tolist()
    for at, expected in zip(LATENTS["latent_index"], LATENTS["latents"], strict=True):
        same(state.trajectory[at][0], expected, 1e-4)


def test_decoding(state: RepairState, model: TextToImage) -> None:
    pixels = model.decode(state.trajectory[0])[0].permute(1, 2, 0)
    np.testing.assert_array_equal((pixels * 255).round().numpy().astype(np.uint8), LATENTS["vae_decoded_uint8"])


def test_reconstruction_and_its_attention(state: RepairState, model: TextToImage, conditions: Conditions) -> None:
    latents, means = state.trajectory[-1], AttentionMeans()
    with torch.no_grad(), AttentionRecorder(model.unet, [16]) as recorder:
        for level, lower in pairwise(model.levels(50)):
            latents = model.move(latents, model.predict(latents, level, conditions), level, lower)
            means.add(recorder.take())
    assert lower == CLEAN
    same(latents, LATENTS["reconstructed_latents"], 1e-4)
    same(means.mean("cross", 16)[:, [2, 5]].unflatten(0, (16, 16)), ATTENTION["denoise_cross_16_tokens"], 1e-5)


def test_attention_of_the_repair(state: RepairState) -> None:
    same(torch.stack(state.maps_before).mean(dim=0), ATTENTION["inv_cross_16"], 1e-5)
    same(state.attention.mean("cross", 16).unflatten(0, (16, 16)), ATTENTION["inv_cross_16"], 1e-5)
    same(state.attention.mean("self", 16)[:16], ATTENTION["inv_self_16_rows"], 1e-5)


def test_clusters(state: RepairState) -> None:
    heat = torch.from_numpy(ATTENTION["inv_cross_8"][..., [2, 5]]).permute(2, 0, 1)
    found = find_background(state.attention.mean("self", 16), heat)
    official = load_case("dpl_background")
    assert adjusted_rand_score(found.clusters.flatten(), official["clusters"].flatten()) == 1
    owners = sorted(0 if owner is None else owner + 1 for owner in found.owners)
    assert owners == sorted(official["cluster_label"].tolist())


def test_attention_at_another_size(state: RepairState, model: TextToImage, conditions: Conditions) -> None:
    means = AttentionMeans()
    with torch.no_grad(), AttentionRecorder(model.unet, [8], ["cross", "self"]) as recorder:
        for latents, (_, higher) in zip(state.trajectory, rising_levels(model, 50), strict=False):
            model.predict(latents, higher, conditions)
            means.add(recorder.take())
    assert len(means.layers(8)) == 4
    same(means.mean("cross", 8).unflatten(0, (8, 8)), ATTENTION["inv_cross_8"], 1e-5)
    same(means.mean("self", 8).unflatten(0, (8, 8)), ATTENTION["inv_self_8"], 1e-5)
    by_layer = torch.stack([means.mean("cross", 8, layer) for layer in means.layers(8)])
    torch.testing.assert_close(by_layer.mean(dim=0), means.mean("cross", 8))
