"""Synthetic blood smears: one cell of interest among red cells, in one of three stains. Not for diagnosis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engines.miniworld import blood_drawing, canvas, phrases
from engines.miniworld.canvas import Pixels


@dataclass(frozen=True, slots=True)
class CellClass:
    """What a cell class looks like, as one describes it at the microscope."""

    nucleus: str
    lobes: tuple[int, int]
    chromatin: str
    granules: str
    cytoplasm: str
    radius: tuple[float, float]
    nuclear_share: float
    features: tuple[str, ...] = ()


CELLS: dict[str, CellClass] = {
    "neutrophil": CellClass("segmented", (3, 4), "dense", "fine", "pale pink", (0.46, 0.54), 0.0),
    "band neutrophil": CellClass("band", (1, 1), "dense", "fine", "pale pink", (0.46, 0.54), 0.0),
    "hypersegmented neutrophil": CellClass("segmented", (6, 7), "dense", "fine", "pale pink", (0.52, 0.60), 0.0),
    "eosinophil": CellClass("segmented", (2, 2), "dense", "coarse orange", "pale pink", (0.48, 0.56), 0.0),
    "basophil": CellClass("segmented", (2, 3), "pale", "coarse dark purple", "lilac", (0.42, 0.50), 0.0),
    "lymphocyte": CellClass("round", (1, 1), "dense", "no", "sky blue", (0.34, 0.40), 0.86),
    "reactive lymphocyte": CellClass(
        "irregular", (1, 1), "coarse", "no", "sky blue", (0.54, 0.64), 0.58, ("dark edge",)
    ),
    "monocyte": CellClass("kidney-shaped", (1, 1), "coarse", "no", "grey-blue", (0.56, 0.66), 0.66, ("vacuoles",)),
    "blast": CellClass("round", (1, 1), "open", "no", "deep blue", (0.50, 0.58), 0.84, ("nucleoli",)),
    "plasma cell": CellClass("eccentric", (1, 1), "coarse", "no", "deep blue", (0.46, 0.54), 0.52, ("halo",)),
    "erythroblast": CellClass("round", (1, 1), "very dense", "no", "greyish pink", (0.34, 0.40), 0.58),
    "platelet clump": CellClass("no", (0, 0), "", "platelets", "lilac", (0.40, 0.52), 0.0),
    "sickle cell": CellClass("no", (0, 0), "", "no", "red", (0.40, 0.48), 0.0, ("crescent",)),
    "target cell": CellClass("no", (0, 0), "", "no", "red", (0.31, 0.36), 0.0, ("bull's-eye",)),
}

UNNAMED = ("basophil", "plasma cell", "erythroblast", "target cell", "hypersegmented neutrophil")
"""Classes whose names no training caption speaks: their cells are drawn, but described by what is seen only."""

STAINS = ("May-Grünwald-Giemsa", "pale Wright", "brownish scanner")
CROWDING = ("sparse", "scattered", "crowded")


@dataclass(frozen=True, slots=True)
class BloodSpec:
    """One smear to draw. ``name`` is empty for a cell of free attributes that belongs to no class."""

    name: str
    nucleus: str
    lobes: int
    chromatin: str
    granules: str
    cytoplasm: str
    radius: float
    nuclear_share: float
    features: tuple[str, ...]
    stain: str
    crowding: str


def sample(rng: np.random.Generator, name: str | None = None, stain: str | None = None) -> BloodSpec:
    """Draws a smear, of class ``name`` and ``stain`` where given."""
    chosen = name or list(CELLS)[rng.integers(len(CELLS))]
    cell = CELLS[chosen]
    return BloodSpec(
        name=chosen,
        nucleus=cell.nucleus,
        lobes=int(rng.integers(cell.lobes[0], cell.lobes[1] + 1)),
        chromatin=cell.chromatin,
        granules=cell.granules,
        cytoplasm=cell.cytoplasm,
        radius=float(rng.uniform(*cell.radius)),
        nuclear_share=cell.nuclear_share,
        features=cell.features,
        stain=stain or STAINS[rng.integers(len(STAINS))],
        crowding=CROWDING[rng.integers(len(CROWDING))],
    )


_FREE_NUCLEI = ("segmented", "segmented", "band", "round", "eccentric", "kidney-shaped")
_FREE_GRANULES = ("no", "fine", "coarse orange", "coarse dark purple")
_FREE_CYTOPLASM = ("pale pink", "sky blue", "grey-blue", "deep blue", "greyish pink")


def sample_free(rng: np.random.Generator) -> BloodSpec:
    """Draws a cell of freely mixed attributes, so that each attribute's words come to mean that attribute alone."""
    nucleus = _FREE_NUCLEI[rng.integers(len(_FREE_NUCLEI))]
    chromatin = ("dense", "coarse", "open")[rng.integers(3)]
    return BloodSpec(
        name="",
        nucleus=nucleus,
        lobes=int(rng.integers(2, 8)) if nucleus == "segmented" else 1,
        chromatin=chromatin,
        granules=_FREE_GRANULES[rng.integers(len(_FREE_GRANULES))],
        cytoplasm=_FREE_CYTOPLASM[rng.integers(len(_FREE_CYTOPLASM))],
        radius=float(rng.uniform(0.36, 0.64)),
        nuclear_share=float(rng.uniform(0.5, 0.8)),
        features=("nucleoli",) if chromatin == "open" and nucleus in ("round", "eccentric") else (),
        stain=STAINS[rng.integers(len(STAINS))],
        crowding=CROWDING[rng.integers(len(CROWDING))],
    )


