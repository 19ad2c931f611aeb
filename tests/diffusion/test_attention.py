"""Recording attention: the UNet answers as before, rows sum to one, gradients flow, processors are put back."""

from __future__ import annotations

import pytest
import torch
from diffusers import UNet2DConditionModel

from engines.diffusion.attention import AttentionRecorder


@pytest.fixture(scope="module")
def unet() -> UNet2DConditionModel:
    torch.manual_seed(0)
    return (
        UNet2DConditionModel(
            sample_size=16,
            layers_per_block=1,
            block_out_channels=(16, 32),
            down_block_types=("CrossAttnDownBlock2D",) * 2,
            up_block_types=("CrossAttnUpBlock2D",) * 2,
            cross_attention_dim=24,
            attention_head_dim=2,
            norm_num_groups=8,
        )
        .eval()
        .requires_grad_(False)
    )


def inputs(batch: int = 2) -> tuple[torch.Tensor, int, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, 4, 16, 16, generator=generator), 500, torch.randn(batch, 7, 24, generator=generator)


def test_the_answer_stays_the_same(unet: UNet2DConditionModel) -> None:
    plain = unet(*inputs()).sample
    before = dict(unet.attn_processors)
    with AttentionRecorder(unet, [16, 8], ["cross", "self"]) as recorder:
        watched = unet(*inputs()).sample
    torch.testing.assert_close(watched, plain, rtol=1e-4, atol=1e-5)
    assert unet.attn_processors == before
    recorded = recorder.take()
    assert {one.kind for one in recorded} == {"cross", "self"}
    assert len(recorded) == len(before)
    assert recorder.take() == []


def test_rows_are_probabilities(unet: UNet2DConditionModel) -> None:
    with AttentionRecorder(unet, [16, 8], ["cross", "self"]) as recorder:
        unet(*inputs())
    for one in recorder.take():
        keys = 7 if one.kind == "cross" else one.side**2
        assert one.probabilities.shape == (2, one.side**2, keys)
        torch.testing.assert_close(one.probabilities.sum(-1), torch.ones(2, one.side**2))


def test_word_maps_are_the_mean_of_the_layers_of_one_size(unet: UNet2DConditionModel) -> None:
    with AttentionRecorder(unet, [16]) as recorder:
        unet(*inputs())
        single = recorder.take()
        unet(*inputs())
        maps = recorder.word_maps()
    assert [one.kind for one in single] == ["cross"] * len(single)
    mean = sum(one.probabilities for one in single) / len(single)
    torch.testing.assert_close(maps.flatten(1, 2), mean)


def test_gradients_reach_the_words_of_a_frozen_unet(unet: UNet2DConditionModel) -> None:
    latents, step, states = inputs()
    states.requires_grad_()
    with AttentionRecorder(unet, [16]) as recorder:
        unet(latents, step, states)
        recorder.word_maps()[..., 2].sum().backward()
    assert states.grad is not None
    assert float(states.grad.abs().max()) > 0


def test_sizes_that_cannot_be_averaged_are_told(unet: UNet2DConditionModel) -> None:
    with AttentionRecorder(unet, [16, 8]) as recorder:
        unet(*inputs())
        with pytest.raises(ValueError, match=r"\[8, 16\]"):
            recorder.word_maps()
    with AttentionRecorder(unet, [5]) as recorder:
        unet(*inputs())
        with pytest.raises(ValueError, match=r"\[\]"):
            recorder.word_maps()


def test_an_error_inside_puts_the_processors_back(unet: UNet2DConditionModel) -> None:
    before = dict(unet.attn_processors)
    with pytest.raises(RuntimeError, match="stop"), AttentionRecorder(unet, [16]):
        raise RuntimeError("stop")
    assert unet.attn_processors == before
