"""Training an exported prompt again, and saying whether the same comes out.

What must be the same before a number is computed: the images with their labels, the model, the versions of the
programs. Then it is trained with the same seed and settings, and every number is put beside the one it was exported
with.

Three outcomes. *Exactly*: every number and every learned value is equal, to the last bit; expected on the same machine
with the same versions. *Within tolerance*: shares differ by no more than half a percentage point, or one image where
the test is so small that one image is more; expected on another processor or graphics card, which add the same numbers
in another order: differences of 1e-7 grow over hundreds of steps until an image on the fence falls to the other side.
*Not*: anything else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isfinite, isinf
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import delete, select

from engines.backbones import load_backbone
from engines.errors import BackboneError, ConfigError, DataError
from engines.prompts import method_class
from engines.runs.material import Item, gather
from engines.runs.perform import Observer, perform
from engines.runs.recipe import PACKAGES, TENSORS, DataSource, Exported, Recipe, file_digest, results, versions
from engines.runs.used_images import FILE, UsedImages
from engines.store import Artifact, Dataset, Run, Sample, Workspace, now

TOLERANCE = 0.005
"""Of a share."""
ROUNDING = 1e-9
NOISE = 1e-6
"""Largest difference of learned values that may leave every number, the calibration error included, as it is."""
COUNTS = {"images", "count", "class", "images_trained", "learned_numbers"}
Verdict = Literal["exactly", "within tolerance", "no"]


@dataclass(frozen=True)
class Difference:
    """A number that did not come out the same."""

    number: str
    then: float | None
    now: float | None
    tolerance: float

    @property
    def tolerated(self) -> bool:
        if self.then is None or self.now is None:
            return False
        return abs(self.then - self.now) <= self.tolerance + ROUNDING


@dataclass(frozen=True)
class Reproduction:
    """What came out of training again."""

    same: Verdict
    sentence: str
    compared: int
    """How many numbers were compared."""
    differences: list[Difference]
    learned_difference: float
    """Largest difference between the learned values then and now; 0 where they are equal."""
    conditions: list[str]
    """What was not as it was then, a sentence each."""
    dataset: str
    run: str
    """Id of the run that was trained, which lies in the bin."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def version_differences(recipe: Recipe) -> list[str]:
    """Programs that have another version than the prompt was trained with, a phrase each."""
    at_work = versions()
    if not recipe.versions:
        return ["the versions it was trained with were not recorded"]
    return [
        f"{name} is {at_work[name]}, was {recipe.versions.get(name, 'not recorded')}"
        for name in PACKAGES
        if at_work[name] != recipe.versions.get(name)
    ]


def check_versions(recipe: Recipe) -> None:
    """Refuse to repeat a training with other programs.

    Raises:
        ConfigError: names each that has another version.
    """
    if found := version_differences(recipe):
        raise ConfigError(
            f"The programs are not those that it was trained with: {'; '.join(found)}.",
            "Install these versions, or try all the same with --other-versions: then numbers may differ for that reason"
            " alone.",
        )


def find_dataset(workspace: Workspace, source: DataSource, used: UsedImages | None = None) -> int:
    """The data set of the workspace that an exported prompt learned from, by its fingerprint.

    Raises:
        DataError: it is not there, or not as it was; says how much of it was found.
    """
    with workspace.session() as session:
        live = select(Dataset.id).where(Dataset.fingerprint == source.fingerprint, Dataset.deleted_at.is_(None))
        found = session.scalar(live.order_by(Dataset.name != source.name, Dataset.id))
        if found is not None:
            return found
        known = session.execute(select(Dataset.id, Dataset.name).where(Dataset.deleted_at.is_(None))).all()
        wanted = {key for listed in used.images.values() for key, _ in listed} if used else set()
        here = {
            row.name: len(wanted & set(session.scalars(select(Sample.sha256).where(Sample.dataset_id == row.id))))
            for row in known
        }
    best = max(here, key=lambda name: here[name], default="")
    if not here.get(best):
        raise DataError(
            f"The images of “{source.name}”, from which this prompt learned, are not in this workspace.",
            "Import the same images into it first, then try again.",
        )
    raise DataError(
        f"No data set of this workspace is as “{source.name}” was: “{best}” holds {here[best]:,} of the {len(wanted):,}"
        " images that were used, so some are missing, or images, labels or splits have changed.",
        "Import the images again as they were then.",
    )


