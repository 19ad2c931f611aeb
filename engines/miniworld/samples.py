"""Sample data sets, drawn in seconds on the spot: synthetic blood smears and synthetic textiles.

Each is a folder ``train/<class>/*.png``, ``val/``, ``test/`` with ``metadata.csv`` (file_name, label, split, domain,
group), ``classes.json`` (sentences that describe each class) and a ``README.txt``. Imports no torch.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from engines.errors import DataError
from engines.miniworld import blood, fabric
from engines.miniworld.canvas import CHUNK, Pixels

BLOOD_SMEAR = "Blood smear (synthetic)"
FABRIC = "Textile defects (synthetic)"
PER_CLASS: Mapping[str, int] = {"train": 40, "val": 10, "test": 40}
GROUPS = 6
"""Slides per split; no slide lies in two splits."""

BLOOD_DESCRIPTIONS: dict[str, tuple[str, ...]] = {
    "neutrophil": (
        "a cell whose nucleus has three or four lobes joined by thin threads",
        "a white blood cell with a lobed nucleus and fine pink granules in pale cytoplasm",
    ),
    "band neutrophil": (
        "a cell with a curved, band-shaped nucleus without lobes",
        "a white blood cell with a U-shaped nucleus and fine pink granules",
    ),
    "hypersegmented neutrophil": (
        "a large cell whose nucleus is split into six or seven lobes",
        "a white blood cell with a nucleus with many lobes and fine pink granules",
    ),
    "eosinophil": (
        "a cell with a two-lobed nucleus and coarse orange granules",
        "a white blood cell filled with large orange granules",
    ),
    "basophil": (
        "a cell with coarse dark purple granules that cover the nucleus",
        "a white blood cell with large dark purple granules and lilac cytoplasm",
    ),
    "lymphocyte": (
        "a small cell with a round dense nucleus and a thin rim of sky blue cytoplasm",
        "a small white blood cell that is nearly filled by its round nucleus",
    ),
    "reactive lymphocyte": (
        "a large cell with an irregular nucleus and much sky blue cytoplasm that is darker at its edge",
        "a white blood cell of uneven outline with a dark blue edge",
    ),
    "monocyte": (
        "a large cell with a kidney-shaped nucleus and grey-blue cytoplasm with vacuoles",
        "a white blood cell with an indented nucleus and small holes in the cytoplasm",
    ),
    "blast": (
        "a large cell with a round nucleus, fine open chromatin and pale nucleoli",
        "a white blood cell with nucleoli and a narrow rim of deep blue cytoplasm",
    ),
    "plasma cell": (
        "a cell with an eccentric round nucleus, deep blue cytoplasm and a pale halo beside the nucleus",
        "a white blood cell with coarse chromatin whose nucleus is pushed to the edge of the cell",
    ),
    "erythroblast": (
        "a small cell with a round, very dense nucleus and greyish pink cytoplasm",
        "a small cell with very dense dark chromatin and a pink rim",
    ),
    "platelet clump": (
        "a cluster of small purple fragments without a nucleus",
        "many small purple platelets in a heap",
    ),
    "sickle cell": (
        "a crescent-shaped red cell",
        "a thin curved red cell with pointed ends and no nucleus",
    ),
    "target cell": (
        "a red cell with a bull's-eye centre",
        "a red cell with a dark spot and a pale ring",
    ),
}
FABRIC_DESCRIPTIONS: dict[str, tuple[str, ...]] = {
    "no defect": ("fabric with no defect", "an even cloth without a fault"),
    "hole": ("fabric with a hole", "a cloth with a dark ragged opening"),
    "stain": ("fabric with a stain", "a cloth with a dark blot through which the pattern shows"),
    "pulled thread": (
        "fabric with a pulled thread",
        "a cloth with one light thread pulled tight and a shadow beside it",
    ),
    "missing yarn": ("fabric with a missing yarn", "a cloth with a thin dark gap running straight across"),
    "wrinkle": ("fabric with a wrinkle", "a cloth with a soft fold, bright on one side and dark on the other"),
    "foreign fibre": ("fabric with a foreign fibre", "a cloth with a short curved fibre of another colour on it"),
    "knot": ("fabric with a knot", "a cloth with a small raised round knot and its shadow"),
}

Report = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class _Item:
    """One picture to write."""

    split: str
    label: str
    domain: str
    group: str
    spec: Any

    def row(self, number: int) -> dict[str, str]:
        name = f"{self.split}/{self.label}/{number:04d}.png"
        return {"file_name": name, "label": self.label, "split": self.split, "domain": self.domain, "group": self.group}


def write_blood_smear(
    folder: Path,
    per_class: Mapping[str, int] = PER_CLASS,
    seed: int = 0,
    size: int = 128,
    progress: Report | None = None,
) -> Path:
    """Draws the synthetic blood-smear set: 14 cell classes, three stains (the domains), slides that keep to one split.

    Args:
        folder: a new or empty folder.
        per_class: pictures per class in each split.
        seed: the same seed draws the same pictures.
        size: side in pixels.
        progress: called with (pictures written, pictures in all).

    Raises:
        DataError: the folder holds something already or cannot be written.
    """
    rng = np.random.default_rng([seed, 1])

    def items() -> Iterator[_Item]:
        for split, count in per_class.items():
            for label in blood.CELLS:
                for index in range(count):
                    slide = index % GROUPS
                    stain = blood.STAINS[slide % len(blood.STAINS)]
                    yield _Item(split, label, stain, f"{split} slide {slide + 1}", blood.sample(rng, label, stain))

    _write(Path(folder), BLOOD_SMEAR, items(), blood.render, BLOOD_DESCRIPTIONS, per_class, seed, size, progress)
    return Path(folder)


def write_fabric(
    folder: Path,
    per_class: Mapping[str, int] = PER_CLASS,
    seed: int = 0,
    size: int = 128,
    progress: Report | None = None,
) -> Path:
    """Draws the synthetic textile set: 8 classes by defect, patterns as domains; arguments as for blood smears."""
    rng = np.random.default_rng([seed, 2])

    def items() -> Iterator[_Item]:
        for split, count in per_class.items():
            for label in fabric.DEFECTS:
                for index in range(count):
                    pattern = fabric.PATTERNS[index % len(fabric.PATTERNS)]
                    yield _Item(
                        split, label, pattern, f"{split} bolt of {pattern}", fabric.sample(rng, (pattern, label))
                    )

    _write(Path(folder), FABRIC, items(), fabric.render, FABRIC_DESCRIPTIONS, per_class, seed, size, progress)
    return Path(folder)


def _write(
    folder: Path,
    title: str,
    items: Iterator[_Item],
    render: Callable[[Sequence[Any], int, int], Pixels],
    descriptions: Mapping[str, tuple[str, ...]],
    per_class: Mapping[str, int],
    seed: int,
    size: int,
    progress: Report | None,
) -> None:
    total, rows = len(descriptions) * sum(per_class.values()), []
    try:
        if folder.exists() and any(folder.iterdir()):
            raise DataError(f"The folder {folder} is not empty.", "Choose a new folder for the sample data.")
        for split in per_class:
            for label in descriptions:
                (folder / split / label).mkdir(parents=True, exist_ok=True)
        number = 0
        while part := list(islice(items, CHUNK)):
            for item, pixels in zip(
                part, render([item.spec for item in part], size, seed * 100_003 + number), strict=True
            ):
                row = item.row(number)
                Image.fromarray(pixels).save(folder / row["file_name"], compress_level=1)
                rows.append(row)
                number += 1
            if progress:
                progress(number, total)
        with (folder / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]) if rows else ["file_name"])
            writer.writeheader()
            writer.writerows(rows)
        (folder / "classes.json").write_text(json.dumps(descriptions, indent=2, ensure_ascii=False) + "\n", "utf-8")
        (folder / "README.txt").write_text(_readme(title, total, size, seed), "utf-8")
    except OSError as error:
        raise DataError(
            f"The sample data could not be written to {folder}.",
            "Check that the disk has room and may be written.",
            str(error),
        ) from error


def _readme(title: str, total: int, size: int, seed: int) -> str:
    return (
        f"{title}\n\n"
        f"{total} pictures of {size} x {size} pixels, drawn by a program (engines/miniworld) from seed {seed}.\n"
        "They are SYNTHETIC: no photograph, no patient, no product stands behind them. They serve to learn and test\n"
        "the workbench; they must not be used for diagnosis or to judge a method's worth on real images.\n\n"
        "metadata.csv: file_name, label, split, domain, group. classes.json: sentences that describe each class.\n"
        "Licence: Apache-2.0.\n"
    )
