"""Images as tensors: features that are computed once, random crops, pixels."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from engines.backbones import Backbone, FeatureCache, build_features
from engines.backbones.preprocess import TrainTransform
from engines.backbones.randaugment import RandAugment
from engines.data import load_image
from engines.errors import DataError
from engines.prompts.settings import TrainingConfig
from engines.runs.material import Item
from engines.store import Workspace

BATCH = 64
"""Images that go through the image tower together."""
KEPT_BYTES = 2**30
"""Prepared images that are kept for the next pass."""
Progress = Callable[[float, str], None]
"""(fraction of this part, message)"""


class Features:
    """Image features of a data set on one backbone, computed once and kept beside the workspace."""

    def __init__(self, workspace: Workspace, backbone: Backbone, dataset_id: int) -> None:
        self.workspace, self.backbone = workspace, backbone
        self.folder = workspace.folder("features") / str(dataset_id)

    def get(
        self,
        items: list[Item],
        progress: Progress,
        check_cancelled: Callable[[], None],
        view: str = "centre",
        prepare: Callable[[Image.Image, Item], Tensor] | None = None,
    ) -> Tensor:
        """Features [N, D] of `items`; missing ones are computed, with `prepare` in place of the test transform."""
        backbone = self.backbone
        cache = FeatureCache(self.folder, backbone.name, backbone.fingerprint, view, backbone.embed_dim)
        by_id = {item.sample_id: item for item in items}

        def load(sample_id: int) -> Tensor:
            image = load_image(self.workspace.resolve(by_id[sample_id].file))
            return prepare(image, by_id[sample_id]) if prepare else backbone.preprocess(image)

        report = build_features(cache, list(by_id), load, backbone, BATCH, progress, check_cancelled)
        if report.failed:
            reason = next(iter(report.failed.values()))
            raise DataError(
                f"{len(report.failed)} of {len(items)} images can no longer be read: {reason}",
                "Put the image files back where they were imported from, or import the folder again.",
            )
        return torch.from_numpy(cache.read([item.sample_id for item in items]))


class _Untouched:
    """The test transform in the place of a training view."""

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone

    def __call__(self, image: Image.Image, seed: int | None = None) -> Tensor:
        return self.backbone.preprocess(image)


def training_view(backbone: Backbone, config: TrainingConfig) -> TrainTransform | RandAugment | _Untouched:
    """How images are altered for training: PIL image -> [3, H, W]."""
    if config.augmentation == "none":
        return _Untouched(backbone)
    if config.augmentation == "crops":
        return backbone.train_transform(crop_scale=(config.crop_scale, 1.0), flip=config.flip)
    return RandAugment(backbone.pixels, mild=config.augmentation == "randaugment-mild")


def crop_views(
    features: Features,
    items: list[Item],
    config: TrainingConfig,
    progress: Progress,
    check_cancelled: Callable[[], None],
) -> Tensor:
    """Features [V, N, D] of `config.views` random crops of every image, the same on every machine."""
    transform = training_view(features.backbone, config)
    crops = f"crop-{config.crop_scale:g}-{'flip' if config.flip else 'plain'}"
    kind = crops if config.augmentation == "crops" else config.augmentation
    views = []
    for number in range(config.views):

        def prepare(image: Image.Image, item: Item, number: int = number) -> Tensor:
            return transform(image, seed=stream(f"{item.sha256}/{number}"))

        def part(fraction: float, message: str, number: int = number) -> None:
            progress((number + fraction) / config.views, message)

        views.append(features.get(items, part, check_cancelled, f"{kind}-{number}", prepare))
    return torch.stack(views)


def stream(key: str) -> int:
    """A seed that depends on `key` alone."""
    return zlib.crc32(key.encode())


class LiveCrops:
    """Fresh random crops for every step, as the papers' protocol has them: (indices, epoch) -> pixels."""

    def __init__(self, workspace: Workspace, backbone: Backbone, items: list[Item], config: TrainingConfig) -> None:
        self.transform = training_view(backbone, config)
        with ThreadPoolExecutor(4) as pool:
            self.images = list(pool.map(lambda item: load_image(workspace.resolve(item.file)), items))
        self.keys = [item.sha256 for item in items]

    def __call__(self, indices: Tensor, epoch: int) -> Tensor:
        return torch.stack(
            [self.transform(self.images[i], seed=stream(f"{self.keys[i]}/live/{epoch}")) for i in indices.tolist()]
        )


class StillPixels:
    """Images as a method wants to see them, the same in every pass: (indices, epoch) -> pixels.

    Those that fit are kept; others are read again.
    """

    def __init__(self, workspace: Workspace, prepare: Callable[[Image.Image], Tensor], items: list[Item]) -> None:
        self.workspace, self.prepare, self.items = workspace, prepare, items
        self.kept: dict[int, Tensor] = {}
        self.room = KEPT_BYTES
        self.pool = ThreadPoolExecutor(4)

    def __call__(self, indices: Tensor, epoch: int) -> Tensor:
        return torch.stack(list(self.pool.map(self._one, indices.tolist())))

    def _one(self, index: int) -> Tensor:
        found = self.kept.get(index)
        if found is None:
            found = self.prepare(load_image(self.workspace.resolve(self.items[index].file)))
            self.room -= found.nbytes
            if self.room > 0:
                self.kept[index] = found
        return found


class Masks:
    """Marked defects of images, stretched like their pixels: (indices, epoch) -> [B, H, W] of 0 and 1."""

    def __init__(self, workspace: Workspace, items: list[Item], side: int) -> None:
        self.workspace, self.items, self.side = workspace, items, side
        self.kept: dict[int, NDArray[np.uint8]] = {}

    def __call__(self, indices: Tensor, epoch: int) -> Tensor:
        rows = np.stack([self._one(index) for index in indices.tolist()])
        flat = np.unpackbits(rows, axis=1, count=self.side**2)
        return torch.from_numpy(flat).view(-1, self.side, self.side).float()

    def _one(self, index: int) -> NDArray[np.uint8]:
        """Eight places a byte, so that all can be kept: 33 KB for a mask of 518 pixels."""
        if index not in self.kept:
            self.kept[index] = np.packbits(mask_of(self.workspace, self.items[index], self.side))
        return self.kept[index]


def mask_of(workspace: Workspace, item: Item, side: int) -> NDArray[np.bool_]:
    """The marked places of an image, [side, side]; none where nothing was marked.

    Whatever is not black is marked. As published, the picture is stretched bilinearly and cut at one half.

    Raises:
        DataError: the picture is missing or damaged.
    """
    if not item.mask:
        return np.zeros((side, side), bool)
    try:
        with Image.open(workspace.resolve(item.mask)) as picture:
            marked = Image.fromarray(np.uint8(255) * (np.asarray(picture.convert("L")) > 0))
    except (OSError, ValueError) as error:
        raise DataError(
            f"The picture “{Path(item.mask).name}”, which marks defects, can no longer be read.",
            "Put it back where it was imported from, or import the folder again.",
            str(error),
        ) from error
    return np.asarray(marked.resize((side, side), Image.Resampling.BILINEAR)) > 127


def pixel_batches(
    workspace: Workspace, prepare: Callable[[Image.Image], Tensor], items: list[Item], batch: int = 32
) -> Iterator[Tensor]:
    """Pixels of `items` as a method wants to see them (`PromptMethod.prepare`)."""
    with ThreadPoolExecutor(4) as pool:
        for start in range(0, len(items), batch):
            part = items[start : start + batch]
            images = pool.map(lambda item: prepare(load_image(workspace.resolve(item.file))), part)
            yield torch.stack(list(images))
