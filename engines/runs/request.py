"""What a person asks for when pressing Start: one request, one run a seed. Torch-free."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator
from sqlalchemy import func, select

from engines.errors import ConfigError, DataError
from engines.prompts.catalog import MethodEntry, method_entry
from engines.prompts.settings import Protocol, TrainingConfig, parse
from engines.store import Dataset, Run, Sample, Workspace


class TrainRequest(BaseModel):
    """One training, repeated for every seed."""

    model_config = ConfigDict(extra="forbid")

    dataset_id: int
    backbone: str = "mini-clip"
    method: str = "coop"
    shots: int = Field(16, ge=0, le=100_000)
    """Labelled images per class; 0 takes all."""
    seeds: list[int] = Field([1, 2, 3], min_length=1, max_length=100)
    protocol: Protocol = "few-shot"
    settings: dict[str, Any] = {}
    """The method's settings where they differ from its defaults."""
    training: dict[str, Any] = {}
    """Training settings where they differ from the method's for this protocol and number of images."""

    @field_validator("seeds")
    @classmethod
    def _different(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) < len(seeds) or any(not 0 <= seed < 2**31 for seed in seeds):
            raise ValueError("seeds must be different whole numbers from 0 to 2147483647")
        return seeds


def training_config(entry: MethodEntry, request: TrainRequest) -> TrainingConfig:
    """The method's training settings for the request's protocol, with the request's changes."""
    chosen = entry.training_for(request.protocol, request.shots) | request.training
    config: TrainingConfig = parse(TrainingConfig, chosen, "the training")
    if not entry.frozen_images and config.views:
        config.views = 0  # its image tower changes, so there is nothing to prepare in advance
    return config


def create_runs(workspace: Workspace, request: TrainRequest) -> list[Run]:
    """Check the request and write one `Run` row a seed (state `queued`).

    Raises:
        ConfigError: unknown method or settings.
        DataError: there is no such data set, or it has too few labelled images or classes.
    """
    entry = method_entry(request.method)
    config = training_config(entry, request)
    with workspace.session() as session:
        dataset = session.get(Dataset, request.dataset_id)
        if dataset is None or dataset.deleted_at is not None:
            raise DataError("This data set no longer exists.", "Choose another one.")
        _check_enough(session.execute(_labelled(dataset.id)).all(), dataset, request, entry)
        method_settings = _defaults(entry) | request.settings
        config_dump = {"settings": method_settings, "training": config.model_dump() if entry.trains else {}}
        experiment = _hash(dataset.fingerprint, request, config_dump)
        runs = [
            Run(
                name=_name(entry, dataset, request),
                dataset_id=dataset.id,
                dataset_fingerprint=dataset.fingerprint,
                backbone=request.backbone,
                method=entry.name,
                protocol=request.protocol,
                shots=request.shots if entry.trains else 0,
                seed=seed,
                experiment=experiment,
                config=config_dump,
            )
            for seed in (request.seeds if entry.trains else request.seeds[:1])
        ]
        session.add_all(runs)
    return runs


def _labelled(dataset_id: int) -> Any:
    return (
        select(Sample.class_id, func.count())
        .where(Sample.dataset_id == dataset_id, Sample.split == "train", Sample.class_id.is_not(None))
        .group_by(Sample.class_id)
    )


def _check_enough(counts: Any, dataset: Dataset, request: TrainRequest, entry: MethodEntry) -> None:
    if len(dataset.classes) < 2:
        raise DataError(
            f"“{dataset.name}” has {len(dataset.classes) or 'no'} class{'' if len(dataset.classes) == 1 else 'es'}.",
            "A prompt tells classes apart: import images of at least two.",
        )
    if entry.trains and not counts:
        raise DataError(
            f"No training image of “{dataset.name}” has a label yet.", "Label some images, or import them with labels."
        )
    if request.protocol == "base-to-new" and len(dataset.classes) < 3:
        raise DataError(
            "Testing on classes it never saw needs at least three classes.", "Choose the protocol “few-shot”."
        )


def _defaults(entry: MethodEntry) -> dict[str, Any]:
    return {name: field["default"] for name, field in entry.schema.get("properties", {}).items() if "default" in field}


def _hash(fingerprint: str, request: TrainRequest, config: dict[str, Any]) -> str:
    parts = [fingerprint, request.backbone, request.method, request.shots, request.protocol, config]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def _name(entry: MethodEntry, dataset: Dataset, request: TrainRequest) -> str:
    if not entry.trains:
        return f"{entry.title} on {dataset.name}"
    images = f"{request.shots} image{'' if request.shots == 1 else 's'} per class" if request.shots else "all images"
    return f"{entry.title} on {dataset.name}, {images}"


def check_settings_known(entry: MethodEntry, settings: dict[str, Any]) -> None:
    """Refuse setting names that the method does not have."""
    unknown = [name for name in settings if name not in entry.schema.get("properties", {})]
    if unknown:
        raise ConfigError(
            f"{entry.title} has no setting “{unknown[0]}”.",
            f"Its settings are: {', '.join(entry.schema.get('properties', {})) or 'none'}.",
        )
