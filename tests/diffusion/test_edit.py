"""Edits on tiny pipelines of every layout: what stays the same, what changes, masks, cancelling, wrong wishes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from engines.diffusion.edit import edit, local_blend
from engines.diffusion.edit_request import BlendPlaces, Edit, EditSettings, EditStart
from engines.diffusion.model import Conditions, TextToImage, guide
from engines.diffusion.prompt_to_prompt import LocalBlend
from engines.diffusion.repair import repair, start_repair
from engines.diffusion.state import RepairSettings, RepairState
from engines.errors import ConfigError
from tests.diffusion.tiny import Name, tiny_model

LAYOUTS: list[Name] = ["sd1", "sd2", "sdxl"]
SOURCE, SWAPPED = "a cat and a dog", "a dermatofibroma and a dog"
STEPS = 3
BOUND = EditSettings(cross_until=1, self_until=1)
FREE = EditSettings(cross_until=0, self_until=0)
SWAP = Edit(SWAPPED)


@pytest.fixture(scope="module", params=LAYOUTS)
def every(request: pytest.FixtureRequest) -> TextToImage:
    return tiny_model(request.param)


@pytest.fixture(scope="module")
def model() -> TextToImage:
    return tiny_model()


def start(**others: Any) -> EditStart:
    latents = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(1))
    return EditStart(SOURCE, latents, **{"steps": STEPS, "guidance": 3.0} | others)


def last(
    model: TextToImage, wanted: Edit, settings: EditSettings | None = None, begin: EditStart | None = None
) -> Tensor:
    *_, progress = edit(model, begin or start(), wanted, settings)
    return progress.latents


def difference(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())


@pytest.fixture(scope="module")
def swapped(model: TextToImage) -> Tensor:
    return last(model, SWAP, FREE)


def test_the_same_caption_gives_the_same_image(every: TextToImage) -> None:
    for kind in ("swap", "refine"):
        source, edited = last(every, Edit(SOURCE, kind=kind), BOUND)
        torch.testing.assert_close(edited, source, rtol=1e-4, atol=1e-4)


def test_the_source_is_sampled_as_without_an_edit(every: TextToImage) -> None:
    source, edited = last(every, SWAP, EditSettings())
    latents = start().latents
    with torch.no_grad():
        both = Conditions.joined(every.unconditional(), every.encode([SOURCE]))
        for level, lower in pairwise(every.levels(STEPS)):
            without, noise = every.predict(latents.repeat(2, 1, 1, 1), level, both).chunk(2)
            latents = every.move(latents, guide(without, noise, 3.0), level, lower)
    torch.testing.assert_close(source, latents[0], rtol=1e-4, atol=1e-4)
    assert difference(edited, source) > 1e-2


def test_a_weight_of_one_is_none(model: TextToImage) -> None:
    plain = last(model, SWAP, BOUND)
    assert torch.equal(last(model, replace(SWAP, weights={"dermatofibroma": 1.0}), BOUND), plain)
    assert difference(last(model, replace(SWAP, weights={"dog": 4.0}), BOUND), plain) > 1e-3
    assert difference(last(model, replace(SWAP, weights={"dog": 0.0}), BOUND), plain) > 1e-3


def test_words_look_where_the_sources_look_times_their_weight(model: TextToImage) -> None:
    """Maps of the first step, in which nothing has drifted apart yet."""
    wanted = Edit(SWAPPED, weights={"dog": 3.0}, words={"dermatofibroma": 0.0})
    first = next(edit(model, start(), wanted, BOUND))
    source, edited = first.maps
    dog, old_dog = 9, 5
    torch.testing.assert_close(edited[..., dog], 3 * source[..., old_dog], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(edited[..., 1], source[..., 1], rtol=1e-4, atol=1e-6)
    assert difference(edited[..., 2], source[..., 2]) > 1e-4  # of its own


@pytest.mark.parametrize(
    "settings", [EditSettings(cross_until=1, self_until=0), EditSettings(cross_until=0, self_until=1)]
)
def test_either_control_binds_the_edit_to_the_source(
    model: TextToImage, swapped: Tensor, settings: EditSettings
) -> None:
    assert difference(last(model, SWAP, settings), swapped) > 1e-3


def test_fine_self_attention_is_left_alone(model: TextToImage, swapped: Tensor) -> None:
    """Layers see images of 16 and 8."""
    coarse, finest, none = (
        last(model, SWAP, EditSettings(cross_until=0, self_until=1, self_side=side)) for side in (8, 16, 7)
    )
    torch.testing.assert_close(none, swapped)
    assert min(difference(coarse, swapped), difference(finest, coarse)) > 1e-4


def test_outside_a_drawn_mask_the_source_is_kept_in_every_step(every: TextToImage) -> None:
    mask = torch.zeros(64, 64)
    mask[8:24, 8:40] = 1  # cells 2 to 5, 2 to 9 of 16
    for progress in edit(every, start(), replace(SWAP, blend=BlendPlaces(mask=mask)), FREE):
        assert progress.inside is not None
        assert progress.inside.nonzero().amin(dim=0).tolist() == [2, 2]
        assert progress.inside.nonzero().amax(dim=0).tolist() == [5, 9]
        for source, edited in (progress.latents, progress.clean):
            assert torch.equal(edited[:, ~progress.inside], source[:, ~progress.inside])
    assert difference(edited, source) > 1e-3


def test_a_tiny_mask_does_not_vanish(model: TextToImage) -> None:
    mask = torch.zeros(64, 64, dtype=torch.bool)
    mask[1, 62] = True
    (progress, *_) = edit(model, start(), replace(SWAP, blend=BlendPlaces(mask=mask)), FREE)
    assert progress.inside is not None
    assert progress.inside.nonzero().tolist() == [[0, 15]]


def test_words_say_where_to_edit_from_some_step_on(model: TextToImage) -> None:
    places = BlendPlaces(source=["cat"], edited=["dermatofibroma"], threshold=0.8, start=1 / 3)
    seen = list(edit(model, start(), replace(SWAP, blend=places), FREE))
    assert seen[0].inside is None
    for progress in seen[1:]:
        assert progress.inside is not None
        assert 0 < progress.inside.float().mean() < 1
        source, edited = progress.latents
        assert torch.equal(edited[:, ~progress.inside], source[:, ~progress.inside])


def test_where_words_look() -> None:
    """Two strong cells, widened by one; a third of less than the threshold; one word's cell taken out again."""
    maps = torch.zeros(2, 8, 8, 4)
    maps[0, 1, 1, 1], maps[0, 6, 1, 1] = 1.0, 0.2
    maps[1, 4, 6, 2], maps[0, 0, 0, 3] = 10.0, 1.0
    words, without = torch.zeros(2, 4), torch.zeros(2, 4)
    words[0, 1] = words[1, 2] = without[0, 3] = 1
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[:3, :3] = expected[3:6, 5:] = True
    assert torch.equal(LocalBlend(words).mask(maps, 8), expected)
    expected[0, 0] = False
    assert torch.equal(LocalBlend(words, without).mask(maps, 8), expected)
    assert torch.equal(LocalBlend(words, without).mask(1e-3 * maps, 8), expected)
    assert LocalBlend(words, threshold=0.1).mask(maps, 8)[6, 1]
    larger = LocalBlend(words, without).mask(maps, 16)
    assert torch.equal(larger, expected.repeat_interleave(2, 0).repeat_interleave(2, 1))


