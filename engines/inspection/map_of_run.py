"""The map of a run: its test images and its words, before and after the learned prompt, fitted together."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from engines.backbones import Backbone, load_backbone
from engines.data import base_new_classes
from engines.errors import DataError
from engines.inspection.keeping import keep, kept
from engines.inspection.map_answers import FITTED, KIND, PER_IMAGE, MapRequest, RunMap, read_map
from engines.inspection.maps import Map, Matrix, Progress, fit_map, unit
from engines.inspection.shift_readings import reading
from engines.prompts import load_prompt
from engines.prompts.base import PromptMethod
from engines.runs.material import Item, gather
from engines.runs.predict import prompt_folder
from engines.runs.views import Features, pixel_batches
from engines.store import Run, Workspace
from engines.store.agreement import answers_to

MOST_FITTED = 10_000
"""Images that are fitted; further ones are placed on the map."""
BATCH = 32


def make_map(
    workspace: Workspace,
    request: MapRequest,
    anew: bool = False,
    progress: Progress = lambda fraction, message: None,
    check_cancelled: Callable[[], None] = lambda: None,
) -> RunMap:
    """Make the map of a run and keep it. Test images that it does not have yet are placed on it; no other point moves.

    Args:
        anew: fit all images again, so that points may move.

    Raises:
        ConfigError: there is no such run, it is not done, or its method has no words or images to compare.
        DataError: its images or classes are not there any more.
    """
    progress(0.0, "Loading the model")
    run = _RunFeatures(workspace, request.run_id)
    known = None if anew else _kept(workspace, request)
    have = set(known.found.samples.tolist()) if known else set()
    missing = [item for item in run.items if item.sample_id not in have]
    if known and not missing:
        return _kept_as(workspace, request, _current(known.found, run.items))
    seen = run.look(missing, lambda done, said: progress(0.1 + 0.4 * done, said), check_cancelled)
    if known:
        return _kept_as(workspace, request, _current(_placed(known, missing, seen, run), run.items))

    def later(done: float, said: str) -> None:
        progress(0.5 + 0.5 * done, said)

    return _kept_as(workspace, request, _fitted(workspace, request, run, seen, later, check_cancelled))


@dataclass(frozen=True)
class _Seen:
    """Unit features of images [N, D] and words [C, D] before and after the prompt; unknown words are not numbers."""

    before: Matrix
    after: Matrix
    words_before: Matrix
    words_after: Matrix

    @staticmethod
    def empty(images: int, classes: int, width: int) -> _Seen:
        def nothing(rows: int) -> Matrix:
            return np.full((rows, width), np.nan, np.float32)

        return _Seen(nothing(images), nothing(images), nothing(classes), nothing(classes))

    def of(self, rows: NDArray[np.int64]) -> _Seen:
        """The same words beside some of the images."""
        return replace(self, before=self.before[rows], after=self.after[rows])


class _RunFeatures:
    """What a run's towers make of its classes and its test images, with and without the learned prompt."""

    def __init__(self, workspace: Workspace, run_id: str) -> None:
        folder = prompt_folder(workspace, run_id)
        with workspace.session() as session:
            self.run = session.get_one(Run, run_id)
        self.workspace = workspace
        self.backbone: Backbone = load_backbone(self.run.backbone)
        self.method: PromptMethod = load_prompt(folder, self.backbone)
        self.notes = [note for note in (reading(self.method).note,) if note]
        material = gather(workspace, self.run, self.method.learns_from)
        self.names, self.items = material.class_names, material.test
        everything = list(range(len(self.names)))
        base, new = base_new_classes(len(everything)) if self.run.protocol == "base-to-new" else (everything, [])
        known = everything if self.method.learns_from == "unlabelled" else base
        if [self.names[c] for c in known] != self.method.class_names:
            raise DataError(
                f"The classes of the data set have changed since “{self.run.name}” was trained.",
                "Train it again, then look into the new run.",
            )
        if not self.items:
            raise DataError("There is no labelled test image to look at.", "Set some images aside for testing.")
        self.groups = ["" if not new else "new" if c in new else "base" for c in everything]
        self.parts = [(known, self.method)]
        if new and known == base:
            self.parts.append((new, self.method.for_classes([self.names[c] for c in new])))

    def look(self, items: list[Item], progress: Progress, check_cancelled: Callable[[], None]) -> _Seen:
        """Features of test images and of the words beside them; those of the frozen tower are computed once."""
        assert self.run.dataset_id is not None
        frozen = Features(self.workspace, self.backbone, self.run.dataset_id)
        raw = frozen.get(items, lambda done, said: progress(0.4 * done, f"Looking at images, {said}"), check_cancelled)
        seen = _Seen.empty(len(items), len(self.names), raw.shape[1])
        done = 0
        for classes, method in self.parts:
            asked = reading(method)
            rows = [row for row, item in enumerate(items) if item.label in classes]
            pixels = pixel_batches(self.workspace, method.prepare, [items[row] for row in rows], BATCH)
            words: list[tuple[Matrix, Matrix]] = []
            for start in range(0, len(rows), BATCH):
                check_cancelled()
                part = rows[start : start + BATCH]
                found = asked.look(raw[part], next(pixels) if asked.needs_pixels else None)
                seen.before[part], seen.after[part] = _array(found.before), _array(found.after)
                if not words or found.words_after.dim() == 3:
                    words.append((_summed(found.words_before), _summed(found.words_after)))
                done += len(part)
                progress(0.4 + 0.6 * done / len(items), f"With the prompt, {done:,} of {len(items):,} images")
            if words:
                seen.words_before[classes], seen.words_after[classes] = (
                    unit(np.sum(each, axis=0)) for each in zip(*words, strict=True)
                )
        return seen


