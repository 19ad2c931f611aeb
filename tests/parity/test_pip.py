"""PIP against the official implementation: the prompts, how they act on features, and the whole network."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from engines.enhance.pip.feature import Mode, PromptToFeature
from engines.enhance.pip.host import PipUNet
from engines.enhance.pip.prompt import PromptInPrompt, class_weights
from tests.parity import parity_weights
from tests.parity.checks import assert_close, load_case

PROMPT, FEATURE, NETWORK = (load_case(f"pip-{name}") for name in ("prompt", "feature", "network"))
LABELS = torch.tensor([1, 4])


def noise(name: str, *shape: int) -> Tensor:
    return torch.from_numpy(parity_weights.noise(name, shape))


def check_gradients(module: nn.Module, case: dict[str, np.ndarray], prefix: str) -> None:
    """Norms of all, and values of those that are stored."""
    names = [name for name, _ in module.named_parameters()]
    stored = [key.removeprefix(f"{prefix}grad_norm.") for key in case if key.startswith(f"{prefix}grad_norm.")]
    assert set(stored) <= set(names)
    assert len(stored) > 10
    for name in stored:
        gradient = module.get_parameter(name).grad
        assert gradient is not None
        assert_close(gradient.norm(), case, f"{prefix}grad_norm.{name}")
        if f"{prefix}grad.{name}" in case:
            assert_close(gradient, case, f"{prefix}grad.{name}")


@pytest.fixture
def prompt() -> PromptInPrompt:
    module = PromptInPrompt(16, 8)
    parity_weights.fill_(module)
    return module


@pytest.mark.parametrize(("name", "channels"), [("wide", 24), ("equal", 16), ("narrow", 10)])
def test_prompt(prompt: PromptInPrompt, name: str, channels: int) -> None:
    weights = class_weights(LABELS, 5)
    assert_close(weights, PROMPT, f"{name}.weights")
    assert_close(prompt(noise(f"pip.x.{channels}", 2, channels, 20, 12), weights), PROMPT, f"{name}.prompt")


def test_prompt_gradients(prompt: PromptInPrompt) -> None:
    found = prompt(noise("pip.x.24", 2, 24, 20, 12), class_weights(LABELS, 5))
    loss = (found * noise("pip.target", *found.shape)).mean()
    loss.backward()
    assert_close(loss, PROMPT, "wide.loss")
    check_gradients(prompt, PROMPT, "wide.")


def test_mixed_damage(prompt: PromptInPrompt) -> None:
    weights = class_weights(torch.tensor([[0, 2], [3, 3]]), 5)
    assert_close(weights, PROMPT, "wide.mixed.weights")
    assert_close(prompt(noise("pip.x.24", 2, 24, 20, 12), weights), PROMPT, "wide.mixed.prompt")


def test_regularisers(prompt: PromptInPrompt) -> None:
    for ours, theirs in (("gram", "2d"), ("cosine", "cosine"), ("angle", "angle")):
        assert_close(prompt.regulariser(ours), PROMPT, f"reg.{theirs}")  # type: ignore[arg-type]
    prompt.regulariser("angle").backward()
    assert_close(prompt.detask_prompt_param.grad, PROMPT, "reg.angle.grad")  # type: ignore[arg-type]
    with torch.no_grad():
        prompt.detask_prompt_param.copy_(torch.eye(5, 16)[None, :, :, None, None])
    assert prompt.regulariser("angle").item() == PROMPT["reg.angle.orthogonal"] == 0


@pytest.mark.parametrize("mode", get_args(Mode))
@pytest.mark.parametrize(("name", "channels"), [("wide", 24), ("equal", 16), ("narrow", 12)])
def test_prompt_to_feature(mode: Mode, name: str, channels: int) -> None:
    module = PromptToFeature(channels, 16, mode)
    parity_weights.fill_(module)
    found = module(noise(f"pip.feat.{channels}", 2, channels, 10, 8), noise("pip.prompt", 2, 16, 10, 8))
    assert_close(found, FEATURE, f"{mode}.{name}.out")
    if f"{mode}.{name}.loss" in FEATURE:
        loss = (found * noise("pip.ftarget", *found.shape)).mean()
        loss.backward()
        assert_close(loss, FEATURE, f"{mode}.{name}.loss")
        check_gradients(module, FEATURE, f"{mode}.{name}.")


def test_whole_network() -> None:
    network = PipUNet.released((1, 1, 1, 1), 1)
    parity_weights.fill_(network)
    pixels, clean = ((0.5 + 0.2 * noise(f"pip.{name}", 1, 3, 32, 32)).clamp(0, 1) for name in ("image.21", "clean"))
    restored = network(pixels, class_weights(torch.tensor([2]), 5))
    assert_close(restored, NETWORK, "restored", relative=1e-3)  # the index's tolerance across machines
    loss = nn.functional.smooth_l1_loss(restored, clean)
    loss.backward()
    assert_close(loss, NETWORK, "smooth_l1")
    check_gradients(network, NETWORK, "")
    for kind in range(5):
        with torch.no_grad():
            change = (network(pixels, class_weights(torch.tensor([kind]), 5)) - restored).abs().mean()
        assert_close(change, NETWORK, f"class{kind}.mean_abs_change")


def test_size_of_the_released_network() -> None:
    """All of it but three convolutions that the released code never uses."""
    with torch.device("meta"):
        network = PipUNet.released()
    assert sum(parameter.numel() for parameter in network.parameters()) == 27_429_510 - 112_896