def test_repaired_tokens_act_where_the_edited_caption_has_the_same_words(model: TextToImage) -> None:
    own = model.embed([SOURCE]).rows[0][0, [2, 5]]
    same = start(tokens=[(own,)] * STEPS, positions=[2, 5])
    torch.testing.assert_close(last(model, SWAP, BOUND, same), last(model, SWAP, BOUND))
    moved = start(tokens=[(own.flip(1),)] * STEPS, positions=[2, 5])
    source, edited = last(model, Edit(SOURCE, kind="refine"), FREE, moved)
    assert difference(source, last(model, Edit(SOURCE), FREE)[0]) > 1e-3
    torch.testing.assert_close(edited, source, rtol=1e-4, atol=1e-4)
    # "dog" is kept by the swap, and "cat" is not there any more.
    dog = start(tokens=[(torch.stack([own[0], own[1].flip(0)]),)] * STEPS, positions=[2, 5])
    cat = start(tokens=[(own[:1].flip(1),)] * STEPS, positions=[2])
    plain = last(model, SWAP, FREE)[1]
    assert difference(last(model, SWAP, FREE, dog)[1], plain) > 1e-3
    torch.testing.assert_close(last(model, SWAP, FREE, cat)[1], plain, rtol=1e-4, atol=1e-4)


def test_every_step_has_its_empty_prompt(model: TextToImage, swapped: Tensor) -> None:
    empty = model.unconditional().states
    torch.testing.assert_close(last(model, SWAP, FREE, start(unconditional=[empty] * STEPS)), swapped)
    for step in range(STEPS):
        states = [empty + (0.5 if at == step else 0) for at in range(STEPS)]
        assert difference(last(model, SWAP, FREE, start(unconditional=states)), swapped) > 1e-4


def test_stopping_leaves_the_model_as_it_was(model: TextToImage) -> None:
    before = dict(model.unet.attn_processors)
    running = edit(model, start(), SWAP, BOUND)
    assert next(running).step == 0
    assert model.unet.attn_processors == before
    whole = [progress.latents for progress in edit(model, start(), SWAP, BOUND)]
    torch.testing.assert_close(next(running).latents, whole[1])  # two at a time do not disturb each other
    running.close()
    assert model.unet.attn_processors == before


def test_progress_tells_step_and_preview(model: TextToImage) -> None:
    seen = list(edit(model, start(), SWAP))
    assert [(progress.step, progress.steps) for progress in seen] == [(step, STEPS) for step in range(STEPS)]
    assert seen[0].clean.shape == (2, 4, 16, 16)
    torch.testing.assert_close(seen[-1].clean, seen[-1].latents)  # nothing is left to remove
    assert seen[0].maps.shape == (2, 16, 16, 77)
    torch.testing.assert_close(seen[-1].maps[0].sum(dim=-1), torch.ones(16, 16))


