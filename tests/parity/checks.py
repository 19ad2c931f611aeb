"""Comparing a method with what its official implementation answered (see the `.npz` files beside)."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from engines.prompts.base import PromptMethod
from tests.parity import parity_weights

FOLDER = Path(__file__).parent


def load_case(name: str) -> dict[str, np.ndarray]:
    with np.load(FOLDER / f"{name}.npz") as arrays:
        return {key: arrays[key] for key in arrays.files}


def fill_official(method: PromptMethod, keep: Collection[str] = ()) -> None:
    """Give every learnable tensor the value that its official name stands for; those named in `keep` stay."""
    state = {
        name: value if name in keep else torch.from_numpy(np.asarray(parity_weights.parameter(name, value.shape)))
        for name, value in method.official_state_dict().items()
    }
    method.load_official(state)


def assert_close(
    actual: Tensor | np.ndarray | float, case: dict[str, np.ndarray], key: str, relative: float = 1e-4
) -> None:
    """Equal to the stored array within `relative` of its largest value (big arrays are stored as samples)."""
    for got, expected in _pairs(actual, case, key):
        np.testing.assert_allclose(
            got.reshape(expected.shape),
            expected,
            rtol=relative,
            atol=relative * max(1e-3, np.abs(expected).max()),
            err_msg=key,
        )


def assert_same_value(actual: Tensor, case: dict[str, np.ndarray], key: str, absolute: float = 1e-5) -> None:
    """Equal to the stored values of a learned tensor within `absolute`."""
    for got, expected in _pairs(actual, case, key):
        np.testing.assert_allclose(got.reshape(expected.shape), expected, rtol=0, atol=absolute, err_msg=key)


def _pairs(
    actual: Tensor | np.ndarray | float, case: dict[str, np.ndarray], key: str
) -> list[tuple[np.ndarray, np.ndarray]]:
    """What we have beside what is stored; of big arrays there are rows, and products with fixed noise."""
    value = actual.detach().double().numpy() if isinstance(actual, Tensor) else np.asarray(actual, np.float64)
    if key in case:
        return [(value, case[key])]
    if f"{key}|head" in case:
        product = (value * parity_weights.noise(f"probe.{key}", value.shape)).sum()
        stat = np.array([value.mean(), np.linalg.norm(value), product])
        return [(value.reshape(len(value), -1)[:8, :1024], case[f"{key}|head"]), (stat, case[f"{key}|stat"])]
    flat = value.reshape(-1, value.shape[-1])
    probe = parity_weights.noise(f"parity.probe.{flat.shape[1]}", (flat.shape[1], 4)).astype(np.float64)
    pairs = [(flat @ probe, case[f"{key}.probe"])]
    return [(flat[::8], case[f"{key}.rows8"]), *pairs] if f"{key}.rows8" in case else pairs


def check_training(
    method: PromptMethod,
    case: dict[str, np.ndarray],
    learning_rate: float = 0.002,
    pixels: Tensor | None = None,
    zero: Collection[str] = (),
) -> None:
    """Loss and gradients at step 0, then 5 steps of the official optimiser on the same batch (`pixels`, if given).

    Tensors named in `zero` have no gradient in exact arithmetic, so theirs is rounding on both sides.
    """
    pixels, labels = parity_weights.images() if pixels is None else pixels, parity_weights.labels()
    optimizer = torch.optim.SGD(
        method.trainable_parameters().values(), lr=learning_rate, momentum=0.9, weight_decay=5e-4
    )
    losses = []
    for step in range(5):
        optimizer.zero_grad()
        losses.append(float(method.backward(pixels, labels)))
        if step == 0:
            for name, parameter in method.trainable_parameters().items():
                assert parameter.grad is not None
                official = method.official_name(name)
                if official in zero:
                    assert_same_value(parameter.grad, case, f"grad.{official}", absolute=1e-6)
                else:
                    assert_close(parameter.grad, case, f"grad.{official}")
        optimizer.step()
    losses.append(method.loss(pixels, labels).item())
    assert_close(np.array(losses), case, "losses")
    for name, parameter in method.trainable_parameters().items():
        assert_same_value(parameter, case, f"after5.{method.official_name(name)}")
    if "logits_after5" in case:
        assert_close(method.logits(parity_weights.images()), case, "logits_after5")
