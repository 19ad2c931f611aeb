"""Image towers, and visual prompts in those that are plain vision transformers.

Visual prompts (multimodal prompt learning: VPT, IVLP, MaPLe) stand behind the patch tokens. They get no positional
embedding, pass the norm in front of the blocks, may be replaced between blocks, and are never pooled.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, overload

import torch
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from timm.models.vision_transformer import VisionTransformer as TimmVisionTransformer
from torch import Tensor
from torch.nn import functional as F

from engines.backbones.runtime import Runtime
from engines.errors import ConfigError


class VisionTower:
    """Any image tower of open_clip; without tokens to prompt unless a subclass knows better.

    Attributes:
        width: d_v, width of the tower's tokens (or of its last feature map).
        depth: number of transformer blocks, 0 for towers that are not plain vision transformers.
        patch: side of a patch in pixels, 0 where it is not known.
        reason: why the tower carries no prompts, in words; empty where it does.
        class_token: whether the first of its tokens stands for the whole image.
    """

    class_token = True

    def __init__(self, visual: Any, runtime: Runtime) -> None:
        self._visual = visual
        self.runtime = runtime
        self.width = _width(visual)
        self.depth = 0
        self.patch = 0
        self.reason = f"its image tower is a {_kind(visual)}, and prompts can join only the tokens of a plain ViT"

    @overload
    def encode(
        self,
        pixels: Tensor,
        prompts: Tensor | None = None,
        deep: Sequence[Tensor] | None = None,
        return_tokens: Literal[False] = False,
    ) -> Tensor: ...

    @overload
    def encode(
        self,
        pixels: Tensor,
        prompts: Tensor | None = None,
        deep: Sequence[Tensor] | None = None,
        *,
        return_tokens: Literal[True],
    ) -> tuple[Tensor, Tensor]: ...

    def encode(
        self,
        pixels: Tensor,
        prompts: Tensor | None = None,
        deep: Sequence[Tensor] | None = None,
        return_tokens: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Image features, not normalised.

        Args:
            pixels: [B, 3, H, W], preprocessed.
            prompts: [n_v, d_v] (or [B, n_v, d_v]) visual prompts in front of the first block.
            deep: up to depth - 1 tensors [n_v, d_v]; the i-th replaces the prompts in front of block i + 1.
            return_tokens: also give the patch tokens behind the last norm, [B, N, d_v]; `project` takes them to the
                joint space.
        Returns:
            [B, D], or ([B, D], [B, N, d_v]).
        Raises:
            ConfigError: the tower carries no prompts or has no patch tokens.
        """
        if prompts is None and deep:
            raise ConfigError("Deep visual prompts need prompts in front of the first block too.", "Pass both.")
        with self.runtime.autocast():
            if prompts is None and not return_tokens:
                out = self._visual(pixels)
                return (out[0] if isinstance(out, tuple) else out).float()
            if self.reason:
                raise ConfigError(
                    f"This backbone carries no visual prompts: {self.reason}.",
                    "Choose a ViT backbone or another method.",
                )
            if deep and len(deep) >= self.depth:
                raise ConfigError(
                    f"Prompt depth {len(deep) + 1} exceeds the {self.depth} blocks of this image tower.",
                    f"Choose a depth of at most {self.depth}.",
                )
            features, tokens = self._prompted(pixels, prompts, deep or ())
            return (features.float(), tokens.float()) if return_tokens else features.float()

    def project(self, tokens: Tensor) -> Tensor:
        """Patch tokens [B, N, d_v] of `encode(..., return_tokens=True)` in the joint space, [B, N, D]."""
        raise ConfigError(f"This backbone has no patch tokens: {self.reason}.", "Choose a ViT backbone.")

    def embed(self, pixels: Tensor) -> Tensor:
        """What enters the first block: leading (class) tokens and patch tokens, [B, T, d_v].

        open_clip's own towers take images of any size here, not of the model's alone.
        """
        return self._enter(pixels, None)

    @property
    def blocks(self) -> Sequence[Any]:
        """The transformer blocks, [B, T, d_v] -> [B, T, d_v]; none for other towers."""
        return ()

    def hidden_states(self, pixels: Tensor, prompts: Tensor | None = None, deep: Sequence[Tensor] = ()) -> list[Tensor]:
        """Output of every block, [B, T, d_v] without the prompts' rows; arguments as for `encode`."""
        with self.runtime.autocast():
            states = _states(self.blocks, self._enter(pixels, prompts), prompts, deep)
            return [state.float() for state in states]

    def pool(self, x: Tensor) -> Tensor:
        """What leaves the last block, [B, T, d_v], as image features [B, D], not normalised."""
        return self._leave(x)[0].float()

    def joint_tokens(self, x: Tensor) -> Tensor:
        """All tokens [B, T, d_v] behind a block in the joint space, [B, T, D]: last norm and projection on each."""
        raise ConfigError(f"This backbone has no patch tokens: {self.reason}.", "Choose a ViT backbone.")

    def _enter(self, pixels: Tensor, prompts: Tensor | None) -> Tensor:
        raise ConfigError(f"This backbone has no patch tokens: {self.reason}.", "Choose a ViT backbone.")

    def _prompted(self, pixels: Tensor, prompts: Tensor | None, deep: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        return self._leave(_through(self.blocks, self._enter(pixels, prompts), prompts, deep))

    def _leave(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features [B, D] and patch tokens [B, N, d_v] behind the last norm."""
        raise ConfigError(f"This backbone has no patch tokens: {self.reason}.", "Choose a ViT backbone.")


class OpenClipVisionTower(VisionTower):
    """open_clip's VisionTransformer with class token or average pooling."""

    def __init__(self, visual: Any, runtime: Runtime) -> None:
        super().__init__(visual, runtime)
        self.depth = len(visual.transformer.resblocks)
        self.patch = int(visual.patch_size[0])
        self.reason = ""

    def _leave(self, x: Tensor) -> tuple[Tensor, Tensor]:
        visual = self._visual
        pooled, tokens = visual._pool(x)
        return pooled if visual.proj is None else pooled @ visual.proj, tokens

    @property
    def blocks(self) -> Sequence[Any]:
        return self._visual.transformer.resblocks

    def _enter(self, pixels: Tensor, prompts: Tensor | None) -> Tensor:
        visual = self._visual
        patches = visual.conv1(pixels)
        x = patches.flatten(2).transpose(1, 2)
        x = torch.cat([visual.class_embedding.expand(len(x), 1, -1).to(x.dtype), x], dim=1)
        return visual.ln_pre(_append(x + self._positions(patches.shape[-2:]), prompts))

    def _positions(self, grid: Sequence[int]) -> Tensor:
        """Position embeddings [1 + N, d] of a grid of patches: bilinear between the model's own for other sizes."""
        own, size = self._visual.positional_embedding, self._visual.grid_size
        if tuple(grid) == tuple(size):
            return own
        table = own[1:].unflatten(0, size).permute(2, 0, 1)[None]
        table = F.interpolate(table, size=tuple(grid), mode="bilinear", align_corners=False)[0]
        return torch.cat([own[:1], table.flatten(1).T])

    def joint_tokens(self, x: Tensor) -> Tensor:
        x = self._visual.ln_post(x)
        return x if self._visual.proj is None else x @ self._visual.proj

    def project(self, tokens: Tensor) -> Tensor:
        visual = self._visual
        if visual.final_ln_after_pool:
            tokens = visual.ln_post(tokens)
        return tokens if visual.proj is None else tokens @ visual.proj


class TimmVisionTower(VisionTower):
    """A plain timm vision transformer inside open_clip's TimmModel."""

    def __init__(self, visual: Any, runtime: Runtime) -> None:
        super().__init__(visual, runtime)
        self.depth = len(visual.trunk.blocks)
        self.reason = ""
        self.class_token = visual.trunk.num_prefix_tokens > 0

    def _leave(self, x: Tensor) -> tuple[Tensor, Tensor]:
        trunk = self._visual.trunk
        x = trunk.norm(x)
        return self._visual.head(trunk.forward_head(x)), x[:, trunk.num_prefix_tokens :]

    @property
    def blocks(self) -> Sequence[Any]:
        return self._visual.trunk.blocks

    def _enter(self, pixels: Tensor, prompts: Tensor | None) -> Tensor:
        trunk = self._visual.trunk
        return trunk.norm_pre(_append(trunk._pos_embed(trunk.patch_embed(pixels)), prompts))

    def joint_tokens(self, x: Tensor) -> Tensor:
        trunk = self._visual.trunk
        return self.project(trunk.norm(x))

    def project(self, tokens: Tensor) -> Tensor:
        trunk = self._visual.trunk
        if trunk.attn_pool is not None:
            raise ConfigError(
                "This backbone pools its patches by attention, so single patches have no place in the joint space.",
                "Choose a ViT backbone that pools a class token or the mean.",
            )
        return self._visual.head(trunk.head(trunk.fc_norm(tokens)))


def vision_tower(model: Any, runtime: Runtime) -> VisionTower:
    """The façade that fits the image side of an open_clip model."""
    visual = model.visual
    if type(visual) is VisionTransformer and visual.attn_pool is None and visual.pool_type in ("tok", "avg"):
        return OpenClipVisionTower(visual, runtime)
    if type(visual) is TimmModel and type(visual.trunk) is TimmVisionTransformer:
        return TimmVisionTower(visual, runtime)
    return VisionTower(visual, runtime)


def _append(x: Tensor, prompts: Tensor | None) -> Tensor:
    if prompts is None:
        return x
    return torch.cat([x, prompts.expand(len(x), *prompts.shape[-2:]).to(x.dtype)], dim=1)


def _through(blocks: Any, x: Tensor, prompts: Tensor | None, deep: Sequence[Tensor]) -> Tensor:
    """Run the blocks, renewing the prompt rows where `deep` says so, and drop those rows at the end."""
    for state in _states(blocks, x, prompts, deep):
        x = state  # one at a time: without gradient nothing else stays in memory
    return x


def _states(blocks: Any, x: Tensor, prompts: Tensor | None, deep: Sequence[Tensor]) -> Iterator[Tensor]:
    """What leaves each block, without the prompts' rows."""
    n_own = x.shape[1] - (0 if prompts is None else prompts.shape[-2])
    for i, block in enumerate(blocks):
        if 1 <= i <= len(deep):
            x = _append(x[:, :n_own], deep[i - 1])
        x = block(x)
        yield x[:, :n_own]


def _width(visual: Any) -> int:
    trunk = getattr(visual, "trunk", None)
    if trunk is not None:
        return int(trunk.num_features)
    if hasattr(visual, "class_embedding"):
        return int(visual.class_embedding.shape[-1])
    return int(visual.attnpool.c_proj.in_features)  # open_clip's ModifiedResNet


def _kind(visual: Any) -> str:
    names = {"ModifiedResNet": "ResNet", "VisionTransformer": "ViT with attention pooling"}
    name = type(getattr(visual, "trunk", visual)).__name__
    return names.get(name, name)