def _array(features: Tensor) -> Matrix:
    return np.asarray(features.cpu().numpy(), np.float32)


def _summed(words: Tensor) -> Matrix:
    """[C, D]; words that depend on the image are added up over the images."""
    return _array(words if words.dim() == 2 else words.sum(dim=0))


def _fitted(
    workspace: Workspace,
    request: MapRequest,
    run: _RunFeatures,
    seen: _Seen,
    progress: Progress,
    check_cancelled: Callable[[], None],
) -> RunMap:
    """All images and words laid out together; what is needed to place more is kept."""
    chosen = np.unique(np.linspace(0, len(run.items) - 1, min(len(run.items), MOST_FITTED)).round().astype(np.int64))
    part = seen.of(chosen)
    spoken = np.isfinite(part.words_after[:, 0])
    image_centre, word_centre = _centres(part, spoken, request.keep_gap)
    images, words = (part.before, part.after), (part.words_before[spoken], part.words_after[spoken])
    rows = np.concatenate([each - image_centre for each in images] + [each - word_centre for each in words])
    fitted, places = fit_map(rows, request.layout, request.seed, progress, check_cancelled)
    before, after, told_before, told_after = np.split(places, np.cumsum([len(each) for each in (*images, words[0])]))
    words_before, words_after = np.full((2, len(run.names), 2), np.nan, np.float32)
    words_before[spoken], words_after[spoken] = told_before, told_after
    mark = f"{zlib.crc32(fitted.places.tobytes()):08x}"
    arrays = {"rows": fitted.rows, "places": fitted.places, "centre": fitted.centre, "axes": fitted.axes}
    how = {"kind": fitted.kind, "mark": mark}
    keep(workspace, FITTED, request.key(), how, arrays | {"image_centre": image_centre})
    found = RunMap(
        run_id=request.run_id,
        layout=fitted.kind,
        mark=mark,
        classes=run.names,
        groups=run.groups,
        notes=[*run.notes, *_notes(request, fitted, len(chosen), len(run.items))],
        images_before=before,
        images_after=after,
        words_before=words_before,
        words_after=words_after,
        words_moved=_moved(part.words_before, part.words_after),
        **_told(run, [run.items[i] for i in chosen], part),
    )
    rest = np.setdiff1d(np.arange(len(run.items)), chosen)
    if not len(rest):
        return found
    known = _Known(fitted, image_centre, found)
    return _current(_placed(known, [run.items[i] for i in rest], seen.of(rest), run), run.items)