def reproduce(
    workspace: Workspace, exported: Exported, run_id: str, observer: Observer, other_versions: bool = False
) -> Reproduction:
    """Train an exported prompt again in `workspace`, and compare.

    Args:
        run_id: for the new run, which goes to the bin: it stands in no list, and can be looked at for 30 days.
        other_versions: go on although programs have other versions than then.

    Raises:
        ConfigError: programs have other versions, or it began with another run's prompt that is not here.
        DataError: images are missing, have changed, or have other labels.
        BackboneError: the model is not the same.
    """
    recipe = exported.recipe
    if not other_versions:
        check_versions(recipe)
    dataset_id = find_dataset(workspace, recipe.dataset, exported.images)
    run = _again(workspace, recipe, dataset_id, run_id)
    folder = workspace.run_folder(run_id)
    _check_beginning(workspace, recipe)
    _check_model(recipe)
    _check_images(workspace, exported, run)
    with workspace.session() as session:
        session.execute(delete(Artifact).where(Artifact.run_id == run_id))
        session.merge(run)
    summary = perform(workspace, run, observer)
    with workspace.session() as session:
        done = session.get_one(Run, run_id)
        done.summary, done.state, done.finished_at = summary, "done", now()
    learned = learned_difference(exported.folder / TENSORS, folder / "prompt" / TENSORS)
    conditions = _conditions(exported, summary)
    found = compare(recipe.results, results(summary))
    compared = len(flat(recipe.results))
    return _judged(found, compared, learned, conditions, recipe, run)


def compare(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[Difference]:
    """Numbers that are not equal, with what would be tolerated; in the order of `then`."""
    before, after, counts = flat(then), flat(now), _counts(then)
    found = []
    for name in dict.fromkeys([*before, *after]):
        one, other = before.get(name), after.get(name)
        if one != other:
            images = next((n for part, n in counts.items() if name.startswith(part)), 0)
            found.append(Difference(name, one, other, _tolerance(name.rpartition(": ")[2], images)))
    return found


def _tolerance(number: str, images: int) -> float:
    """How far a number of so many test images may be off. One image moves the mean F1 of balanced classes by up to
    four shares of an image: it leaves one class and enters another."""
    if number in COUNTS:
        return 0.0
    moved = 4 if number == "macro_f1" else 1
    return max(TOLERANCE, moved / images if images else 0.0)


def flat(numbers: Mapping[str, Any], before: str = "") -> dict[str, float]:
    """Every number by its place, such as `zero_shot: accuracy` or `per_class: blast: accuracy`."""
    found: dict[str, float] = {}
    for key, value in numbers.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{before}{key}: ")
        elif isinstance(value, list):
            for item in value:
                if isinstance(item, Mapping) and "name" in item:
                    found |= flat(item, f"{before}{key}: {item['name']}: ")
        elif isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value):
            found[f"{before}{key}"] = value
    return found


def _counts(numbers: Mapping[str, Any]) -> dict[str, int]:
    """Number of test images behind the numbers, by how their names begin; the longest beginnings first."""
    every = flat(numbers)
    parts = {
        name.removesuffix(ending): int(count)
        for name, count in every.items()
        for ending in ("images", "count")
        if name == ending or name.endswith(f": {ending}")
    }
    return dict(sorted(parts.items(), key=lambda part: -len(part[0])))


def learned_difference(then: Path, now: Path) -> float:
    """Largest difference between the tensors of two prompts; infinite where they have not the same ones."""
    from safetensors.torch import load_file

    before, after = load_file(then), load_file(now)
    if {name: t.shape for name, t in before.items()} != {name: t.shape for name, t in after.items()}:
        return float("inf")
    parts = [(before[name].double() - after[name].double()).abs() for name in before if before[name].numel()]
    return max((float(part.max()) for part in parts), default=0.0)