def test_sliced_attention_gives_the_same(model: TextToImage) -> None:
    whole = last(model, SWAP, BOUND)
    sliced = tiny_model()
    sliced.unet.set_attention_slice("max")
    torch.testing.assert_close(last(sliced, SWAP, BOUND), whole, rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def inverted(model: TextToImage) -> RepairState:
    pixels = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    settings = RepairSettings(steps=STEPS, attention_steps=1, null_steps=1, guidance=3)
    return start_repair(model, pixels, SOURCE, ["dog", "cat"], settings)


def test_an_edit_begins_where_a_repair_ended(model: TextToImage, inverted: RepairState) -> None:
    with pytest.raises(ConfigError, match="not ready"):
        EditStart.from_repair(model, inverted, plain=True)
    for progress in repair(model, inverted):
        if progress.stage == "attention":
            break
    assert not EditStart.from_repair(model, inverted, plain=True).unconditional
    with pytest.raises(ConfigError, match="not ready"):
        EditStart.from_repair(model, inverted)
    for _ in repair(model, inverted):
        pass
    begin = EditStart.from_repair(model, inverted)
    assert (begin.positions, begin.guidance, len(begin.tokens)) == ([2, 5], 3, STEPS)
    source, edited = last(model, Edit(SOURCE, kind="refine"), FREE, begin)
    assert inverted.latents is not None
    torch.testing.assert_close(source, inverted.latents[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(edited, source, rtol=1e-4, atol=1e-4)


WRONG: dict[str, tuple[Edit, str]] = {
    "other numbers of words": (Edit("a happy cat and a dog"), "one for one"),
    "weight of no word": (Edit(SWAPPED, weights={"cat": 2.0}), "does not contain"),
    "schedule of no word": (Edit(SWAPPED, words={"cat": 0.2}), "does not contain"),
    "blend by no word": (replace(SWAP, blend=BlendPlaces(source=["horse"])), "does not contain"),
    "blend by nothing": (replace(SWAP, blend=BlendPlaces()), "not said where"),
    "threshold": (replace(SWAP, blend=BlendPlaces(source=["cat"], threshold=1.0)), "cannot be a threshold"),
    "no number": (replace(SWAP, blend=BlendPlaces(source=["cat"], start=float("nan"))), "cannot be a threshold"),
    "empty mask": (replace(SWAP, blend=BlendPlaces(mask=torch.zeros(8, 8))), "mask is empty"),
    "oblong mask": (replace(SWAP, blend=BlendPlaces(mask=torch.ones(8, 9))), "not a square"),
    "mask and words": (replace(SWAP, blend=BlendPlaces(source=["cat"], mask=torch.ones(8, 8))), "Choose one"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_wishes_are_told_before_the_first_step(model: TextToImage, name: str) -> None:
    wanted, message = WRONG[name]
    with pytest.raises(ConfigError, match=message):
        edit(model, start(), wanted)


@pytest.mark.parametrize(
    "others",
    [
        lambda model: {"unconditional": [model.unconditional().states] * 2},
        lambda model: {"tokens": [(model.embed([SOURCE]).rows[0][0, [2]],)], "positions": [2]},
        lambda model: {"steps": 0},
    ],
)
def test_starts_that_do_not_fit_are_told(model: TextToImage, others: Callable[[TextToImage], dict[str, Any]]) -> None:
    with pytest.raises(ConfigError, match="steps"):
        edit(model, start(**others(model)), SWAP)


@pytest.mark.parametrize("guidance", [0.5, 51, float("nan")])
def test_guidance_that_is_none_is_told(model: TextToImage, guidance: float) -> None:
    with pytest.raises(ConfigError, match="no scale of guidance"):
        edit(model, start(guidance=guidance), SWAP)


def test_captions_that_are_too_long_are_edited_as_far_as_they_are_read(model: TextToImage) -> None:
    long = "a " * 74 + "cat and a dog"
    begin = replace(start(), prompt=long)
    source, edited = last(model, Edit(long.replace("dog", "wolf")), BOUND, begin)
    torch.testing.assert_close(edited, source, rtol=1e-4, atol=1e-4)
    with pytest.raises(ConfigError, match="too long"):
        edit(model, begin, Edit(long, weights={"dog": 2.0}))


def test_words_of_a_blend_become_tokens(model: TextToImage) -> None:
    source, edited = model.caption(SOURCE), model.caption(SWAPPED)
    found = local_blend(BlendPlaces(["cat"], ["dermatofibroma"], (), ["dog"]), source, edited, 77)
    assert found.words.nonzero().tolist() == [[0, 2], *([1, at] for at in range(2, 7))]
    assert found.without is not None
    assert found.without.nonzero().tolist() == [[1, 9]]
    assert local_blend(BlendPlaces(["cat"]), source, edited, 77).without is None
