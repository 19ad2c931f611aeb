"""Sample data, ready without a network: one procedural set, one of photographs, one of digits."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select

from engines.data.base import ImportOptions, Reading, available_readers
from engines.data.importer import Progress, import_reading
from engines.data.report import ImportReport
from engines.errors import DataError
from engines.store import Dataset, Workspace, new_id

Write = Callable[[Path, Progress], Path]
"""Puts the sample's class folders below a folder and returns their root."""


@dataclass(frozen=True)
class SampleSet:
    """A data set that can be had at once."""

    name: str
    title: str
    description: str
    write: Write
    descriptions: dict[str, list[str]]
    """Sentences for each class, where the files bring none."""


def _blood_smear(folder: Path, progress: Progress) -> Path:
    from engines.miniworld.samples import write_blood_smear

    def drawn(done: int, total: int) -> None:
        progress(done / total, f"Drawing {done:,} of {total:,} images")

    return write_blood_smear(folder / "images", progress=drawn)


def _textile(folder: Path, progress: Progress) -> Path:
    try:
        from conformal_clip_data import textile_simulated_root
    except ImportError as error:
        raise DataError(
            "The textile images come in the package conformal-clip-data, which is not installed.",
            "Install the extra “samples”: pip install 'promptloupe[samples]'.",
            str(error),
        ) from error
    return Path(textile_simulated_root())


DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def _digits(folder: Path, progress: Progress) -> Path:
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    for name in DIGITS:
        (folder / name).mkdir(parents=True)
    for number, (pixels, digit) in enumerate(zip(digits.images, digits.target, strict=True)):
        image = Image.fromarray(np.rint(pixels * (255 / 16)).astype(np.uint8))
        image.resize((64, 64), Image.Resampling.BICUBIC).save(folder / DIGITS[digit] / f"{number:04d}.png")
        progress(number / len(digits.target), "Writing the digits")
    return folder


SAMPLES: dict[str, SampleSet] = {
    sample.name: sample
    for sample in (
        SampleSet(
            "blood-smear",
            "Blood smear (synthetic)",
            "14 kinds of blood cells in three stains, drawn by the program. Synthetic: no patient stands behind it.",
            _blood_smear,
            {},
        ),
        SampleSet(
            "textile",
            "Textile defects",
            "2,000 images of a woven textile: without defect, with a local one, with one over the whole image"
            " (package conformal-clip-data, MIT licence).",
            _textile,
            {
                "global": ["a textile whose whole pattern is distorted", "a woven texture changed all over the image"],
                "local": ["a textile with a small defect in one place", "a regular woven texture with a local fault"],
                "nominal": ["a textile without a defect", "a regular woven texture"],
            },
        ),
        SampleSet(
            "digits",
            "Handwritten digits",
            "1,797 handwritten digits of 8 × 8 pixels, enlarged to 64 × 64 (scikit-learn’s digits).",
            _digits,
            {name: [f"the handwritten digit {number}", f"a handwritten {name}"] for number, name in enumerate(DIGITS)},
        ),
    )
}


def import_sample(
    workspace: Workspace,
    name: str,
    progress: Progress = lambda fraction, message: None,
    check_cancelled: Callable[[], object] = lambda: None,
    token: str | None = None,
) -> ImportReport:
    """Copy a sample data set into the workspace; one that is there already is not imported again.

    Raises:
        DataError: there is no such sample, its package is not installed, or it cannot be imported.
    """
    sample = SAMPLES.get(name)
    if sample is None:
        raise DataError(f"There is no sample data set called “{name}”.", f"There are: {', '.join(SAMPLES)}.")
    source = f"sample:{name}"
    with workspace.session() as session:
        kept = session.scalar(select(Dataset.report).where(Dataset.source == source, Dataset.deleted_at.is_(None)))
    if kept is not None:
        return ImportReport.model_validate(kept)

    def written(fraction: float, message: str) -> None:
        check_cancelled()
        progress(0.5 * fraction, message)

    def imported(fraction: float, message: str) -> None:
        progress(0.5 + 0.5 * fraction, message)

    options = ImportOptions(copy_images=True)
    with tempfile.TemporaryDirectory(prefix="promptloupe-") as folder:
        reading = _read(sample, sample.write(Path(folder), written), options)
        dataset = Dataset(name=sample.title, reader="folder", source=source, description=sample.description)
        return import_reading(workspace, reading, dataset, options, imported, check_cancelled, token or new_id())


def _read(sample: SampleSet, root: Path, options: ImportOptions) -> Reading:
    reading = available_readers()["folder"].read(root, options)
    if sample.descriptions:
        reading.descriptions = sample.descriptions
        reading.classes = list(sample.descriptions)
    return reading
