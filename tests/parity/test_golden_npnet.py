"""NPNet: the official modules at aa7103e, as they are used, and five steps of their training."""

from __future__ import annotations

from copy import deepcopy
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from engines.diffusion.golden.npnet import NPNet, NPNetConfig
from engines.diffusion.golden.residual_branch import SwinBranch
from engines.diffusion.golden.settings import TrainSettings
from engines.diffusion.golden.train import make_optimiser, noise_loss
from tests.parity import parity_weights
from tests.parity.checks import load_case

CASE = load_case("golden_npnet")


@cache
def swin() -> SwinBranch:
    """Its weights do not depend on the latents' size."""
    branch = SwinBranch(4)
    parity_weights.fill_(branch)
    return branch


def filled(side: int, attention: bool = True) -> NPNet:
    config = NPNetConfig(height=side, width=side, text_width=32, attention=attention, residual="none")
    network = NPNet(config)
    assert network.svd is not None
    parity_weights.fill_(network.svd)
    parity_weights.fill_(network.text_norm)
    network.residual = deepcopy(swin())
    return network.eval()


def inputs(side: int, count: int) -> tuple[Tensor, Tensor]:
    noise = parity_weights.noise(f"npnet.noise.{side}", (count, 4, side, side))
    text = parity_weights.noise("npnet.prompt", (count, 77, 32))
    return torch.from_numpy(noise), torch.from_numpy(text)


def same(actual: Tensor, key: str, absolute: float) -> None:
    expected = CASE[key]
    found = actual.detach().numpy()
    found = found[..., ::8, ::8] if key.startswith("r128") and found.shape != expected.shape else found
    np.testing.assert_allclose(found, expected, rtol=0, atol=absolute * max(1, np.abs(expected).max()), err_msg=key)


@pytest.mark.parametrize(("side", "count"), [(16, 2), (128, 1)])
@torch.no_grad()
def test_forward(side: int, count: int) -> None:
    network, (noise, text) = filled(side), inputs(side, count)
    assert network.svd is not None
    assert network.residual is not None
    normed = network.text_norm(noise, text.flatten(1))
    same(normed, f"r{side}_text_emb", 1e-5)
    same(network.residual(noise + normed), f"r{side}_transformer_branch", 1e-5)
    same(network.residual(noise), f"r{side}_transformer_plain", 1e-5)
    same(network.svd.decompose(noise)[1], f"r{side}_S", 1e-5)
    same(network.svd(noise), f"r{side}_svd_branch", 1e-3)
    network.alpha.fill_(0.5)
    network.beta.fill_(0.25)
    golden = network(noise, text)
    same(golden, f"r{side}_golden", 1e-3)
    if side == 128:
        same(torch.stack([golden.mean(), golden.std()]), "r128_golden_mean_std", 1e-3)


@torch.no_grad()
def test_singular_values_of_the_same_vectors() -> None:
    vectors = [torch.from_numpy(CASE[f"r16_{name}"]) for name in ("U", "S", "Vh")]
    for attention, key in [(True, "r16_svd_branch"), (False, "r16_svd_branch_training_variant")]:
        branch = filled(16, attention).svd
        assert branch is not None
        same(branch.rebuild(*vectors), key, 1e-5)


def test_training() -> None:
    """All four samples with one prompt, as in the official loop, and without dropped paths."""
    network = filled(16, attention=False)
    assert network.svd is not None
    noise = torch.from_numpy(parity_weights.noise("npnet.src", (4, 4, 16, 16)))
    golden = noise + 0.1 * torch.from_numpy(parity_weights.noise("npnet.delta", (4, 4, 16, 16)))
    text = torch.from_numpy(parity_weights.noise("npnet.train_prompt", (1, 77, 32))).expand(4, -1, -1)
    optimiser = make_optimiser(network, TrainSettings())
    losses = []
    for step in range(5):
        optimiser.zero_grad()
        loss = noise_loss(network, noise, golden, text)
        loss.backward()
        losses.append(loss)
        if step == 0:
            same(grad(network.alpha), "train_grad_alpha", 1e-3)
            same(grad(network.beta), "train_grad_beta", 1e-3)
            same(grad(network.svd.mlp4[2].bias), "train_grad_mlp4_2_bias", 1e-3)
            same(grad(network.svd.mlp3[0].weight), "train_grad_mlp3_weight", 1e-3)
        optimiser.step()
    losses.append(noise_loss(network, noise, golden, text))
    same(torch.stack(losses), "train_losses", 1e-3)
    same(network.alpha, "train_alpha", 1e-5)
    same(network.beta, "train_beta", 1e-5)
    same(network.svd.mlp4[2].bias, "train_mlp4_2_bias", 1e-3)


def grad(parameter: nn.Parameter) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad
