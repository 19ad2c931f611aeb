"""Data sets with defects: which class is the normal one, and whether defects were marked. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from engines.errors import DataError
from engines.store import Sample

CLASSES = ["normal", "anomalous"]
NORMAL_NAMES = {"normal", "good", "ok", "okay", "clean", "healthy", "intact", "sound", "no defect", "no finding"}


def normal_class(class_names: Sequence[str], dataset: str = "") -> int:
    """Position of the class without defects; all others count as anomalous.

    Raises:
        DataError: no class is called so, or there is no other.
    """
    found = [i for i, name in enumerate(class_names) if name.replace("_", " ").strip().lower() in NORMAL_NAMES]
    if not found or len(class_names) < 2:
        raise DataError(
            f"{f'“{dataset}”' if dataset else 'The data set'} does not say which images are normal.",
            "It needs a class called “normal”, beside at least one of images with defects.",
        )
    return found[0]


def has_marks(session: Session, dataset_id: int) -> bool:
    """Whether the defects of any image were marked."""
    query = select(Sample.id).where(Sample.dataset_id == dataset_id, Sample.mask != "").limit(1)
    return session.scalar(query) is not None
