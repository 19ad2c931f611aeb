"""Dynamic tokens and null-text optimisation, 4 steps end to end: DPL's official commit b3d30f7."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import Tensor

from engines.diffusion.attention import AttentionRecorder
from engines.diffusion.dynamic import DynamicTokens
from engines.diffusion.losses import LeakageSettings, leakage_objective
from engines.diffusion.model import TextToImage
from engines.diffusion.repair import repair
from engines.diffusion.state import RepairSettings, RepairState
from tests.parity import parity_weights
from tests.parity.checks import load_case
from tests.parity.diffusion import parity_model

CASE = load_case("dpl_tokens")
CAPTION = "a cat and a dog"
"""The placeholders of the official run start from these words, and here words stay where they are."""
SETTINGS = RepairSettings(schedule="official", steps=4, null_steps=3, attention_steps=3)


@dataclass
class Run:
    model: TextToImage
    state: RepairState
    latents: list[Tensor] = field(default_factory=list)
    """At the beginning of each level."""


@pytest.fixture(scope="module")
def run() -> Run:
    model = parity_model()
    state = RepairState(
        prompt=CAPTION,
        nouns=["cat", "dog"],
        adjectives={},
        settings=SETTINGS,
        model=model.fingerprint,
        trajectory=list(torch.from_numpy(CASE["inv_latents"])[:, None].unbind()),
        background=background(),
    )
    run = Run(model, state, [state.trajectory[-1]])
    for progress in repair(model, state):
        if progress.stage == "step":
            assert state.latents is not None
            run.latents.append(state.latents)
    return run


def background() -> Tensor:
    return torch.from_numpy(parity_weights.noise("diffusion.bg", (1, 16, 16)) > 0)[0]


def same(actual: Tensor | list[list[float]], key: str, absolute: float) -> None:
    value = actual.detach().numpy() if isinstance(actual, Tensor) else np.array(actual)
    np.testing.assert_allclose(value, CASE[key], rtol=0, atol=absolute, err_msg=key)


def test_losses(run: Run) -> None:
    seen = [update.losses for update in run.state.updates]
    same([[one["balancing"], one["background"], one["disjoint"]] for one in seen], "losses", 1e-5)
    assert [update.step for update in run.state.updates] == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]


def test_learned_rows(run: Run) -> None:
    same(torch.stack([rows[0] for rows in run.state.tokens]), "tokens", 1e-4)


def test_empty_prompts(run: Run) -> None:
    same(torch.cat(run.state.unconditional), "uncond", 1e-3)


def test_reconstruction(run: Run) -> None:
    assert run.state.latents is not None
    same(run.state.latents, "final_latents", 1e-3)


def test_gradients_at_each_level(run: Run) -> None:
    """Of the first update, from the rows that the official run had learned by then."""
    model = run.model
    caption, embedded = model.caption(CAPTION), model.embed([CAPTION])
    objective = leakage_objective([caption.find(noun) for noun in run.state.nouns], background(), LeakageSettings())
    rows = embedded.rows[0][0, [2, 5]]
    for at, (level, latents) in enumerate(zip(CASE["timesteps"].tolist(), run.latents, strict=False)):
        rows = rows.detach().clone().requires_grad_()
        with AttentionRecorder(model.unet, [16]) as recorder:
            model.predict(latents, level, model.encode(embedded.replaced(0, [2, 5], [rows])))
            total = objective.total(objective.measure(recorder.word_maps()[0]))
        (gradient,) = torch.autograd.grad(total, rows)
        np.testing.assert_allclose(gradient.numpy(), CASE["grads"][3 * at], rtol=0, atol=1e-4)
        rows = torch.from_numpy(CASE["tokens"][at])


def test_maps_before_the_last_update(run: Run) -> None:
    model = run.model
    words = [model.caption(CAPTION).find(noun) for noun in run.state.nouns]
    objective = leakage_objective(words, background(), LeakageSettings())
    rows = None
    for at, (level, latents) in enumerate(zip(CASE["timesteps"].tolist(), run.latents, strict=False)):
        tokens = DynamicTokens(model.embed([CAPTION]), words, rows)
        *_, last = tokens.learn(model, latents, level, objective, SETTINGS.token_schedule(at, masks=False))
        np.testing.assert_allclose(last.maps[..., [1, 2, 4, 5]].numpy(), CASE["maps"][at], rtol=0, atol=1e-5)
        rows = tokens.rows
