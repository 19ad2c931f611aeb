"""Feature shift of a finished run: how far its learned prompt moved images and words, and whether they move in step.

The definition stands in `shift_measure.py`, how each method is read in `shift_towers.py`; pages and commands read
answers with `shift_answers.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from engines.backbones import Backbone, load_backbone
from engines.data import base_new_classes
from engines.errors import ConfigError, DataError
from engines.inspection.shift_answers import ShiftAnswer, Snapshot, keep_shift, read_shift
from engines.inspection.shift_measure import Measured, measure, probe, together
from engines.inspection.shift_readings import reading
from engines.inspection.shift_towers import Reading
from engines.inspection.shift_words import answer_of
from engines.prompts import load_prompt
from engines.prompts.base import PromptMethod
from engines.prompts.settings import TrainingConfig
from engines.runs import snapshots
from engines.runs.material import Item, Material, gather
from engines.runs.predict import prompt_folder
from engines.runs.views import Features, pixel_batches
from engines.store import Run, Workspace

MOST_IMAGES = 512
COURSE_IMAGES = 128
"""Images that the course of the training is told on, as every moment takes a look at all of them."""
BATCH = 32


@dataclass(frozen=True)
class Group:
    """The base or the new classes of a run, or all."""

    name: str
    """`base`, `new`, or empty for all."""
    classes: list[int]
    """Positions in the data set."""
    names: list[str]
    columns: list[int] | None
    """Where the method's own classes are more than these, their positions among them."""
    items: list[Item]
    labels: Tensor


def feature_shift(
    workspace: Workspace,
    run_id: str,
    images: int = MOST_IMAGES,
    seed: int = 1,
    progress: Callable[[float, str], None] = lambda fraction, message: None,
    check_cancelled: Callable[[], None] = lambda: None,
) -> ShiftAnswer:
    """The feature shift of a finished run on at most `images` of its test images, chosen by `seed`.

    The answer is kept in the workspace, and given again where it was asked for in the same way.

    Raises:
        ConfigError: there is no such run, it is not finished, or its method has no words or images to compare.
        DataError: its images or classes are not there any more.
    """
    folder = prompt_folder(workspace, run_id)
    known = read_shift(workspace, run_id)
    if known is not None and (known.probe, known.probe_seed) == (images, seed):
        return known
    progress(0.0, "Loading the model")
    with workspace.session() as session:
        run = session.get_one(Run, run_id)
    look = _Inspection(workspace, run, images, seed, progress, check_cancelled)
    method = load_prompt(folder, look.backbone)
    groups = look.groups(method)
    answer = answer_of(run, reading(method), groups, look.measured(method, groups, 0.05, 0.5), images, seed)
    course, reason = look.course(load_prompt(folder, look.backbone), groups)
    check_cancelled()
    answer = replace(answer, trajectory=course, trajectory_reason=reason)
    keep_shift(workspace, answer)
    return answer


