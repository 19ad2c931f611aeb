"""Few-shot draws and the base/new division of classes, equal to Dassl's and CoOp's."""

from __future__ import annotations

import random
import zlib
from collections.abc import Hashable, Sequence

from sqlalchemy import select

from engines.errors import DataError
from engines.labelling.consensus import effective_labels
from engines.store import Dataset, Sample, Split, Workspace

MOST_VALIDATION_SHOTS = 4


def few_shot(labels: Sequence[Hashable], shots: int, seed: int | random.Random) -> list[int]:
    """Indices of `shots` images per class, as Dassl draws them (`generate_fewshot_dataset`, without repetition).

    Classes are visited in order of first appearance. One with fewer images keeps them all, in order, and draws
    nothing from the random stream.

    Args:
        labels: label of each image.
        shots: images per class; 0 for all images, in their order.
        seed: of Python's generator, or a generator that continues its stream.
    """
    if shots < 1:
        return list(range(len(labels)))
    stream = seed if isinstance(seed, random.Random) else random.Random(seed)
    members: dict[Hashable, list[int]] = {}
    for index, label in enumerate(labels):
        members.setdefault(label, []).append(index)
    return [
        index
        for indices in members.values()
        for index in (stream.sample(indices, shots) if len(indices) >= shots else indices)
    ]


def base_new_classes(classes: int) -> tuple[list[int], list[int]]:
    """Labels of the base and of the new classes: the first ⌈C/2⌉ and the rest (CoOp's `subsample_classes`)."""
    half = (classes + 1) // 2
    return list(range(half)), list(range(half, classes))


def draw_few_shot(workspace: Workspace, dataset_id: int, shots: int, seed: int, domains: Sequence[str] = ()) -> Split:
    """The training and validation images of a few-shot run, kept in the split table.

    `shots` training images per class, then min(`shots`, 4) validation images from the same random stream, in the
    order of the samples' positions, so that every machine draws the same. Labelled images of the pool count as
    training images. The draw is renewed when labels have changed since it was kept.

    Args:
        shots: images per class; 0 for all.
        domains: draw from these domains only; from all where empty.

    Raises:
        DataError: there is no such data set, or it has no labelled training images (in these domains).
    """
    kind = f"few-shot-{zlib.crc32('/'.join(sorted(domains)).encode()):08x}" if domains else "few-shot"
    with workspace.session() as session:
        if session.get(Dataset, dataset_id) is None:
            raise DataError("This data set no longer exists.", "Choose another one.")
        labels = effective_labels(session, dataset_id)
        drawn_from = select(Sample.id, Sample.split).where(Sample.dataset_id == dataset_id).order_by(Sample.position)
        rows = session.execute(drawn_from.where(Sample.domain.in_(domains)) if domains else drawn_from).all()
        training = [row.id for row in rows if row.id in labels and row.split in ("train", "pool")]
        validation = [row.id for row in rows if row.id in labels and row.split == "val"]
        if not training:
            raise DataError(
                "This data set has no labelled images to train on.", "Label some images, or import it with labels."
            )
        stream = random.Random(seed)
        train = [training[i] for i in few_shot([labels[s] for s in training], shots, stream)]
        val = [
            validation[i] for i in few_shot([labels[s] for s in validation], min(shots, MOST_VALIDATION_SHOTS), stream)
        ]
        kept = session.scalar(
            select(Split).where(
                Split.dataset_id == dataset_id, Split.kind == kind, Split.shots == shots, Split.seed == seed
            )
        )
        if kept is None:
            kept = Split(dataset_id=dataset_id, kind=kind, shots=shots, seed=seed)
            session.add(kept)
        if (kept.train, kept.val) != (train, val):
            kept.train, kept.val = train, val
        session.flush()
        return kept
