"""The tensors of a run: which images, their features, their labels."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image
from sqlalchemy import select
from torch import Tensor

from engines.backbones import Backbone, FeatureCache, build_features
from engines.backbones.preprocess import TrainTransform
from engines.backbones.randaugment import RandAugment
from engines.data import draw_few_shot, effective_labels, load_image
from engines.errors import DataError
from engines.prompts.settings import TrainingConfig
from engines.store import Dataset, Run, Sample, Workspace

BATCH = 64
"""Images that go through the image tower together."""
Progress = Callable[[float, str], None]
"""(fraction of this part, message)"""


@dataclass(frozen=True)
class Item:
    """One image of a run; `label` is the position of its class in the data set."""

    sample_id: int
    file: str
    sha256: str
    label: int


@dataclass
class Material:
    """What a run trains and is judged on."""

    class_names: list[str]
    descriptions: list[list[str]]
    train: list[Item]
    val: list[Item]
    test: list[Item]
    notes: list[str] = field(default_factory=list)

    def restricted(self, classes: Sequence[int], items: list[Item]) -> tuple[list[Item], Tensor]:
        """Those of `items` in `classes`, and their labels renumbered from 0 in the order of `classes`."""
        place = {label: new for new, label in enumerate(classes)}
        kept = [item for item in items if item.label in place]
        return kept, torch.tensor([place[item.label] for item in kept], dtype=torch.long)


def gather(workspace: Workspace, run: Run) -> Material:
    """The images of `run`: few-shot training and validation images by its seed, and all test images.

    Raises:
        DataError: the data set is gone or has no labelled training images.
    """
    with workspace.session() as session:
        dataset = session.get(Dataset, run.dataset_id) if run.dataset_id else None
        if dataset is None:
            raise DataError("The data set of this run no longer exists.", "Import it again and start a new run.")
        place = {c.id: c.position for c in dataset.classes}
        labels = effective_labels(session, dataset.id)
        columns = (Sample.id, Sample.file, Sample.sha256, Sample.split)
        rows = session.execute(select(*columns).where(Sample.dataset_id == dataset.id).order_by(Sample.position)).all()
        material = Material(
            [c.name for c in dataset.classes], [list(c.descriptions) for c in dataset.classes], [], [], []
        )
    items = {row.id: Item(row.id, row.file, row.sha256, place[labels[row.id]]) for row in rows if row.id in labels}
    split = draw_few_shot(workspace, dataset.id, run.shots, run.seed)
    material.train = [items[sample] for sample in split.train if sample in items]
    material.val = [items[sample] for sample in split.val if sample in items]
    material.test = [items[row.id] for row in rows if row.split == "test" and row.id in items]
    if not material.test:
        used = {item.sample_id for item in material.train}
        material.test = [item for item in items.values() if item.sample_id not in used]
        material.notes.append(
            "There are no images set aside for testing, so all labelled images not trained on were used."
        )
    return material


def all_items(workspace: Workspace, dataset_id: int) -> list[Item]:
    """Every image of a data set, labelled (`label` is its class position) or not (-1).

    Raises:
        DataError: the data set is gone.
    """
    with workspace.session() as session:
        dataset = session.get(Dataset, dataset_id)
        if dataset is None:
            raise DataError("This data set no longer exists.", "Choose another one.")
        place = {c.id: c.position for c in dataset.classes}
        columns = (Sample.id, Sample.file, Sample.sha256, Sample.class_id)
        rows = session.execute(select(*columns).where(Sample.dataset_id == dataset_id).order_by(Sample.position))
        return [Item(row.id, row.file, row.sha256, place.get(row.class_id, -1)) for row in rows]


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


def training_view(backbone: Backbone, config: TrainingConfig) -> TrainTransform | RandAugment:
    """How images are altered for training: PIL image -> [3, H, W]."""
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


def as_int64(labels: Tensor) -> np.ndarray:
    return labels.numpy().astype(np.int64)
