"""What a person asks for when pressing Start: one request, one run a seed. Torch-free."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator
from sqlalchemy import select
from sqlalchemy.orm import Session

from engines.errors import ConfigError, DataError
from engines.prompts.catalog import MethodEntry, method_entry
from engines.prompts.settings import Protocol, TrainingConfig, parse
from engines.runs.defects import has_marks, normal_class
from engines.store import Annotation, Dataset, Run, Sample, Verdict, Workspace


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
    test_datasets: list[int] = []
    """Data sets to test on beside its own (protocol cross-dataset), or in its place (zero-shot-anomaly)."""
    target_domains: list[str] = []
    """Domains to test on, and not to learn their labels (protocol domain-generalisation)."""
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
        ConfigError: unknown method or settings, or a protocol that they do not fit.
        DataError: there is no such data set, or it has too few labelled images, classes or domains.
    """
    runs = plan_runs(workspace, request)
    with workspace.session() as session:
        session.add_all(runs)
    return runs


def plan_runs(workspace: Workspace, request: TrainRequest) -> list[Run]:
    """The runs that a request asks for, one a seed, checked but written nowhere; errors as for `create_runs`."""
    entry = method_entry(request.method)
    check_settings(entry, request.settings)
    if entry.learns_from == "unlabelled" and request.protocol == "few-shot":
        request = request.model_copy(update={"protocol": "unsupervised"})
    check_protocol(entry, request)
    training = training_config(entry, request).model_dump() if entry.trains else {}
    config: dict[str, Any] = {"settings": entry.settings_for(request.protocol) | request.settings, "training": training}
    with workspace.session() as session:
        dataset = session.get(Dataset, request.dataset_id)
        if dataset is None or dataset.deleted_at is not None:
            raise DataError("This data set no longer exists.", "Choose another one.")
        _check_enough(session, dataset, request, entry)
        if request.test_datasets:
            config["test_datasets"] = _others(session, request)
        if request.target_domains:
            config["target_domains"] = _domains(session, dataset, request)
    # What learns without labels does not depend on how many there are: one run, however it was asked for.
    # What learns from marked defects takes all images.
    counted = entry.trains and entry.learns_from not in ("unlabelled", "masks")
    request = request if counted else request.model_copy(update={"shots": 0})
    return [
        Run(
            name=_name(entry, dataset, request),
            dataset_id=dataset.id,
            dataset_fingerprint=dataset.fingerprint,
            backbone=request.backbone,
            method=entry.name,
            protocol=request.protocol,
            shots=request.shots,
            seed=seed,
            experiment=_hash(dataset.fingerprint, request, config),
            config=config,
        )
        for seed in (request.seeds if entry.trains else request.seeds[:1])
    ]


def _check_enough(session: Session, dataset: Dataset, request: TrainRequest, entry: MethodEntry) -> None:
    if len(dataset.classes) < 2:
        raise DataError(
            f"“{dataset.name}” has {len(dataset.classes) or 'no'} class{'' if len(dataset.classes) == 1 else 'es'}.",
            "A prompt tells classes apart: import images of at least two.",
        )
    # Data sets of defects keep their anomalous images among the test images (see `material._defects`).
    splits = ("train", "val", "test") if entry.learns_from == "masks" else ("train",)
    if entry.trains and entry.learns_from != "unlabelled" and not has_labels(session, dataset.id, splits):
        raise DataError(
            f"No training image of “{dataset.name}” has a label yet.", "Label some images, or import them with labels."
        )
    if entry.learns_from == "masks":
        normal_class([c.name for c in dataset.classes], dataset.name)
        if not has_marks(session, dataset.id):
            raise DataError(
                f"“{dataset.name}” does not say where its defects are.",
                "Import images with masks: folders as in MVTec AD, a meta.json, or images beside masks.",
            )
    if request.protocol == "base-to-new" and len(dataset.classes) < 3:
        raise DataError(
            "Testing on classes it never saw needs at least three classes.", "Choose the protocol “few-shot”."
        )


def check_protocol(entry: MethodEntry, request: TrainRequest) -> None:
    """Refuse a protocol that the method cannot follow, or that lacks what it is about.

    Raises:
        ConfigError: says what does not fit and what would.
    """
    protocol, needs = request.protocol, entry.learns_from
    if protocol == "unsupervised" and entry.trains and needs != "unlabelled":
        raise ConfigError(f"{entry.title} learns from labels.", "Choose a method for images without labels.")
    if not entry.new_classes and needs != "unlabelled" and protocol in ("base-to-new", "cross-dataset"):
        raise ConfigError(
            f"{entry.title} learns something for each of its classes, so it cannot be used on others.",
            "Choose the protocol “few-shot”, or a method that is shared by all classes.",
        )
    if needs == "domains" and protocol != "domain-generalisation":
        raise ConfigError(
            f"{entry.title} learns from images of several sites or scanners.",
            "Choose the protocol “domain-generalisation”, and the domains to test on.",
        )
    if needs == "unlabelled" and protocol in ("cross-dataset", "domain-generalisation"):
        raise ConfigError(
            f"{entry.title} adapts itself to the images it is shown.", "Train it on the images that you want to sort."
        )
    if (needs == "masks") != (protocol == "zero-shot-anomaly"):
        raise ConfigError(f"{entry.title} and the protocol “{protocol}” do not fit together.", "Choose another one.")
    if (protocol == "cross-dataset") != bool(request.test_datasets) and protocol != "zero-shot-anomaly":
        raise ConfigError(
            "Data sets to test on belong to the protocol “cross-dataset”.", "Choose both, or neither of them."
        )
    if (protocol == "domain-generalisation") != bool(request.target_domains):
        raise ConfigError(
            "Domains to test on belong to the protocol “domain-generalisation”.", "Choose both, or neither of them."
        )