def _judged(
    found: Sequence[Difference], compared: int, learned: float, conditions: list[str], recipe: Recipe, run: Run
) -> Reproduction:
    outside = [each for each in found if not each.tolerated]
    strange = isinf(learned) or (not found and learned > NOISE)
    same: Verdict = "no" if outside or strange else "within tolerance" if found or learned else "exactly"
    if outside:
        sentence = f"Something else came out: {len(outside)} of {compared} numbers differ by more than is tolerated."
    elif strange:
        sentence = (
            f"All {compared} numbers came out the same, but not the learned values: those in the export are not from"
            " the training that its recipe tells of."
        )
    elif same == "exactly":
        sentence = f"The same came out, exactly: all {compared} numbers and all learned values are equal."
    else:
        sentence = (
            f"The same came out, within tolerance: {len(found)} of {compared} numbers differ, each by no more than half"
            f" a percentage point or one image; learned values differ by up to {learned:.1g}."
        )
    return Reproduction(same, sentence, compared, list(found), learned, conditions, recipe.dataset.name, run.id)


# --- what must be the same -------------------------------------------------------


def _again(workspace: Workspace, recipe: Recipe, dataset_id: int, run_id: str) -> Run:
    config: dict[str, Any] = {"settings": recipe.settings, "training": recipe.training}
    if recipe.test_datasets:
        config["test_datasets"] = [find_dataset(workspace, source) for source in recipe.test_datasets]
    if recipe.target_domains:
        config["target_domains"] = recipe.target_domains
    if recipe.start_from:
        config["start_from"] = recipe.start_from
    return Run(
        id=run_id,
        name=f"Trained again: {recipe.name}"[:200],
        dataset_id=dataset_id,
        dataset_fingerprint=recipe.dataset.fingerprint,
        backbone=recipe.backbone,
        method=recipe.method,
        protocol=recipe.protocol,
        shots=recipe.shots,
        seed=recipe.seed,
        config=config,
        state="running",
        deleted_at=now(),
    )


def _check_beginning(workspace: Workspace, recipe: Recipe) -> None:
    begun = recipe.start_from
    if begun and not (begun.isalnum() and (workspace.path / "runs" / begun / "prompt").is_dir()):
        raise ConfigError(
            "This prompt was not learned from scratch: it began with what another one had learned, which is not here.",
            "Repeat it in the workspace in which it was trained.",
        )


def _check_model(recipe: Recipe) -> None:
    backbone = load_backbone(recipe.backbone)
    if backbone.fingerprint != recipe.backbone_fingerprint:
        raise BackboneError(
            f"The model “{recipe.backbone}” on this machine is not the one that this prompt was learned on: its weights"
            " differ.",
            "Put the weights back that it had then.",
        )


def _check_images(workspace: Workspace, exported: Exported, run: Run) -> None:
    """The images with their labels, as they would be used now, must be those that were used then."""
    if exported.images is None:
        return
    material = gather(workspace, run, method_class(run.method).learns_from)
    if found := exported.images.differences(UsedImages.of(material)):
        raise DataError(
            f"The images of “{exported.recipe.dataset.name}” are not as they were when this prompt was trained."
            f" {' '.join(found)}",
            "Take the changes back, or import the images again as they were then.",
        )
    items = (*material.train, *material.val, *material.test, *material.unlabelled)
    gone, changed = _files(workspace, items)
    if gone or changed:
        told = [f"{gone:,} are gone" if gone else "", f"{changed:,} have changed" if changed else ""]
        raise DataError(
            f"Of the image files that this prompt used, {' and '.join(filter(None, told))} since they were imported.",
            "Put them back as they were, or import them again.",
        )


def _files(workspace: Workspace, items: Sequence[Item]) -> tuple[int, int]:
    """(files that are gone, files that have changed since they were imported). The workspace's own copies, which are
    named by their content, need only be there."""
    gone = changed = 0
    for item in {item.file: item for item in items}.values():
        file = workspace.resolve(item.file)
        if not file.is_file():
            gone += 1
        elif not file.is_relative_to(workspace.path) and file_digest(file) != item.sha256:
            changed += 1
    return gone, changed


def _conditions(exported: Exported, summary: Mapping[str, Any]) -> list[str]:
    recipe, device = exported.recipe, str(summary["made_with"]["device"])
    found = [f"Another version: {each}." for each in version_differences(recipe)]
    if recipe.device and device != recipe.device:
        found.append(f"It was computed on {recipe.device} then, and on {device} now.")
    if exported.images is None:
        found.append(f"It was exported without {FILE}, so labels could not be compared one by one.")
    return found
