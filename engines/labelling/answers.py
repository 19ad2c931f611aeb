"""What the model of a round says of every image of the pool: kept in one file a round, read for suggestions."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import exists, select

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
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(f".{os.getpid()}.partial")
    try:
        with partial.open("wb") as out:
            np.savez(
                out,
                samples=answers.samples.astype(np.int64, copy=False),
                probabilities=answers.probabilities.astype(np.float32, copy=False),
                classes=answers.classes.astype(np.int64, copy=False),
            )
            out.flush()
            os.fsync(out.fileno())
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)
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
    """At most `top` classes for each image with their probability, the likeliest first.

    From the newest round's model; an imported suggestion comes first, with the probability it was imported with
    (`{"probability": p}` in its aids), or 1. Images that nobody says anything of are left out.
    """
    found = _from_model(newest_answers(workspace, dataset_id), sample_ids, top)
    for sample_id, (class_id, share) in _imported(workspace, dataset_id, sample_ids).items():
        rest = [pair for pair in found.get(sample_id, []) if pair[0] != class_id]
        found[sample_id] = [(class_id, share), *rest][:top]
    return found


def _from_model(answers: PoolAnswers | None, sample_ids: Sequence[int], top: int) -> dict[int, list[tuple[int, float]]]:
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


def _imported(workspace: Workspace, dataset_id: int, sample_ids: Sequence[int]) -> dict[int, tuple[int, float]]:
    wanted = set(sample_ids)
    of_dataset = exists().where(Sample.id == Annotation.sample_id, Sample.dataset_id == dataset_id)
    query = select(Annotation.sample_id, Annotation.class_id, Annotation.aids).where(
        of_dataset, Annotation.verdict == Verdict.SUGGESTION
    )
    if len(wanted) <= MANY:
        query = query.where(Annotation.sample_id.in_(wanted))
    with workspace.session() as session:
        rows = session.execute(query.order_by(Annotation.id)).all()
    found = {}
    for sample_id, class_id, aids in rows:
        share = aids.get("probability")
        if sample_id in wanted and class_id is not None:
            found[sample_id] = class_id, float(share) if isinstance(share, int | float) else 1.0
    return found
