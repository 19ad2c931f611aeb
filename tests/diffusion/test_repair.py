"""A repair from image to repaired words: every layout, cancelled and resumed anywhere, masks, and errors in words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from engines.diffusion.model import TextToImage
from engines.diffusion.repair import NO_BACKGROUND, Progress, repair, start_repair
from engines.diffusion.state import RepairSettings, RepairState
from engines.errors import ConfigError, DataError
from tests.diffusion.tiny import Name, thin_unet, tiny_model

CAPTION = "a dermatofibroma and a red cat 🐱 on grass"
NOUNS: list[str | int] = ["dermatofibroma", "cat"]
STEPS = 3
SHORT = {"steps": STEPS, "attention_steps": 2, "null_steps": 2, "guidance": 3.0}


def pixels() -> Tensor:
    return torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def masks() -> Tensor:
    found = torch.zeros(2, 32, 32, dtype=torch.bool)
    found[0, :10, :10] = found[1, 20:, 20:] = True
    return found


def begin(model: TextToImage, **options: Any) -> RepairState:
    settings = RepairSettings.model_validate(SHORT | options.pop("settings", {}))
    return start_repair(
        model, pixels(), options.pop("prompt", CAPTION), options.pop("nouns", NOUNS), settings, **options
    )


@pytest.fixture(scope="module")
def model() -> TextToImage:
    return tiny_model("sd1")


@pytest.fixture(scope="module")
def whole(model: TextToImage) -> tuple[RepairState, list[Progress]]:
    """A repair that nobody disturbs."""
    state = begin(model)
    return state, list(repair(model, state))


@pytest.mark.parametrize("name", ["sd1", "sd2", "sdxl"])
def test_every_layout_is_repaired(name: Name) -> None:
    model = tiny_model(name)
    state = begin(model)
    seen = list(repair(model, state))
    assert [one.step for one in seen if one.stage == "invert"] == [0, 1, 2]
    assert [one.step for one in seen if one.stage == "step"] == [0, 1, 2]
    assert state.finished
    assert state.latents is not None
    assert bool(state.latents.isfinite().all())
    widths = [encoder.config.hidden_size for encoder in model.text_encoders]
    for rows in state.tokens:
        assert [row.shape for row in rows] == [(6, width) for width in widths]  # five tokens and one
    assert [states.shape for states in state.unconditional] == [(1, 77, sum(widths))] * STEPS
    before, after = state.maps_at(0)
    assert before.shape == (16, 16, 77)
    assert after is not None
    torch.testing.assert_close(after.sum(dim=-1), torch.ones(16, 16))
    assert all(parameter.grad is None for parameter in model.unet.parameters())
    preview = model.decode(next(one.clean for one in seen if one.clean is not None))
    assert preview.shape == (1, 3, 32, 32)


def test_learned_words_leak_less(model: TextToImage) -> None:
    """At one level, which the losses are compared at; weights of one kind, since random maps share everything."""
    term = {"weight": 1.0, "alpha": 25, "beta": 0.0}
    state = begin(
        model,
        settings={
            "steps": 1,
            "attention_steps": 12,
            "learning_rate": 0.02,
            "leakage": {"balancing": term | {"weight": 0.0}, "disjoint": term, "background": term},
        },
    )
    losses = [one.losses for one in repair(model, state) if one.losses]
    assert len(losses) == 12
    assert losses[-1]["disjoint"] + losses[-1]["background"] < losses[0]["disjoint"] + losses[0]["background"] - 0.01


def test_learning_the_empty_prompt_brings_the_image_nearer(model: TextToImage) -> None:
    def error(null_steps: int) -> float:
        state = begin(model, settings={"attention_steps": 0, "null_steps": null_steps}, nouns=[])
        for _ in repair(model, state):
            pass
        assert state.latents is not None
        return float((state.latents - state.trajectory[0]).square().mean())

    assert error(10) < error(0)


@pytest.mark.parametrize("stopped", [1, 3, 6, 8, 99])
def test_a_repair_that_is_stopped_and_resumed_ends_the_same(
    stopped: int, model: TextToImage, whole: tuple[RepairState, list[Progress]], tmp_path: Path
) -> None:
    state = begin(model)
    stage = None
    for number, progress in enumerate(repair(model, state)):
        if number == stopped:
            stage = progress.stage
            break
    assert stage == {1: "invert", 3: "attention", 6: "reconstruct", 8: "step", 99: None}[stopped]
    state.save(tmp_path / "state.safetensors")
    again = RepairState.load(tmp_path / "state.safetensors", model)
    list(repair(model, again))
    assert_equal(again, whole[0])
    again.save(tmp_path / "end.safetensors")
    finished = RepairState.load(tmp_path / "end.safetensors", model)
    assert_equal(finished, whole[0])
    assert list(repair(model, finished)) == []


def assert_equal(one: RepairState, other: RepairState) -> None:
    assert one.latents is not None
    assert other.latents is not None
    assert torch.equal(one.latents, other.latents)
    for name in ("trajectory", "maps_before", "maps_after", "unconditional"):
        for ours, theirs in zip(getattr(one, name), getattr(other, name), strict=True):
            assert torch.equal(ours, theirs), name
    for ours, theirs in zip(one.tokens, other.tokens, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert one.updates == other.updates
    assert one.null_losses == other.null_losses
    assert (one.prompt, one.nouns, one.settings, one.notes) == (other.prompt, other.nouns, other.settings, other.notes)


def test_masks_are_kept_over_a_stop(model: TextToImage, tmp_path: Path) -> None:
    state = begin(model, masks=masks(), adjectives={1: "red"})
    for progress in repair(model, state):
        if progress.stage == "step":
            break
    state.save(tmp_path / "state.safetensors")
    again = RepairState.load(tmp_path / "state.safetensors", model)
    list(repair(model, again))
    assert set(again.updates[-1].losses) == {"similarity", "overlap", "binding"}
    assert len(again.tokens[0][0]) == 7  # the adjective is learned as well
    assert again.background is None
    assert NO_BACKGROUND not in again.notes


def test_pausing_leaves_nothing_switched(model: TextToImage) -> None:
    processors = dict(model.unet.attn_processors)
    for _ in repair(model, begin(model)):
        assert torch.is_grad_enabled()
        assert model.unet.attn_processors == processors


def test_gradients_are_made_also_where_the_caller_wants_none(
    model: TextToImage, whole: tuple[RepairState, list[Progress]]
) -> None:
    state = begin(model)
    with torch.no_grad():
        list(repair(model, state))
    assert_equal(state, whole[0])


def test_without_attention_steps_words_stay_as_they_are(model: TextToImage) -> None:
    state = begin(model, settings={"attention_steps": 0})
    list(repair(model, state))
    embedded = model.embed([CAPTION])
    for rows in state.tokens:
        torch.testing.assert_close(rows[0], embedded.rows[0][0, [2, 3, 4, 5, 6, 10]])
    assert state.updates == []
    assert state.background is None


@pytest.mark.parametrize("name", ["sd1", "sdxl"])
def test_half_precision_learns_about_the_same(name: Name) -> None:
    model = tiny_model(name)
    found = []
    for half in (False, True):
        if half:
            for part in (model.unet, *model.text_encoders):
                part.half()
        state = begin(model, settings={"steps": 1, "attention_steps": 3})
        if half:  # else a cell between two clusters may fall to the other one
            state.background = found[0].background
        list(repair(model, state))
        found.append(state)
    whole, halved = found
    start = model.embed([CAPTION]).rows[0][0, [2, 3, 4, 5, 6, 10]]
    moved, apart = whole.tokens[0][0] - start, halved.tokens[0][0] - whole.tokens[0][0]
    assert float(moved.abs().mean()) > 1e-3
    assert float(apart.abs().mean()) < 0.3 * float(moved.abs().mean())
    for lossy, exact in zip(halved.updates, whole.updates, strict=True):
        assert lossy.losses == pytest.approx(exact.losses, abs=0.01)
    assert halved.null_losses == pytest.approx(whole.null_losses, rel=0.02)
    assert halved.tokens[0][0].dtype == torch.float32


def test_one_noun_works(model: TextToImage) -> None:
    state = begin(model, nouns=["cat"])
    list(repair(model, state))
    assert all(value == value for update in state.updates for value in update.losses.values())
    assert {update.losses["disjoint"] for update in state.updates} == {0.0}


def test_a_long_caption_is_said(model: TextToImage) -> None:
    state = begin(model, prompt="a cat and " + "very " * 80 + "red dog", nouns=["cat"])
    assert "red dog” is left out" in state.notes[0]
    with pytest.raises(ConfigError, match="too long"):
        begin(model, prompt="a cat and " + "very " * 80 + "red dog", nouns=["cat", "dog"])


def test_the_official_schedule_makes_every_step(model: TextToImage) -> None:
    official = {"schedule": "official", "attention_steps": 0, "null_steps": 4, "steps": 1}
    state = begin(model, settings=official)
    assert len([one for one in repair(model, state) if one.stage == "reconstruct"]) == 4
    assert not torch.equal(state.trajectory[0], begin(model).trajectory[0])  # sampled, not the mean
    settings = RepairSettings(schedule="official")
    assert (settings.null_schedule(10).steps, settings.token_schedule(10, masks=False).steps) == (51, 21)
    assert settings.null_schedule(10).learning_rate == pytest.approx(0.009)
    assert settings.null_schedule(10).tolerance is None


def test_short_runs_pass_through_the_same_thresholds() -> None:
    """Half of ten steps is like half of fifty."""
    assert RepairSettings(steps=10).token_schedule(5, masks=False).pace == 25
    assert RepairSettings(steps=10).null_schedule(5) == RepairSettings(steps=50).null_schedule(25)
    assert RepairSettings(steps=10, schedule="official").token_schedule(5, masks=False).pace == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nouns": ["horse"]}, "does not contain “horse”"),
        ({"nouns": []}, "No word is chosen"),
        ({"nouns": ["cat", "cat"]}, "chosen twice"),
        ({"nouns": ["red cat", "cat"]}, "chosen twice"),
        ({"nouns": ["cat", 99]}, "number 99"),
        ({"prompt": "", "nouns": ["cat"]}, "does not contain"),
        ({"masks": masks()[:1]}, "1 masks and 2 chosen words"),
        ({"masks": torch.zeros(2, 32, 32)}, "mask of “dermatofibroma” is empty"),
        ({"adjectives": {1: "red"}}, "need masks"),
        ({"adjectives": {2: "red"}, "masks": masks()}, "noun number 2"),
        ({"adjectives": {1: "blue"}, "masks": masks()}, "does not contain “blue”"),
    ],
)
def test_what_cannot_work_is_told_before_it_begins(model: TextToImage, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        begin(model, **change)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda content: b"",
        lambda content: b"\x80\x04K\x01.",
        lambda content: content.replace(b"prompt", b"p_ompt", 1),
        lambda content: content.replace(b"null_losses", b"nell_losses", 1),
    ],
)
def test_damaged_states_are_told(damage: Callable[[bytes], bytes], model: TextToImage, tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    begin(model).save(path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match="cannot be read"):
        RepairState.load(path, model)
    with pytest.raises(DataError, match="cannot be read"):
        RepairState.load(tmp_path / "missing", model)


def test_states_of_a_newer_program_are_told(model: TextToImage, tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    save_file({"trajectory": torch.zeros(1)}, path, metadata={"format": "99", "facts": "{}"})
    with pytest.raises(DataError, match="newer Promptloupe"):
        RepairState.load(path, model)


def test_states_of_another_model_are_told(
    model: TextToImage, whole: tuple[RepairState, list[Progress]], tmp_path: Path
) -> None:
    whole[0].save(tmp_path / "state.safetensors")
    for other in (tiny_model("sdxl"), tiny_model("sd1", seed=1)):
        with pytest.raises(ConfigError, match="another text-to-image model"):
            RepairState.load(tmp_path / "state.safetensors", other)


def test_the_sizes_of_stable_diffusion_1_at_512_pixels() -> None:
    """Maps of 16, clusters of 32, latents of 64; little is kept."""
    model = thin_unet("CCC-", 64)
    image = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    settings = RepairSettings(steps=1, attention_steps=1, null_steps=1)
    state = start_repair(model, image, CAPTION, NOUNS, settings)
    list(repair(model, state))
    assert state.finished
    assert state.maps_after[0].shape == (16, 16, 77)
    assert state.attention.mean("self", 32).shape == (1024, 1024)
    assert state.attention.nbytes < 20e6
    assert state.background is None or state.background.shape == (16, 16)


@pytest.mark.parametrize("below", [0.0, 1.0])
def test_no_background_is_said(below: float, model: TextToImage) -> None:
    """Where words look everywhere, and where they look nowhere."""
    state = begin(model, settings={"background_below": below})
    list(repair(model, state))
    assert state.notes == [NO_BACKGROUND]
    assert set(state.updates[0].losses) == {"balancing", "disjoint"}
