"""What is suggested for images: by the model of a round, kept in one file a round, and by files that were imported."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import exists, select

from engines.files import whole_file
from engines.labelling.rows import MANY
from engines.store.models import Annotation, Sample, SelectionRound, Verdict
from engines.store.workspace import Workspace


@dataclass(frozen=True, eq=False)
class PoolAnswers:
    """N images of the pool, C classes."""

    samples: NDArray[np.int64]
    """[N]: sample ids."""
    probabilities: NDArray[np.float32]
    """[N, C]: rows sum to 1."""
    classes: NDArray[np.int64]
    """[C]: class ids."""


def _file(workspace: Workspace, dataset_id: int, round_id: int) -> Path:
    return workspace.folder("features") / str(dataset_id) / "rounds" / f"{round_id}.npz"


def save_pool_answers(workspace: Workspace, dataset_id: int, round_id: int, answers: PoolAnswers) -> Path:
    """Keep the answers of a round; the file is complete or not there.

    Raises:
        ValueError: the shapes do not fit together.
    """
    rows, columns = answers.probabilities.shape
    if answers.samples.shape != (rows,) or answers.classes.shape != (columns,):
        raise ValueError("samples [N], probabilities [N, C] and classes [C] do not fit together")
    file = _file(workspace, dataset_id, round_id)
    with whole_file(file) as out:
        np.savez(
            out,
            samples=answers.samples.astype(np.int64, copy=False),
            probabilities=answers.probabilities.astype(np.float32, copy=False),
            classes=answers.classes.astype(np.int64, copy=False),
        )
    return file


def pool_answers(workspace: Workspace, round_id: int) -> PoolAnswers | None:
    """The answers of a round; None where there are none or their file is damaged."""
    with workspace.session() as session:
        dataset_id = session.scalar(select(SelectionRound.dataset_id).where(SelectionRound.id == round_id))
    if dataset_id is None:
        return None
    file = _file(workspace, dataset_id, round_id)
    try:
        state = file.stat()
    except OSError:
        return None
    return _read(file, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=2)
def _read(file: Path, _stamp: int, _size: int) -> PoolAnswers | None:
    try:
        with np.load(file, allow_pickle=False) as kept:
            found = PoolAnswers(kept["samples"], kept["probabilities"], kept["classes"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    fits = found.probabilities.shape == (len(found.samples), len(found.classes))
    return found if fits and bool(np.isfinite(found.probabilities).all()) else None


def newest_answers(workspace: Workspace, dataset_id: int) -> PoolAnswers | None:
    """The answers of the newest round that has some."""
    with workspace.session() as session:
        rounds = select(SelectionRound.id).where(SelectionRound.dataset_id == dataset_id)
        ids = list(session.scalars(rounds.order_by(SelectionRound.number.desc())))
    for round_id in ids:
        found = pool_answers(workspace, round_id)
        if found is not None:
            return found
    return None


def suggestions(
    workspace: Workspace, dataset_id: int, sample_ids: Sequence[int], top: int = 3
) -> dict[int, list[tuple[int, float]]]:
    """At most `top` classes for each image with their probability, the likeliest first, by the newest round's model.

    Images that it says nothing of are left out. What files suggest is in `imported_suggestions`.
    """
    answers = newest_answers(workspace, dataset_id)
    if answers is None or not len(answers.samples) or top < 1:
        return {}
    order = np.argsort(answers.samples, kind="stable")
    wanted = np.asarray(sample_ids, dtype=np.int64)
    places = np.searchsorted(answers.samples, wanted, sorter=order).clip(max=len(order) - 1)
    found = {}
    for sample_id, place in zip(wanted.tolist(), order[places].tolist(), strict=True):
        if answers.samples[place] == sample_id:
            shares = answers.probabilities[place]
            best = np.argsort(-shares, kind="stable")[:top]
            found[sample_id] = [(int(answers.classes[c]), float(shares[c])) for c in best]
    return found


class Suggestion(NamedTuple):
    """What a file suggests for an image."""

    source: str
    """Whose suggestion it is, as said when the file was imported."""
    class_id: int
    probability: float | None
    """0 to 1, as the file has it; None where it has none."""


def imported_suggestions(
    workspace: Workspace, dataset_id: int, sample_ids: Sequence[int] | None = None
) -> dict[int, list[Suggestion]]:
    """The newest suggestion of each source for each image (all where None), the newest first.

    Images without one are left out.
    """
    wanted = None if sample_ids is None else set(sample_ids)
    of_dataset = exists().where(Sample.id == Annotation.sample_id, Sample.dataset_id == dataset_id)
    query = select(Annotation.sample_id, Annotation.annotator, Annotation.class_id, Annotation.aids).where(
        of_dataset, Annotation.verdict == Verdict.SUGGESTION
    )
    if wanted is not None and len(wanted) <= MANY:
        query = query.where(Annotation.sample_id.in_(wanted))
    with workspace.session() as session:
        rows = session.execute(query.order_by(Annotation.id.desc())).all()
    found: dict[int, dict[str, Suggestion]] = {}
    for sample_id, source, class_id, aids in rows:
        if class_id is not None and (wanted is None or sample_id in wanted):
            told = Suggestion(source, class_id, _share(aids.get("probability")))
            found.setdefault(sample_id, {}).setdefault(source, told)
    return {sample_id: list(of_image.values()) for sample_id, of_image in found.items()}


def _share(kept: object) -> float | None:
    return float(kept) if isinstance(kept, int | float) and not isinstance(kept, bool) else None
