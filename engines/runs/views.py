"""Images as tensors: features that are computed once, random crops, pixels."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
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


def pixel_batches(workspace: Workspace, backbone: Backbone, items: list[Item], batch: int = 32) -> Iterator[Tensor]:
    """Test-transformed pixels of `items`, for methods whose image tower changes."""
    with ThreadPoolExecutor(4) as pool:
        for start in range(0, len(items), batch):
            part = items[start : start + batch]
            images = pool.map(lambda item: backbone.preprocess(load_image(workspace.resolve(item.file))), part)
            yield torch.stack(list(images))
