"""The parts of the mini-diffusion model, all of them diffusers' and transformers' own classes, and its folder."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from open_clip import SimpleTokenizer
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from engines.miniworld.diffusion.start import begin_with_colours

IMAGE_SIZE = 64
LATENT_SIZE = 16
LATENT_CHANNELS = 4
TOKENS = 24
"""Longest caption, start and end included; captions of the scenes need at most 20."""
WIDTH = 128
"""Of the text states, which is what the cross-attention reads."""
NOISE: dict[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "prediction_type": "epsilon",
}
"""Stable Diffusion 1's levels of noise (Rombach et al., arXiv:2112.10752)."""


def build_autoencoder() -> AutoencoderKL:
    """Pictures [B, 3, 64, 64] in [-1, 1] to latents [B, 4, 16, 16] and back."""
    autoencoder = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 32, 64),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=1,  # small groups would take a picture's own colour and brightness away
        sample_size=IMAGE_SIZE,
        mid_block_add_attention=False,
    )
    begin_with_colours(autoencoder)
    return autoencoder


def build_unet() -> UNet2DConditionModel:
    """Predicts the noise of latents [B, 4, 16, 16], with cross-attention at 16 x 16 and 8 x 8."""
    return UNet2DConditionModel(
        sample_size=LATENT_SIZE,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        layers_per_block=1,
        block_out_channels=(48, 96),
        down_block_types=("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2,
        cross_attention_dim=WIDTH,
        attention_head_dim=3,
        norm_num_groups=4,
    )


def build_text(vocabulary: int = 49408) -> CLIPTextModel:
    """Captions [B, 24] to states [B, 24, 128]."""
    config = CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=TOKENS,
        bos_token_id=vocabulary - 2,  # the last two, of the whole vocabulary and of any part that has both
        eos_token_id=vocabulary - 1,
        pad_token_id=vocabulary - 1,
    )
    return CLIPTextModel(config)


def with_all_words(text: CLIPTextModel, words: Tensor) -> CLIPTextModel:
    """The encoder of a few words, as one of CLIP's whole vocabulary; the other words mean nothing to it.

    Args:
        text: encoder whose token i is CLIP's token `words[i]`.
        words: [V] token ids.
    """
    whole = build_text()
    table = whole.get_input_embeddings().weight.detach().clone()
    table[words] = text.get_input_embeddings().weight.detach().to(table)
    state = dict(text.state_dict())
    names = [name for name in state if name.endswith("token_embedding.weight")]
    whole.load_state_dict({**state, **dict.fromkeys(names, table)})
    return whole


def build_tokenizer() -> CLIPTokenizer:
    """CLIP's own byte pairs, from the list that open_clip carries."""
    pieces = SimpleTokenizer()
    vocabulary = dict(pieces.encoder)
    for given, usual in (("<start_of_text>", "<|startoftext|>"), ("<end_of_text>", "<|endoftext|>")):
        vocabulary[usual] = vocabulary.pop(given)
    merges = sorted(pieces.bpe_ranks, key=pieces.bpe_ranks.__getitem__)
    with tempfile.TemporaryDirectory() as folder:
        words, pairs = Path(folder, "vocab.json"), Path(folder, "merges.txt")
        words.write_text(json.dumps(vocabulary, ensure_ascii=False), "utf-8")
        pairs.write_text("\n".join(["#version: 0.2", *map(" ".join, merges)]) + "\n", "utf-8")
        return CLIPTokenizer(vocab=str(words), merges=str(pairs), model_max_length=TOKENS)


def tokenize(tokenizer: CLIPTokenizer, captions: list[str]) -> Tensor:
    """Token ids [B, 24], cut and padded as the pipeline does."""
    found = tokenizer(captions, padding="max_length", max_length=TOKENS, truncation=True, return_tensors="pt")
    return found.input_ids


def to_unit(pixels: Tensor) -> Tensor:
    """Pictures [B, 64, 64, 3] uint8 to [B, 3, 64, 64] in [-1, 1]."""
    return (pixels.float() / 127.5 - 1).permute(0, 3, 1, 2).contiguous()


def assemble(
    autoencoder: AutoencoderKL, text: CLIPTextModel, unet: UNet2DConditionModel, tokenizer: CLIPTokenizer | None = None
) -> StableDiffusionPipeline:
    """The parts as a pipeline that samples with DDIM."""
    return StableDiffusionPipeline(
        vae=autoencoder,
        text_encoder=text,
        tokenizer=tokenizer or build_tokenizer(),
        unet=unet,
        scheduler=DDIMScheduler(**NOISE),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def save_folder(pipeline: StableDiffusionPipeline, folder: Path) -> None:
    """Writes an ordinary pipeline folder, weights in half precision."""
    pipeline.to(dtype=torch.float16)
    pipeline.save_pretrained(folder, safe_serialization=True)
    pipeline.to(dtype=torch.float32)


def load_folder(folder: Path, device: str = "cpu") -> StableDiffusionPipeline:
    """The pipeline of a folder, in full precision."""
    return StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32, local_files_only=True).to(device)
