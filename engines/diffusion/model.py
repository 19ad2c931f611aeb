"""A text-to-image pipeline of diffusers, opened up: what inversion, repair, editing and golden noise need of it.

Layouts: Stable Diffusion 1 and 2 (Rombach et al., arXiv:2112.10752; one text encoder) and SDXL (Podell et al.,
arXiv:2307.01952; two text encoders, a pooled text vector and the image's size as further conditions).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from engines.diffusion.attention import Kind, kind_of
from engines.diffusion.conditions import Conditions, Embedded
from engines.diffusion.memory import memory_watched as memory_watched
from engines.diffusion.words import Caption, read_caption
from engines.errors import BackboneError, ConfigError

Layout = Literal["sd", "sdxl"]
CLEAN = -1
"""The level below the lowest timestep: latents without noise."""
FINEST_MAP = 16
"""Side of the maps that are read in Stable Diffusion 1 at 512 pixels."""


class TextToImage:
    """A frozen text-to-image model. Latents, noise and states are float32, whatever the UNet's own precision.

    Made by `from_pipeline`, or by `engines.diffusion.loading.load_text_to_image` from a folder.
    """

    def __init__(
        self,
        unet: Any,
        vae: Any,
        scheduler: Any,
        tokenizers: Sequence[Any],
        text_encoders: Sequence[Any],
        zero_unconditional: bool = False,
    ) -> None:
        self.layout: Layout = _layout_of(unet, vae, len(text_encoders))
        self.unet, self.vae = unet, vae
        self.tokenizers, self.text_encoders = tuple(tokenizers), tuple(text_encoders)
        self.scheduler = _ddim(scheduler)
        self.prediction: str = self.scheduler.config.prediction_type
        self.zero_unconditional = zero_unconditional
        for part in (unet, vae, *text_encoders):
            part.eval().requires_grad_(False)
        self._alphas: Tensor = self.scheduler.alphas_cumprod.to(self.device)

    @classmethod
    def from_pipeline(cls, pipe: Any) -> TextToImage:
        """Opens a StableDiffusionPipeline or StableDiffusionXLPipeline; its parts are shared, and frozen.

        Raises:
            BackboneError: a part is missing or of another kind.
        """
        pairs = [
            (getattr(pipe, f"tokenizer{end}", None), getattr(pipe, f"text_encoder{end}", None)) for end in ("", "_2")
        ]
        if None in pairs[0] or any(getattr(pipe, part, None) is None for part in ("unet", "vae", "scheduler")):
            raise _unfit("a UNet, an autoencoder, a scheduler, a tokeniser or a text encoder is missing")
        tokenizers, encoders = zip(*(pair for pair in pairs if None not in pair), strict=True)
        zero = bool(pipe.config.get("force_zeros_for_empty_prompt", False))
        return cls(pipe.unet, pipe.vae, pipe.scheduler, tokenizers, encoders, zero)

    @property
    def device(self) -> torch.device:
        return torch.device(self.unet.device)

    @property
    def dtype(self) -> torch.dtype:
        """The UNet's. Not `unet.dtype`, which walks through all its parameters at every call."""
        weights: Tensor = self.unet.conv_in.weight
        return weights.dtype

    @property
    def factor(self) -> int:
        """Pixels to a side of one latent."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))

    @property
    def image_side(self) -> int:
        """Pixels to a side of the images that the model was made for."""
        return int(self.unet.config.sample_size) * self.factor

    @property
    def room(self) -> int:
        """Tokens that a caption may have, start and end included."""
        lengths = [tokenizer.model_max_length for tokenizer in self.tokenizers]
        return int(min(*lengths, *(encoder.config.max_position_embeddings for encoder in self.text_encoders)))

    @cached_property
    def fingerprint(self) -> str:
        """Tells models apart, also fine-tuned ones; the same in full and in half precision."""
        weights = dict(self.unet.named_parameters())
        keys = [name for name in weights if name.endswith("attn2.to_k.weight")]  # fine-tuning changes them first
        seen = hashlib.sha256(self.layout.encode())
        for name in ("conv_in.weight", "conv_out.weight", keys[-1]):
            seen.update(weights[name].detach().cpu().half().numpy().tobytes())
        return seen.hexdigest()[:16]

    # Text

    def caption(self, text: str) -> Caption:
        """The caption's words with the positions of their tokens, and what of it is not read."""
        return read_caption(text, self.tokenizers[0], self.room)

    def embed(self, captions: Sequence[str]) -> Embedded:
        """Token embeddings of captions; what is behind the last token that has room is left out."""
        ids, rows = [], []
        for tokenizer, encoder in zip(self.tokenizers, self.text_encoders, strict=True):
            found = tokenizer(
                list(captions), padding="max_length", max_length=self.room, truncation=True, return_tensors="pt"
            ).input_ids.to(self.device)
            ids.append(found)
            rows.append(encoder.get_input_embeddings()(found).float())
        return Embedded(tuple(ids), tuple(rows))

    def encode(self, captions: Sequence[str] | Embedded) -> Conditions:
        """Conditions of captions, or of token embeddings; gradients flow back to the embeddings."""
        embedded = captions if isinstance(captions, Embedded) else self.embed(captions)
        answers = [
            _run_text(encoder, ids, rows)
            for encoder, ids, rows in zip(self.text_encoders, embedded.ids, embedded.rows, strict=True)
        ]
        if self.layout == "sd":
            return Conditions(answers[0].last_hidden_state.float())
        states = torch.cat([answer.hidden_states[-2] for answer in answers], dim=-1)
        return Conditions(states.float(), answers[-1].text_embeds.float())

    def unconditional(self) -> Conditions:
        """Conditions of no text, one row: those of "", or zeros where the model was trained so (SDXL)."""
        with torch.no_grad():
            empty = self.encode([""])
        if not self.zero_unconditional:
            return empty
        return Conditions(
            torch.zeros_like(empty.states), None if empty.pooled is None else torch.zeros_like(empty.pooled)
        )

    # Pixels

    @torch.no_grad()
    def encode_image(self, pixels: Tensor, seed: int | None = None) -> Tensor:
        """Latents [B, C, h, w] of images [B, 3, H, W] in 0..1: the mean, or with a seed a sample, of the posterior.

        Raises:
            ConfigError: images are not square, or their side is no multiple of `factor`.
        """
        height, width = pixels.shape[-2:]
        if height != width or height % self.factor or not height:
            raise ConfigError(
                f"The image is {width} x {height} pixels; the model needs a square whose side is a multiple of "
                f"{self.factor}.",
                f"Cut it to a square and scale it to {self.image_side} x {self.image_side}.",
            )
        found = self.vae.encode(pixels.to(self.device, self.vae.dtype) * 2 - 1).latent_dist
        # Drawn on the CPU, so that a seed means the same on every machine.
        latents = found.mean if seed is None else found.sample(torch.Generator().manual_seed(seed))
        return latents.float() * float(self.vae.config.scaling_factor)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Images [B, 3, H, W] in 0..1 of latents [B, C, h, w]."""
        pixels = self.vae.decode(latents.to(self.vae.dtype) / float(self.vae.config.scaling_factor)).sample
        return (pixels.float() / 2 + 0.5).clamp(0, 1)

    # Noise

    def predict(self, latents: Tensor, timestep: int, conditions: Conditions) -> Tensor:
        """The noise [B, C, h, w] in latents at a timestep, also of models that predict velocity or the clean latents.

        Args:
            latents: [B, C, h, w].
            timestep: which level of noise they have.
            conditions: B rows.
        """
        dtype = self.dtype
        added = None
        if conditions.pooled is not None:
            height, width = (side * self.factor for side in latents.shape[-2:])
            # Original size, corner of the crop, wanted size (Podell et al., section 2.2): a whole image as it is.
            sizes = torch.tensor([height, width, 0, 0, height, width], device=latents.device, dtype=dtype)
            added = {"text_embeds": conditions.pooled.to(dtype), "time_ids": sizes.expand(len(latents), -1)}
        answer: Tensor = self.unet(
            latents.to(dtype),
            timestep,
            encoder_hidden_states=conditions.states.to(dtype),
            added_cond_kwargs=added,
        ).sample.float()
        if self.prediction == "epsilon":
            return answer
        alpha = self.alpha(timestep)
        if self.prediction == "v_prediction":  # Salimans and Ho, arXiv:2202.00512, appendix D
            return alpha.sqrt() * answer + (1 - alpha).sqrt() * latents
        return (latents - alpha.sqrt() * answer) / (1 - alpha).sqrt()

    def alpha(self, level: int) -> Tensor:
        """Cumulative alpha, a scalar: the share of signal (in variance) at a timestep, or at `CLEAN`."""
        if level >= 0:
            return self._alphas[level]
        final: Tensor = self.scheduler.final_alpha_cumprod
        return final.to(self._alphas)

    def levels(self, steps: int) -> list[int]:
        """The `steps` timesteps of a DDIM run, noisiest first, and `CLEAN` behind them.

        Raises:
            ConfigError: not between 1 and the number of timesteps in training.
        """
        most = int(self.scheduler.config.num_train_timesteps)
        if not 1 <= steps <= most:
            raise ConfigError(
                f"{steps} steps cannot be run.", f"Choose between 1 and {most} steps; 20 to 50 are usual."
            )
        self.scheduler.set_timesteps(steps)
        return [*self.scheduler.timesteps.tolist(), CLEAN]

    def move(self, latents: Tensor, noise: Tensor, start: int, end: int) -> Tensor:
        """Latents brought from one level to another, up or down, along the noise that is in them.

        DDIM without randomness (Song et al., arXiv:2010.02502, equation 12 with sigma 0). Down: `start` is a timestep,
        `end` the next of `levels`. Up (inversion): the other way round, with the noise predicted at `end`.
        """
        before, after = self.alpha(start), self.alpha(end)
        clean = (latents - (1 - before).sqrt() * noise) / before.sqrt()
        return after.sqrt() * clean + (1 - after).sqrt() * noise

    # Attention

    def attention_layers(self, latent_side: int, kind: Kind) -> dict[str, int]:
        """The UNet's attention layers of one kind in the order of running, and the side of the image that each sees."""
        deepest = len(self.unet.config.block_out_channels) - 1
        names = [name.removesuffix(".processor") for name in self.unet.attn_processors]
        found = {}
        for name in sorted(names, key=_running_order):
            if kind_of(name) == kind:
                place, number = name.split(".")[:2]
                found[name] = math.ceil(latent_side / 2 ** _depth(place, number, deepest))
        return found

    def attention_sides(self, latent_side: int, kind: Kind) -> list[int]:
        """Sides of the images that the UNet's attention layers of one kind see, the largest first."""
        return sorted(set(self.attention_layers(latent_side, kind).values()), reverse=True)

    def map_side(self, latents: Tensor) -> int:
        """Side of the cross-attention maps that are read: a quarter of the latents', but not coarser than 16.

        16 for Stable Diffusion 1 at 512 pixels as in the paper, 32 for SDXL at 1024, 16 for latents of 16.

        Raises:
            BackboneError: the UNet has no cross-attention at such a size.
        """
        side = latents.shape[-1]
        fitting = [one for one in self.attention_sides(side, "cross") if one <= max(FINEST_MAP, side // 4)]
        if not fitting:
            raise BackboneError(
                f"The model's cross-attention looks at images of {self.attention_sides(side, 'cross')} only, "
                f"which is too fine for latents of {side}.",
                "Choose another model or a larger image.",
            )
        return fitting[0]


def guide(without: Tensor, noise: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance (Ho and Salimans, arXiv:2207.12598): away from the noise predicted without text."""
    return without + scale * (noise - without)


def _run_text(encoder: Any, ids: Tensor, rows: Tensor) -> Any:
    """The encoder's answer for token embeddings instead of those that its table holds."""
    table = encoder.get_input_embeddings()
    handle = table.register_forward_hook(lambda module, arguments, answer: rows.to(answer.dtype))
    try:
        return encoder(ids, output_hidden_states=True)
    finally:
        handle.remove()


def _running_order(layer: str) -> int:
    """Down, middle, up; within these the UNet lists layers as they run."""
    return ["down_blocks", "mid_block", "up_blocks"].index(layer.split(".")[0])


def _depth(place: str, number: str, deepest: int) -> int:
    """How many times a block's images are halved."""
    if place == "down_blocks":
        return int(number)
    return deepest - int(number) if place == "up_blocks" else deepest


def _ddim(scheduler: Any) -> DDIMScheduler:
    """DDIM over the same levels of noise. Latents are never clipped: inversion could not undo that."""
    found = DDIMScheduler.from_config(scheduler.config, clip_sample=False, thresholding=False)
    if found.config.rescale_betas_zero_snr:
        raise _unfit("its last level of noise has no signal left, so no image can be inverted")
    return found


def _layout_of(unet: Any, vae: Any, encoders: int) -> Layout:
    kind, channels = unet.config.addition_embed_type, int(vae.config.latent_channels)
    if unet.config.in_channels != channels or unet.config.out_channels != channels:
        raise _unfit(f"its UNet reads {unet.config.in_channels} channels, and its latents have {channels}")
    if kind is None and encoders == 1:
        return "sd"
    if kind == "text_time" and encoders == 2:
        return "sdxl"
    raise _unfit(f"its UNet wants '{kind}' beside the text, and there are {encoders} text encoders")


def _unfit(why: str) -> BackboneError:
    return BackboneError(
        f"This is no text-to-image model that can be used here: {why}.",
        "Choose a Stable Diffusion 1, 2 or SDXL model in diffusers format (not inpainting, refiner or SD 3).",
    )