def render(specs: Sequence[BloodSpec], size: int, seed: int) -> Pixels:
    """Draws smears, [N, size, size, 3] uint8; the same scene for the same seed at every size."""
    return canvas.in_chunks(blood_drawing.draw, specs, size, seed)


_NUCLEI = {
    "band": ("a band-shaped nucleus", "a curved nucleus without lobes", "a U-shaped nucleus"),
    "round": ("a round nucleus", "a round central nucleus"),
    "eccentric": ("an eccentric nucleus", "a round nucleus pushed to the edge of the cell"),
    "irregular": ("an irregular nucleus", "a nucleus of irregular outline"),
    "kidney-shaped": ("a kidney-shaped nucleus", "an indented nucleus"),
    "no": ("no nucleus",),
}
_GRANULES = {
    "fine": ("fine pink granules", "fine pale granules"),
    "coarse orange": ("coarse orange granules", "large orange granules"),
    "coarse dark purple": ("coarse dark purple granules", "large dark purple granules covering the nucleus"),
    "no": ("no granules",),
}
_CHROMATIN = {
    "open": ("fine open chromatin", "pale chromatin"),
    "coarse": ("coarse chromatin", "clumped chromatin"),
    "dense": ("dense chromatin",),
    "very dense": ("very dense dark chromatin",),
}
_FEATURES = {
    "dark edge": ("a dark blue edge", "cytoplasm that is darker at its edge"),
    "vacuoles": ("vacuoles", "small holes in the cytoplasm"),
    "nucleoli": ("nucleoli", "pale nucleoli in the nucleus"),
    "halo": ("a pale halo beside the nucleus",),
}
_WHOLE = {
    "platelets": (
        "a cluster of small purple fragments",
        "a clump of platelets",
        "many small purple platelets in a heap",
    ),
    "crescent": ("a crescent-shaped red cell", "a red cell bent to a sickle", "a thin curved red cell"),
    "bull's-eye": (
        "a red cell with a bull's-eye centre",
        "a red cell with a dark spot and a pale ring",
    ),
}
_COUNTS = ("no", "one", "two", "three", "four", "five", "six", "seven")


def _nucleus_words(spec: BloodSpec, rng: np.random.Generator) -> str:
    if spec.nucleus != "segmented":
        return phrases.pick(_NUCLEI[spec.nucleus], rng)
    count = _COUNTS[spec.lobes]
    choices = [f"a nucleus with {count} lobes", f"a {count}-lobed nucleus", f"{count} nuclear lobes"]
    if spec.lobes >= 6:
        choices += ["a nucleus with many lobes", "a nucleus split into many lobes"]
    return phrases.pick(choices, rng)


def describe(spec: BloodSpec, rng: np.random.Generator) -> str:
    """What one sees, without the class name: "a small cell with a round nucleus and sky blue cytoplasm"."""
    whole = [_WHOLE[key] for key in (*spec.features, spec.granules) if key in _WHOLE]
    if whole:
        return phrases.pick(whole[0], rng)
    size = "small " if spec.radius < 0.41 else "large " if spec.radius > 0.55 else ""
    details = [f"{spec.cytoplasm} cytoplasm"]
    if spec.granules in _GRANULES:
        details.append(phrases.pick(_GRANULES[spec.granules], rng))
    if spec.chromatin in _CHROMATIN:
        details.append(phrases.pick(_CHROMATIN[spec.chromatin], rng))
    details += [phrases.pick(_FEATURES[key], rng) for key in spec.features if key in _FEATURES]
    chosen = [details[i] for i in rng.permutation(len(details))[: rng.integers(0, 4)]]
    parts = [_nucleus_words(spec, rng), *chosen] if rng.random() < 0.8 or not chosen else chosen
    noun = phrases.pick(("cell", "cell", "white blood cell"), rng)
    return f"a {size if rng.random() < 0.5 else ''}{noun} with {phrases.enumerate_words(parts)}"


_STAIN_WORDS = {
    "May-Grünwald-Giemsa": "a May-Grünwald-Giemsa stain",
    "pale Wright": "a pale Wright stain",
    "brownish scanner": "a brownish scan",
}
_CROWDING_WORDS = {
    "sparse": "with few red cells around",
    "scattered": "among red cells",
    "crowded": "among crowded red cells",
}


def caption(spec: BloodSpec, rng: np.random.Generator) -> str:
    """A training caption. The names in ``UNNAMED`` are never spoken."""
    named = bool(spec.name) and spec.name not in UNNAMED
    if named and rng.random() < 0.45:
        return phrases.fill(spec.name, rng)
    subject = phrases.with_article(spec.name) if named and rng.random() < 0.4 else describe(spec, rng)
    if rng.random() < 0.25:
        surroundings = (f"in {_STAIN_WORDS[spec.stain]}", _CROWDING_WORDS[spec.crowding])
        subject = f"{subject} {surroundings[rng.integers(2)]}"
    frame = phrases.pick(
        ("{}", "a photo of {}.", "a blood smear with {}.", "a microscope image of {}.", "{} in a blood smear."), rng
    )
    return frame.format(subject)
