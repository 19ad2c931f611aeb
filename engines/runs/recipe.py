"""What is needed to train a prompt again: the recipe beside every exported prompt, and reading it back. Torch-free."""

from __future__ import annotations

import hashlib
import json
import platform
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from engines.errors import ConfigError
from engines.prompts.settings import Protocol
from engines.runs.used_images import FILE, UsedImages, digest
from engines.store import Dataset, Run, Workspace

FORMAT = 2
RECIPE, PROMPT, TENSORS = "run.json", "prompt.json", "prompt.safetensors"
PACKAGES = ("promptloupe", "torch", "open_clip_torch", "scikit-learn", "numpy")
"""Those whose version can change what a training learns."""
AGAIN = "Export the prompt again from the workspace in which it was trained."
LARGEST = 8 * 1024**3
"""Bytes that a file of an exported prompt may have once it is unpacked."""
NOT_RESULTS = {"train_seconds", "notes", "made_with", "reliability", "confusion", "class_names"}
"""Parts of a summary that do not take part in a comparison: times, words, and what the other numbers follow from."""


class DataSource(BaseModel):
    """A data set, known again by its fingerprint whatever it is called."""

    name: str
    fingerprint: str


class Recipe(BaseModel):
    """Everything that fixes a run, and the numbers that came out."""

    model_config = ConfigDict(extra="forbid")

    format: int = FORMAT
    name: str
    dataset: DataSource
    test_datasets: list[DataSource] = []
    backbone: str
    backbone_fingerprint: str
    method: str
    protocol: Protocol
    shots: int
    seed: int
    settings: dict[str, Any]
    training: dict[str, Any]
    target_domains: list[str] = []
    start_from: str = ""
    """The run whose prompt it began with; empty where it began from scratch."""
    results: dict[str, Any]
    versions: dict[str, str]
    """Of the programs that it was trained with; empty where an older program did not record them."""
    device: str
    """What it was computed on: `cpu`, `cuda` or `mps`; empty where that was not recorded."""
    tensors: str
    """SHA-256 of the file of learned numbers."""
    checksum: str = ""
    """SHA-256 over all the rest."""

    def sealed(self) -> Recipe:
        return self.model_copy(update={"checksum": self._sum()})

    @property
    def intact(self) -> bool:
        return self.checksum == self._sum()

    def _sum(self) -> str:
        return digest(self.model_dump(mode="json", exclude={"checksum"}))


@dataclass(frozen=True)
class Exported:
    """An exported prompt, read and found whole."""

    folder: Path
    recipe: Recipe
    images: UsedImages | None
    """None where an older program recorded none."""


def versions() -> dict[str, str]:
    """Versions of the programs at work, by name."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def recipe(workspace: Workspace, run: Run) -> Recipe:
    """The recipe of a run that is done."""
    folder = workspace.path / "runs" / run.id / "prompt"
    made_with = run.summary.get("made_with", {})
    with workspace.session() as session:
        dataset = session.get(Dataset, run.dataset_id) if run.dataset_id else None
        others = [session.get(Dataset, number) for number in run.config.get("test_datasets", [])]
    return Recipe(
        name=run.name,
        dataset=DataSource(name=dataset.name if dataset else "", fingerprint=run.dataset_fingerprint),
        test_datasets=[DataSource(name=d.name, fingerprint=d.fingerprint) for d in others if d is not None],
        backbone=run.backbone,
        backbone_fingerprint=json.loads((folder / PROMPT).read_text("utf-8"))["backbone"]["fingerprint"],
        method=run.method,
        protocol=run.protocol,
        shots=run.shots,
        seed=run.seed,
        settings=run.config.get("settings", {}),
        training=run.config.get("training", {}),
        target_domains=run.config.get("target_domains", []),
        start_from=run.config.get("start_from", ""),
        results=results(run.summary),
        versions=made_with.get("versions", {}),
        device=made_with.get("device", ""),
        tensors=file_digest(folder / TENSORS),
    ).sealed()


def results(summary: dict[str, Any]) -> dict[str, Any]:
    """The measured numbers of a summary, without times and words."""
    return {
        key: results(value) if isinstance(value, dict) else value
        for key, value in summary.items()
        if key not in NOT_RESULTS
    }


def file_digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


@contextmanager
def opened_export(path: str | Path) -> Iterator[Exported]:
    """An exported prompt, from its folder or ZIP file; what is unpacked is gone behind the block.

    Raises:
        ConfigError: there is none, or it is damaged, was changed by hand, or comes from a newer or older program.
    """
    place = Path(path).expanduser()
    if place.is_dir():
        yield _read(place)
        return
    if not place.is_file():
        raise ConfigError(f"There is no exported prompt at “{place}”.", "Name the folder or ZIP file of an export.")
    with TemporaryDirectory(prefix="promptloupe-") as folder:
        _unpack(place, Path(folder))
        yield _read(Path(folder), place.name)


def _unpack(file: Path, folder: Path) -> None:
    """Take the four known files out of a ZIP file, and nothing else."""
    try:
        with zipfile.ZipFile(file) as archive:
            for name in (RECIPE, PROMPT, TENSORS, FILE):
                if name in archive.namelist():
                    if archive.getinfo(name).file_size > LARGEST:
                        raise ConfigError(f"“{name}” in “{file.name}” is too large to be part of a prompt.", AGAIN)
                    archive.extract(name, folder)
    except (zipfile.BadZipFile, OSError, RuntimeError, EOFError, NotImplementedError) as error:
        raise ConfigError(f"“{file.name}” is no ZIP file, or it is damaged.", AGAIN, str(error)) from error


def _read(folder: Path, called: str = "") -> Exported:
    called = called or folder.name
    for name in (RECIPE, PROMPT, TENSORS):
        if not (folder / name).is_file():
            raise ConfigError(f"“{called}” is no exported prompt, or not all of it: the file {name} is missing.", AGAIN)
    found = _parsed(folder / RECIPE, called)
    if not found.intact:
        raise ConfigError(
            f"The recipe run.json in “{called}” has been changed since it was exported, so it no longer says how this"
            " prompt was trained.",
            AGAIN,
        )
    if file_digest(folder / TENSORS) != found.tensors:
        raise ConfigError(f"The learned numbers in “{called}” are not those that were exported with it.", AGAIN)
    _check_prompt(folder / PROMPT, found, called)
    return Exported(folder, found, UsedImages.read(folder / FILE))


def _parsed(file: Path, called: str) -> Recipe:
    try:
        values = json.loads(file.read_text("utf-8"))
        known = int(values.get("format", 1))
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise ConfigError(f"The file run.json in “{called}” is damaged.", AGAIN, str(error)) from error
    if known < FORMAT:
        raise ConfigError(
            f"“{called}” was exported by an older Promptloupe, which left too little to repeat it.", AGAIN
        )
    if known > FORMAT:
        raise ConfigError(f"“{called}” was exported by a newer Promptloupe.", "Update Promptloupe.")
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"The file run.json in “{called}” is damaged.", AGAIN, str(error)) from error


def _check_prompt(file: Path, found: Recipe, called: str) -> None:
    """The prompt and its recipe must be of the same training."""
    try:
        described = json.loads(file.read_text("utf-8"))
        same = described["method"] == found.method and all(
            described["settings"].get(name) == value for name, value in found.settings.items()
        )
        same &= described["backbone"]["fingerprint"] == found.backbone_fingerprint
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"The file prompt.json in “{called}” is damaged.", AGAIN, str(error)) from error
    if not same:
        raise ConfigError(f"The files prompt.json and run.json in “{called}” do not belong together.", AGAIN)
