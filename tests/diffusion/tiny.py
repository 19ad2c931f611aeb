"""Random text-to-image pipelines, tiny, in the layouts of Stable Diffusion 1, 2 and XL."""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from engines.diffusion.model import TextToImage
from engines.miniworld.diffusion.model import build_tokenizer

Name = Literal["sd1", "sd2", "sdxl"]
WIDTH = 16
ROOM = 77
NOISE: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
}


@cache
def tokenizer(room: int = ROOM) -> CLIPTokenizer:
    made = build_tokenizer()
    made.model_max_length = room
    return made


def tiny_pipeline(name: Name, seed: int = 0) -> StableDiffusionPipeline | StableDiffusionXLPipeline:
    """A pipeline whose images have 32 pixels to a side and whose latents have 16."""
    torch.manual_seed(seed)
    twice = name == "sdxl"
    vae = AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=32,
        layers_per_block=1,
    )
    extra: dict[str, Any] = {}
    if twice:
        # 6 sizes of 8 numbers each, and the pooled text.
        extra = {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 6 * 8 + WIDTH,
        }
    unet = UNet2DConditionModel(
        sample_size=16,
        layers_per_block=1,
        block_out_channels=(16, 32),
        down_block_types=("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2,
        cross_attention_dim=2 * WIDTH if twice else WIDTH,
        attention_head_dim=2,
        norm_num_groups=8,
        **extra,
    )
    scheduler = {
        "sd1": lambda: PNDMScheduler(**NOISE, skip_prk_steps=True, set_alpha_to_one=False),
        "sd2": lambda: DDIMScheduler(
            **NOISE, set_alpha_to_one=False, clip_sample=False, prediction_type="v_prediction"
        ),
        "sdxl": lambda: EulerDiscreteScheduler(**NOISE),
    }[name]()
    parts: dict[str, Any] = {"vae": vae, "unet": unet, "scheduler": scheduler, "tokenizer": tokenizer()}
    parts["text_encoder"] = CLIPTextModel(_text("gelu" if name == "sd2" else "quick_gelu"))
    if twice:
        parts |= {"tokenizer_2": tokenizer(), "text_encoder_2": CLIPTextModelWithProjection(_text("gelu"))}
        return StableDiffusionXLPipeline(**parts)
    return StableDiffusionPipeline(**parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False)


def thin_unet(down: str, latent_side: int) -> TextToImage:
    """A UNet with the blocks of a released model, very thin: "C" stands for a block with cross-attention, "-" without.

    The other parts are tiny.
    """
    torch.manual_seed(0)
    kinds = {"C": "CrossAttn", "-": ""}
    pipe = tiny_pipeline("sd1")
    unet = UNet2DConditionModel(
        sample_size=latent_side,
        layers_per_block=2,
        block_out_channels=(8,) * len(down),
        down_block_types=tuple(f"{kinds[one]}DownBlock2D" for one in down),
        up_block_types=tuple(f"{kinds[one]}UpBlock2D" for one in reversed(down)),
        cross_attention_dim=WIDTH,
        attention_head_dim=2,
        norm_num_groups=4,
    )
    return TextToImage(unet, pipe.vae, pipe.scheduler, [pipe.tokenizer], [pipe.text_encoder])


def tiny_model(name: Name = "sd1", seed: int = 0) -> TextToImage:
    """The same, opened up, with attention that differs from place to place."""
    model = TextToImage.from_pipeline(tiny_pipeline(name, seed))
    with torch.no_grad():
        for parameter_name, parameter in model.unet.named_parameters():
            if "attn2.to_q" in parameter_name or "attn2.to_k" in parameter_name:
                parameter.mul_(4)
    return model


def _text(activation: str) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=49408,
        hidden_size=WIDTH,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=ROOM,
        projection_dim=WIDTH,
        hidden_act=activation,
        bos_token_id=49406,
        eos_token_id=49407,
        pad_token_id=49407,
    )