def _notes(request: MapRequest, fitted: Map, chosen: int, images: int) -> list[str]:
    notes = []
    if fitted.kind != request.layout:
        notes.append("With so few different points it shows the two directions of largest variance (PCA).")
    if chosen < images:
        notes.append(f"It was laid out with {chosen:,} of the {images:,} images; the others were placed on it.")
    return notes


@dataclass(frozen=True)
class _Known:
    """A map that was made, and what further images are placed by."""

    fitted: Map
    image_centre: Matrix
    found: RunMap


def _placed(known: _Known, items: list[Item], seen: _Seen, run: _RunFeatures) -> RunMap:
    """The map with further images on it."""
    found, more = known.found, _told(run, items, seen)
    more["images_before"] = known.fitted.place(seen.before - known.image_centre)
    more["images_after"] = known.fitted.place(seen.after - known.image_centre)
    joined: dict[str, Any] = {name: np.concatenate([getattr(found, name), more[name]]) for name in PER_IMAGE}
    return replace(found, **joined)


def _current(found: RunMap, items: list[Item]) -> RunMap:
    """The map with the images that there are now, with their labels of today."""
    place = {sample: row for row, sample in enumerate(found.samples.tolist())}
    rows = np.array([place[item.sample_id] for item in items], np.int64)
    labels = np.array([item.label for item in items], np.int64)
    kept_rows: dict[str, Any] = {name: getattr(found, name)[rows] for name in PER_IMAGE}
    return replace(found, **kept_rows | {"labels": labels})


def _told(run: _RunFeatures, items: list[Item], seen: _Seen) -> dict[str, Any]:
    """What is known of images but where they lie."""
    samples = [item.sample_id for item in items]
    answers = answers_to(run.workspace, run.run.id, samples)
    said = np.array([answers.get(sample, (-1, -1)) for sample in samples], np.int64).reshape(-1, 2)
    return {
        "samples": np.array(samples, np.int64),
        "labels": np.array([item.label for item in items], np.int64),
        "images_moved": _moved(seen.before, seen.after),
        "said_before": said[:, 0],
        "said_after": said[:, 1],
    }


def _moved(before: Matrix, after: Matrix) -> Matrix:
    """1 - cos of unit features, exactly 0 where they are equal."""
    return np.asarray(((before - after) ** 2).sum(1) / 2, np.float32)


def _centres(seen: _Seen, spoken: NDArray[np.bool_], keep_gap: bool) -> tuple[Matrix, Matrix]:
    """What is taken off images and words: their means before the prompt, or nothing."""
    nothing = np.zeros(seen.before.shape[1], np.float32)
    if keep_gap or len(seen.before) < 2 or spoken.sum() < 2:
        return nothing, nothing
    return seen.before.mean(0), seen.words_before[spoken].mean(0)


def _kept(workspace: Workspace, request: MapRequest) -> _Known | None:
    found, parts = read_map(workspace, request), kept(workspace, FITTED, request.key())
    if found is None or parts is None or parts.values.get("mark") != found.mark:
        return None
    rows = {name: parts.arrays[name] for name in ("rows", "places", "centre", "axes")}
    return _Known(Map(parts.values["kind"], **rows), parts.arrays["image_centre"], found)


def _kept_as(workspace: Workspace, request: MapRequest, found: RunMap) -> RunMap:
    values = {name: value for name, value in vars(found).items() if not isinstance(value, np.ndarray)}
    arrays = {name: value for name, value in vars(found).items() if isinstance(value, np.ndarray)}
    keep(workspace, KIND, request.key(), values, arrays)
    return found