class _Inspection:
    def __init__(
        self,
        workspace: Workspace,
        run: Run,
        images: int,
        seed: int,
        progress: Callable[[float, str], None],
        check_cancelled: Callable[[], None],
    ) -> None:
        if not 1 <= images <= MOST_IMAGES:
            raise ConfigError(f"{images} is no number of images to look at.", f"Choose 1 to {MOST_IMAGES}.")
        self.workspace, self.run, self.images, self.seed = workspace, run, images, seed
        self.progress, self.check_cancelled = progress, check_cancelled
        self.backbone: Backbone = load_backbone(run.backbone)

    # --- what is looked at ------------------------------------------------------

    def groups(self, method: PromptMethod) -> list[Group]:
        """The classes of the run and their share of the probe; a group without a test image is left out."""
        material = gather(self.workspace, self.run, method.learns_from)
        classes = list(range(len(material.class_names)))
        base, new = base_new_classes(len(classes)) if self.run.protocol == "base-to-new" else (classes, [])
        known = classes if method.learns_from == "unlabelled" else base
        if [material.class_names[c] for c in known] != method.class_names:
            raise DataError(
                f"The classes of the data set have changed since “{self.run.name}” was trained.",
                "Train it again, then look into the new run.",
            )
        chosen = probe(material.test, self.images, self.seed)
        named = [("base", base), ("new", new)] if new else [("", base)]
        groups = [self._group(name, own, known, material, chosen) for name, own in named]
        if not any(group.items for group in groups):
            raise DataError("There is no labelled test image to look at.", "Set some images aside for testing.")
        return [group for group in groups if group.items]

    def _group(self, name: str, classes: list[int], known: list[int], material: Material, chosen: list[Item]) -> Group:
        items, labels = material.restricted(classes, chosen)
        columns = [known.index(c) for c in classes] if set(classes) < set(known) else None
        return Group(name, classes, [material.class_names[c] for c in classes], columns, items, labels)

    def measured(
        self,
        method: PromptMethod,
        groups: Sequence[Group],
        start: float,
        end: float,
        message: str = "Looking at images",
    ) -> list[Measured]:
        """Each group by itself, as a run is judged."""
        parts, done, count = [], 0, sum(len(group.items) for group in groups)

        def tell(looked_at: int) -> None:
            self.check_cancelled()
            self.progress(start + (end - start) * looked_at / count, f"{message}, {looked_at:,} of {count:,}")

        for group in groups:
            same = group.columns is not None or group.names == method.class_names
            asked = reading(method if same else method.for_classes(group.names))
            batches = _counted(self._batches(asked, group.items), done, tell)
            parts.append(measure(asked, group.labels, batches, group.columns))
            done += len(group.items)
        return parts

    def _batches(self, asked: Reading[Any], items: list[Item]) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Features of the frozen tower [B, D] and, where they are needed, pixels."""
        assert self.run.dataset_id is not None
        features = Features(self.workspace, self.backbone, self.run.dataset_id)
        raw = features.get(items, lambda fraction, message: None, self.check_cancelled).split(BATCH)
        if not asked.needs_pixels:
            yield from ((part, None) for part in raw)
            return
        yield from zip(raw, pixel_batches(self.workspace, asked.method.prepare, items, BATCH), strict=True)

    # --- the course of the training ---------------------------------------------

    def course(self, method: PromptMethod, groups: Sequence[Group]) -> tuple[list[Snapshot], str]:
        """v, t and their gap at every moment that was kept, and what to know about it."""
        if method.fitting != "gradient":
            return [], f"{method.info.title} does not learn in passes, so there is no course to show."
        kept = snapshots.read(self.workspace.path / "runs" / self.run.id / snapshots.FILE)
        if not kept:
            return [], _why_none(method)
        end = {name: tensor.clone() for name, tensor in method.state_dict().items()}
        moments = [(epoch, state) for epoch, own in kept.items() if (state := snapshots.restored(method, own))]
        moments.append((TrainingConfig(**self.run.config["training"]).epochs, end))
        fewer = _fewer(groups, COURSE_IMAGES)
        share, found = 0.5 / len(moments), []
        for place, (epoch, state) in enumerate(moments):
            method.load_state_dict(state)
            start, message = 0.5 + share * place, f"Moment {place + 1} of {len(moments)} of the training"
            whole = together(self.measured(method, fewer, start, start + share, message))
            images, words = float(whole.images.mean()), float(whole.words.mean())
            found.append(Snapshot(epoch, images, words, abs(images - words)))
        count = sum(len(group.items) for group in fewer)
        left_out = "" if len(moments) > len(kept) else " Moments before the method had its final size are left out."
        return found, f"Measured on {count:,} of the images, at {len(found)} moments of the training.{left_out}"


def _fewer(groups: Sequence[Group], most: int) -> list[Group]:
    """The first of the images of each group, `most` in all; they are in the order of the draw."""
    count = sum(len(group.items) for group in groups)
    kept = [max(1, round(len(group.items) * min(1, most / count))) for group in groups]
    return [
        replace(group, items=group.items[:n], labels=group.labels[:n]) for group, n in zip(groups, kept, strict=True)
    ]


def _why_none(method: PromptMethod) -> str:
    learned = snapshots.size(snapshots.learned(method))
    if learned > snapshots.LIMIT:
        limit = snapshots.LIMIT // 2**20
        return (
            f"Its course over the passes was not kept: one moment takes {learned / 2**20:.0f} MB, and there is room for"
            f" {limit} MB a run."
        )
    return (
        "Its course over the passes was not kept; it is for runs trained with this version or later. Train it again to"
        " see it."
    )


def _counted(
    batches: Iterable[tuple[Tensor, Tensor | None]], before: int, tell: Callable[[int], None]
) -> Iterator[tuple[Tensor, Tensor | None]]:
    done = before
    for batch in batches:
        yield batch
        done += len(batch[0])
        tell(done)