def _others(session: Session, request: TrainRequest) -> list[int]:
    """The data sets to test on, checked."""
    for other in request.test_datasets:
        found = session.get(Dataset, other)
        if found is None or found.deleted_at is not None:
            raise DataError("A data set to test on no longer exists.", "Choose another one.")
        if not has_labels(session, other, ("train", "val", "test")):
            raise DataError(f"No image of “{found.name}” has a label.", "Choose another data set to test on.")
        if request.protocol == "zero-shot-anomaly":
            normal_class([c.name for c in found.classes], found.name)
    return request.test_datasets


def _domains(session: Session, dataset: Dataset, request: TrainRequest) -> list[str]:
    """The domains to test on, checked."""
    known = sorted(session.scalars(select(Sample.domain).where(Sample.dataset_id == dataset.id).distinct()))
    unknown = [name for name in request.target_domains if name not in known]
    listed = ", ".join(name for name in known if name) or "none: its images do not say where they are from"
    if unknown:
        raise DataError(f"“{dataset.name}” has no domain “{unknown[0]}”.", f"Its domains are {listed}.")
    if not set(known) - set(request.target_domains):
        raise DataError("No domain would be left to train on.", f"Leave out at least one of {listed}.")
    return request.target_domains


def has_labels(session: Session, dataset_id: int, splits: Sequence[str] = ("train",)) -> bool:
    """Whether a data set has labelled images to learn from: it came with labels, or readers gave some.

    Quick for any number of images; that readers took all their labels back shows when the training begins.
    """
    came = select(Sample.id).where(
        Sample.dataset_id == dataset_id, Sample.split.in_(splits), Sample.class_id.is_not(None)
    )
    given = (
        select(Annotation.id)
        .join(Sample, Sample.id == Annotation.sample_id)
        .where(Sample.dataset_id == dataset_id, Annotation.verdict == Verdict.LABEL, Annotation.class_id.is_not(None))
    )
    return any(session.scalar(query.limit(1)) is not None for query in (came, given))


def _hash(fingerprint: str, request: TrainRequest, config: dict[str, Any]) -> str:
    parts = [fingerprint, request.backbone, request.method, request.shots, request.protocol, config]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def _name(entry: MethodEntry, dataset: Dataset, request: TrainRequest) -> str:
    if not entry.trains:
        return f"{entry.title} on {dataset.name}"
    images = f"{request.shots} image{'' if request.shots == 1 else 's'} per class" if request.shots else "all images"
    return f"{entry.title} on {dataset.name}, {images}"


def check_settings(entry: MethodEntry, settings: dict[str, Any]) -> None:
    """Refuse settings that the method does not have, or values outside its limits, before anything is queued.

    The worker validates with the method's own model; this reads the same model's JSON schema.
    """
    fields = entry.schema.get("properties", {})
    for name, value in settings.items():
        if name not in fields:
            raise ConfigError(
                f"{entry.title} has no setting “{name}”.", f"Its settings are: {', '.join(fields) or 'none'}."
            )
        if reason := _misfit(fields[name], value):
            raise ConfigError(f"The setting “{name}” of {entry.title} {reason} (got {value!r}).", "Change it.")


_TYPES: dict[str, tuple[type, ...]] = {"integer": (int,), "number": (int, float), "boolean": (bool,), "string": (str,)}


def _misfit(field: dict[str, Any], value: Any) -> str:
    """Why `value` does not fit a field of a JSON schema; empty where it does."""
    kind = field.get("type")
    if "enum" in field and value not in field["enum"]:
        return f"must be one of {', '.join(map(str, field['enum']))}"
    if kind in _TYPES and (not isinstance(value, _TYPES[kind]) or (kind != "boolean" and isinstance(value, bool))):
        return f"must be {_WORDS[kind]}"
    limits = {
        "minimum": lambda limit: value < limit,
        "maximum": lambda limit: value > limit,
        "exclusiveMinimum": lambda limit: value <= limit,
        "exclusiveMaximum": lambda limit: value >= limit,
    }
    for limit, outside in limits.items():
        if limit in field and outside(field[limit]):
            return f"must be {_WORDS[limit]} {field[limit]:g}"
    return ""


_WORDS = {
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "string": "text",
    "minimum": "at least",
    "maximum": "at most",
    "exclusiveMinimum": "more than",
    "exclusiveMaximum": "less than",
}
