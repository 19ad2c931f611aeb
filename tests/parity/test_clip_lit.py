"""CLIP-LIT against the official implementation: network, prompts, losses, and training steps of both."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from open_clip.modified_resnet import ModifiedResNet
from torch import Tensor

from engines.backbones import Backbone
from engines.enhance.guidance import ClipView, PromptPair
from engines.enhance.losses import (
    ENHANCE_WEIGHTS,
    WARM_UP_WEIGHTS,
    divided,
    enhance_objective,
    map_distances,
    prompt_loss,
    rank_loss,
    resnet_maps,
    warm_up_objective,
)
from engines.enhance.network import LightMapNet, Padding
from tests.parity import parity_weights
from tests.parity.checks import assert_close, assert_same_value, load_case

FILL, TRAIN, INIT = (load_case(f"clip-lit-{name}") for name in ("net-fill", "net-train-fill", "prompt-init"))
RANK, LOSSES, TOTAL = (load_case(f"clip-lit-{name}") for name in ("rank", "enhance-losses", "total"))


def noisy(batch: int, height: int, width: int) -> Tensor:
    noise = parity_weights.noise(f"cliplit.input.{batch}x{height}x{width}", (batch, 3, height, width))
    return torch.from_numpy((0.3 + 0.2 * noise).clip(0, 1).astype(np.float32))


def backlit() -> Tensor:
    """A dark disc in front of a bright sky; its blue grows downwards (the stored statistics of the input say so)."""
    y, x = np.linspace(0, 1, 64)[:, None], np.linspace(0, 1, 80)[None, :]
    flat = np.zeros((64, 80))
    sky = np.stack([0.95 - 0.5 * y + flat, 0.9 - 0.4 * y + flat, 0.98 - 0.3 * y + flat])
    subject = np.stack([0.06 + 0.05 * x + flat, 0.05 + 0.04 * x + flat, 0.04 + 0.03 * y + flat])
    mask = 1 / (1 + np.exp(40 * (np.hypot(y - 0.6, x - 0.5) - 0.3)))
    return torch.from_numpy((sky * (1 - mask) + subject * mask).astype(np.float32))[None]


INPUTS = {"noise48x64": noisy(2, 48, 64), "noise37x53": noisy(1, 37, 53), "backlit64x80": backlit()}


def filled(padding: Padding, lifted: bool = False) -> LightMapNet:
    network = LightMapNet(padding)
    parity_weights.fill_(network)
    if lifted:
        with torch.no_grad():
            network.cond_add1.bias.fill_(0.6)
    return network


def perturbed(backbone: Backbone) -> PromptPair:
    pair = PromptPair(backbone)
    delta = torch.from_numpy(parity_weights.noise("embedding_prompt.delta", (2, 77, 128), 0.03))
    with torch.no_grad():
        pair.embedding += delta[:, :18]
    return pair


def adam(parameters: list[torch.nn.Parameter], rate: float) -> torch.optim.Adam:
    return torch.optim.Adam(parameters, rate, weight_decay=1e-3)


@pytest.mark.parametrize("name", INPUTS)
def test_inputs_are_those_of_the_stored_answers(name: str) -> None:
    values = INPUTS[name].double().numpy()
    stats = [values.min(), values.max(), values.mean(), values.std(), *np.quantile(values, [0.05, 0.5, 0.95])]
    stored = FILL[f"input.{name}.stats"]
    np.testing.assert_allclose(sorted(stats), sorted(stored), rtol=1e-6)


@pytest.mark.parametrize("padding", ["reflect", "zeros"])
@pytest.mark.parametrize("name", INPUTS)
def test_light_map(padding: Padding, name: str) -> None:
    with torch.no_grad():
        assert_close(filled(padding)(INPUTS[name]), FILL, f"fill.{padding}.{name}.light")


def test_network_training() -> None:
    for kind in ("sgd", "adam"):
        network = filled("zeros", lifted=True)
        weights = list(network.parameters())
        optimizer = (
            torch.optim.SGD(weights, 0.002, momentum=0.9, weight_decay=5e-4) if kind == "sgd" else adam(weights, 2e-5)
        )
        losses = []
        for step in range(6):
            pixels = INPUTS["noise48x64"]
            loss = (divided(pixels, network(pixels)) - 0.5).square().mean()
            losses.append(loss.item())
            optimizer.zero_grad()
            loss.backward()
            if step == 0 and kind == "sgd":
                for name, parameter in network.named_parameters():
                    assert parameter.grad is not None
                    assert_close(parameter.grad.norm(), TRAIN, f"grad.{name}.norm")
                    if f"grad.{name}" in TRAIN:
                        assert_close(parameter.grad, TRAIN, f"grad.{name}")
            if step < 5:
                optimizer.step()
        assert_close(np.array(losses), TRAIN, f"{kind}.losses")
        if kind == "sgd":
            stored = [name for name, _ in network.named_parameters() if f"after5.{name}" in TRAIN]
            assert len(stored) > 10
            for name in stored:
                assert_same_value(network.get_parameter(name), TRAIN, f"after5.{name}")


@pytest.mark.parametrize("start", ["identical", "perturbed"])
def test_prompt_initialisation(backbone: Backbone, start: str) -> None:
    features, labels = torch.from_numpy(INIT["image_features"]), torch.from_numpy(INIT["labels"])
    for kind in ("sgd", "adam"):
        pair = PromptPair(backbone) if start == "identical" else perturbed(backbone)
        weights = list(pair.parameters())
        optimizer = (
            torch.optim.SGD(weights, 0.002, momentum=0.9, weight_decay=5e-4) if kind == "sgd" else adam(weights, 5e-6)
        )
        losses = []
        for step in range(6):
            loss = prompt_loss(pair.logits(features), labels)
            losses.append(loss.item())
            optimizer.zero_grad()
            loss.backward()
            if step == 0:
                assert_close(pair.anchors(), INIT, f"{start}.text_features")
                assert_close(pair.logits(features), INIT, f"{start}.logits")
                assert_close(pair.p_backlit(features), INIT, f"{start}.p_negative")
                assert_close(pair.embedding.grad, INIT, f"{start}.grad_0_17")
            if step < 5:
                optimizer.step()
        assert_close(np.array(losses), INIT, f"{start}.{kind}_losses")
        if kind == "sgd":
            assert_same_value(pair.embedding, INIT, f"{start}.after5_0_17")


def test_released_prompt(backbone: Backbone) -> None:
    """A prompt of 77 positions, as the release stores it."""
    pair, features = PromptPair(backbone), torch.from_numpy(INIT["image_features"])
    pair.load_official(torch.from_numpy(parity_weights.parameter("embedding_prompt", (2, 77, 128))))
    assert_close(pair.anchors(), INIT, "filled.text_features")
    loss = prompt_loss(pair.logits(features), torch.from_numpy(INIT["labels"]))
    loss.backward()
    assert_close(loss, INIT, "filled.loss")
    assert_close(pair.embedding.grad, INIT, "filled.grad_0_17")


@pytest.mark.parametrize(("name", "results"), [("two", []), ("three", ["semi1"]), ("four", ["semi2", "semi1"])])
def test_ranking(backbone: Backbone, name: str, results: list[str]) -> None:
    """With two results the official code takes the newest (semi1) for the worse one: order "released"."""
    pair = perturbed(backbone)
    features = {group: torch.from_numpy(RANK[f"{group}.features"]) for group in ("inp", "ref", "semi1", "semi2")}
    optimizer, losses = adam(list(pair.parameters()), 5e-6), []
    for step in range(6):
        p = {group: pair.p_backlit(value) for group, value in features.items()}
        loss = 200 * rank_loss(p["inp"], p["ref"], [p[group] for group in results], "released")
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            for group in features:
                assert_close(p[group], RANK, f"{group}.p_negative")
            assert_close(loss, RANK, f"{name}.loss")
            assert_close(pair.embedding.grad, RANK, f"{name}.grad_0_17")
        if step < 5:
            optimizer.step()
    assert_close(np.array(losses), RANK, f"{name}.adam_losses")


DIRECT = {
    "inp": [0.99, 0.97, 0.6, 0.1],
    "semi1": [0.05, 0.9, 0.55, 0.2],
    "semi2": [0.01, 0.3, 0.5, 0.25],
    "ref": [0.02, 0.05, 0.45, 0.9],
}


@pytest.mark.parametrize(("name", "results"), [("two", []), ("three", ["semi1"]), ("four", ["semi2", "semi1"])])
def test_bare_ranking(name: str, results: list[str]) -> None:
    p = {group: torch.tensor(values, requires_grad=True) for group, values in DIRECT.items()}
    loss = rank_loss(p["inp"], p["ref"], [p[group] for group in results], "released")
    loss.backward()
    assert_close(loss, RANK, f"direct.{name}.loss")
    for group in ("inp", "ref", *results):
        assert_close(p[group].grad, RANK, f"direct.{name}.grad.{group}")


def test_intended_order_is_the_released_one_with_results_swapped() -> None:
    backlit, newest, previous, well = (torch.tensor(DIRECT[g]) for g in ("inp", "semi1", "semi2", "ref"))
    intended = rank_loss(backlit, well, [previous, newest])
    assert intended == rank_loss(backlit, well, [newest, previous], "released")
    assert intended != rank_loss(backlit, well, [previous, newest], "released")


@pytest.mark.parametrize("antialias", [False, True])
def test_preprocessing(backbone: Backbone, antialias: bool) -> None:
    case = load_case("clip-lit-preprocess")
    pixels = torch.from_numpy(case["image_uint8"]).permute(2, 0, 1)[None] / 255
    assert_close(ClipView(backbone, antialias).features(pixels), case, f"antialias_{str(antialias).lower()}")


# --- losses of the enhancement stage ----------------------------------------------


@pytest.fixture(scope="module")
def resnet() -> ModifiedResNet:
    visual = ModifiedResNet(layers=(1, 2, 1, 1), output_dim=64, heads=4, image_size=32, width=8)
    state = {}
    for name, value in visual.state_dict().items():
        full = f"visual.{name}"
        if name.endswith("running_mean"):
            new = parity_weights.noise(full, value.shape, 0.1)
        elif name.endswith("running_var"):
            new = 0.5 * np.exp(parity_weights.noise(full, value.shape, 0.1))
        elif name.endswith("num_batches_tracked"):
            continue
        else:
            new = parity_weights.parameter(full, value.shape)
        state[name] = torch.from_numpy(np.asarray(new))
    visual.load_state_dict(state, strict=False)
    return visual.eval().requires_grad_(False)


def identity(view: ClipView, visual: ModifiedResNet, a: Tensor, b: Tensor, weights: tuple[float, ...]) -> Tensor:
    return map_distances(resnet_maps(visual, view.pixels(a)), resnet_maps(visual, view.pixels(b)), weights)


@pytest.mark.parametrize("antialias", [False, True])
def test_losses(backbone: Backbone, resnet: ModifiedResNet, antialias: bool) -> None:
    def image(name: str) -> Tensor:
        noise = parity_weights.noise(f"cliplit.{name}.2x40x56", (2, 3, 40, 56))
        return torch.from_numpy((0.4 + 0.25 * noise).clip(0, 1).astype(np.float32))

    view, key = ClipView(backbone, antialias), f"antialias_{str(antialias).lower()}"
    enhanced, original, pair = image("pred").requires_grad_(), image("inp"), perturbed(backbone)
    assert_close(pair.anchors(), LOSSES, "text_features")
    guided = pair.loss(view.features(enhanced))
    assert_close(guided, LOSSES, f"{key}.clip_enhance.loss")
    assert_close(torch.autograd.grad(guided, enhanced)[0], LOSSES, f"{key}.clip_enhance.grad")
    each = [identity(view, resnet, enhanced, original, tuple(np.eye(5)[i])) for i in range(5)]
    assert_close(torch.stack(each), LOSSES, f"{key}.identity.per_layer_mse")
    for stage, weights in (("warmup", WARM_UP_WEIGHTS), ("enhance", ENHANCE_WEIGHTS)):
        loss = identity(view, resnet, enhanced, original, weights).sum()
        (gradient,) = torch.autograd.grad(loss, enhanced)
        assert_close(loss, LOSSES, f"{key}.identity.{stage}.loss")
        whole = f"{key}.identity.{stage}.grad"
        assert_close(
            gradient if whole in LOSSES else gradient.norm(), LOSSES, whole if whole in LOSSES else f"{whole}_norm"
        )


def test_whole_objective(backbone: Backbone, resnet: ModifiedResNet) -> None:
    network, pair, view = filled("zeros", lifted=True), perturbed(backbone), ClipView(backbone)
    optimizer, pixels, terms = adam(list(network.parameters()), 2e-5), INPUTS["noise48x64"], []
    for step in range(6):
        enhanced = divided(pixels, network(pixels))
        if step == 0:
            warm_up = warm_up_objective(identity(view, resnet, enhanced, pixels, WARM_UP_WEIGHTS), batch=2)
            assert_close(warm_up, TOTAL, "warmup_loss")
        guided = pair.loss(view.features(enhanced))
        distances = identity(view, resnet, enhanced, pixels, ENHANCE_WEIGHTS)
        total = enhance_objective(guided, distances, batch=2)
        terms.append([320 * guided.item(), 25 * distances.sum().item(), total.item()])
        optimizer.zero_grad()
        total.backward()
        if step == 0:
            for name, parameter in network.named_parameters():
                assert parameter.grad is not None
                assert_close(parameter.grad.norm(), TOTAL, f"grad_norm.{name}")
        if step < 5:
            optimizer.step()
    assert_close(np.array(terms), TOTAL, "terms")
