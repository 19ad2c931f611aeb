"""The mini-CLIP: open_clip's own CLIP class in a small size, and its folder in open_clip's layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from safetensors.torch import save_file
from torch import Tensor, nn

CONFIG: dict[str, Any] = {
    "embed_dim": 128,
    "vision_cfg": {"image_size": 64, "layers": 6, "width": 192, "head_width": 48, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 128, "heads": 4, "layers": 4},
}
IMAGE_SIZE: int = CONFIG["vision_cfg"]["image_size"]


def build(patch_dropout: float = 0.0) -> open_clip.CLIP:
    """A fresh model; ``patch_dropout`` is the share of patches left out while training (FLIP, arXiv:2212.00794)."""
    vision = {**CONFIG["vision_cfg"], "patch_dropout": patch_dropout}
    return open_clip.CLIP(embed_dim=CONFIG["embed_dim"], vision_cfg=vision, text_cfg=CONFIG["text_cfg"])


def set_patch_dropout(model: open_clip.CLIP, share: float) -> None:
    """Changes the share of patches left out while training."""
    if isinstance(model.visual.patch_dropout, nn.Identity):
        return
    model.visual.patch_dropout.prob = share


def normalise(pixels: Tensor) -> Tensor:
    """Pictures [B, H, W, 3] uint8 to the network's input [B, 3, H, W] (OpenAI's mean and deviation)."""
    mean = torch.tensor(OPENAI_DATASET_MEAN, device=pixels.device) * 255
    deviation = torch.tensor(OPENAI_DATASET_STD, device=pixels.device) * 255
    return ((pixels.float() - mean) / deviation).permute(0, 3, 1, 2).contiguous()


def encode_captions(model: open_clip.CLIP, tokens: Tensor, buckets: int = 1) -> Tensor:
    """Text features [U, D] of tokens [U, L], L at most 77: attention is causal, so padding may be cut off.

    Args:
        model: the two towers.
        tokens: token ids, padded with zeros.
        buckets: number of groups of similar length, each cut to its own longest caption.
    """
    ends = tokens.argmax(dim=-1)
    order = ends.argsort()
    parts = []
    for group in order.chunk(buckets):
        length = int(ends[group].max()) + 1
        hidden = model.token_embedding(tokens[group, :length]) + model.positional_embedding[:length]
        hidden = model.transformer(hidden, attn_mask=model.attn_mask[:length, :length])
        hidden = model.ln_final(hidden[torch.arange(len(group)), ends[group]])
        parts.append(hidden @ model.text_projection)
    return torch.cat(parts)[order.argsort()]


def save_folder(model: open_clip.CLIP, folder: Path) -> None:
    """Writes ``open_clip_config.json`` and ``open_clip_model.safetensors`` (half precision) into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: value.detach().half().contiguous().cpu() for name, value in model.state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors")
    preprocess = {
        "mean": list(OPENAI_DATASET_MEAN),
        "std": list(OPENAI_DATASET_STD),
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    }
    config = {"model_cfg": CONFIG, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")


def load_folder(folder: Path) -> open_clip.CLIP:
    """Loads a folder in open_clip's layout, in full precision and evaluation mode."""
    model = open_clip.create_model(f"local-dir:{folder}")
    return model.eval()
