"""The tiny diffusion models that official answers were taken from."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from engines.diffusion.model import TextToImage
from engines.miniworld.diffusion.model import build_tokenizer
from tests.parity import parity_weights

SCHEDULER: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}


def parity_model() -> TextToImage:
    """Latents of 16 for images of 32; cross-attention at 16 (3 layers) and 8 (4 layers), two heads."""
    return _filled(_unet(cross_attention_dim=32), [CLIPTextModel(_text())])


def parity_model_xl() -> TextToImage:
    """The same in SDXL's layout: two text encoders, and a pooled text vector beside them."""
    added = {"addition_embed_type": "text_time", "addition_time_embed_dim": 8}
    unet = _unet(cross_attention_dim=64, projection_class_embeddings_input_dim=80, **added)
    return _filled(unet, [CLIPTextModel(_text()), CLIPTextModelWithProjection(_text())])


def _unet(**options: Any) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=16,
        layers_per_block=1,
        block_out_channels=(32, 64),
        down_block_types=("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2,
        attention_head_dim=2,
        norm_num_groups=8,
        **options,
    )


def _text() -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=49408,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=77,
        projection_dim=32,
        hidden_act="quick_gelu",
    )


def _filled(unet: UNet2DConditionModel, encoders: list[Any]) -> TextToImage:
    vae = AutoencoderKL(
        block_out_channels=(16, 32),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=32,
        scaling_factor=0.18215,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
    )
    for part in (unet, vae, *encoders):
        parity_weights.fill_(part)
    with torch.no_grad():
        for name, parameter in unet.named_parameters():
            if name.endswith("attn2.to_q.weight"):
                parameter.mul_(3)
    tokenizer = build_tokenizer()
    tokenizer.model_max_length = 77
    count = len(encoders)
    return TextToImage(
        unet, vae, DDIMScheduler(**SCHEDULER), [tokenizer] * count, encoders, zero_unconditional=count > 1
    )
