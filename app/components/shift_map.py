"""The map of a run as a figure: images and words before and after the prompt, with arrows, colours and lasso."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select

from app.components.figures import BLUE, GREEN, OKABE_ITO, READY_MADE, VERMILION, Figure, figure, plain
from app.components.plot import saved_as, selectable
from app.components.shift_figures import SYMBOLS, WORDS
from app.components.words import counted, number
from engines.inspection.map_answers import Points, RunMap, rows_of
from engines.store import Sample, Workspace

LAYOUTS = [("UMAP", "umap"), ("PCA", "pca"), ("t-SNE (slow)", "tsne")]
SHOWN = [("before and after", "both"), ("before", "before"), ("after", "after")]
BY_CLASS, BY_GROUP, BY_ANSWER = "class", "group", "answer"
COLOURS = [("class", BY_CLASS), ("trained on or never seen", BY_GROUP), ("right or wrong", BY_ANSWER)]
MOST_ARROWS = 1500
MOST_LABELS = 40
MOST_LEGEND = 24
"""More kinds of points than these are told apart by the label of their words and by hovering."""
SVG_POINTS = 3000
"""More points are drawn by the graphics card."""
HEIGHT = 640
LABEL_PLACES = ["top center", "bottom center", "middle right", "middle left", "top right", "bottom left"]
NEAR = 0.12
"""Words that are closer than this share of the map have their labels on different sides."""
STILL = 0.004
"""Arrows shorter than this share of the map are not drawn."""


@dataclass(frozen=True)
class Kind:
    """Points that look alike."""

    name: str
    colour: str
    symbol: str
    rows: NDArray[np.bool_]


@dataclass(frozen=True)
class Named:
    """Names and thumbnails of the images on a map, by sample id."""

    names: dict[int, str]
    files: dict[int, str]
    base: str


def named(workspace: Workspace, found: RunMap) -> Named:
    """Names and thumbnails of the images that are still in the workspace."""
    names, files = {}, {}
    ids = found.samples.tolist()
    with workspace.session() as session:
        for start in range(0, len(ids), 500):
            wanted = select(Sample.id, Sample.name, Sample.sha256).where(Sample.id.in_(ids[start : start + 500]))
            for row in session.execute(wanted):
                names[row.id] = row.name
                files[row.id] = f"{row.sha256[:2]}/{row.sha256}.jpg"
    return Named(names, files, f"gradio_api/file={quote(str(workspace.path / 'thumbnails'))}/")


def map_figure(found: RunMap, images: Named, shown: str = "both", coloured: str = BY_CLASS) -> Figure:
    """The map; every image carries its sample id, so that a lasso tells which images it holds.

    Args:
        shown: `before`, `after` or `both` with arrows.
        coloured: by `class`, by `group` (base or new), or by whether the `answer` is right.
    """
    still = np.array_equal(found.images_before, found.images_after)
    shown = shown if shown in ("before", "after") else "both"
    both = shown == "both" and not still
    kinds = _kinds(found, coloured, learned=shown != "before")
    data: list[dict[str, Any]] = []
    if both:
        data.append(_arrows(found.images_before, found.images_after))
        data += [_images(found, images, kind, found.images_before, faint=True) for kind in kinds]
    places = found.images_before if shown == "before" else found.images_after
    data += [_images(found, images, kind, places) for kind in kinds]
    if shown != "after":
        data.append(_words(found, found.words_before, "ready-made words", READY_MADE, label=shown == "before"))
    if shown != "before":
        data.append(_words(found, found.words_after, "learned words", WORDS, label=True))
    drawn = figure(
        data,
        "",
        xaxis=_axis(),
        yaxis=_axis() | {"scaleanchor": "x"},
        dragmode="lasso",
        hovermode="closest",
        uirevision=f"{found.run_id}-{found.mark}",
        annotations=_word_arrows(found) if shown == "both" else [],
        showlegend=len(kinds) <= MOST_LEGEND,
        legend={"y": 0, "yanchor": "top"},
        margin={"l": 12, "r": 12, "t": 28, "b": 12},
        height=HEIGHT,
    )
    rows = [{"image": images.names.get(row["sample"] or 0, "")} | row for row in rows_of(found)]
    columns = [name for name in rows[0] if name != "sample"]
    drawn = saved_as(drawn, f"map-{found.layout}", columns, [[row[name] for name in columns] for row in rows])
    return selectable(drawn, images.base, images.files)


def map_sentence(found: RunMap) -> str:
    """What changed on the map, in words."""
    known = (found.said_after >= 0) & (found.said_before >= 0)
    before = found.said_before == found.labels
    after = found.said_after == found.labels
    gained, lost = int((known & ~before & after).sum()), int((known & before & ~after).sum())
    images = int(known.sum())
    if not images:
        return "Draw a loop around points to see their images."
    if not gained and not lost:
        return f"None of the {counted(images, 'image')} became right or wrong through the prompt."
    return (
        f"Of {counted(images, 'image')}, {number(gained)} became right through the prompt and {number(lost)} became"
        " wrong: draw a loop around points to see their images."
    )


def said(found: RunMap, place: int) -> str:
    """ "neutrophil: blast → neutrophil", the true class, the ready-made answer and the learned one, of one image."""
    names = found.classes
    before, after = int(found.said_before[place]), int(found.said_after[place])
    answers = [names[each] for each in (before, after) if each >= 0]
    return f"{names[int(found.labels[place])]}: {' → '.join(answers)}"


def _kinds(found: RunMap, coloured: str, learned: bool) -> list[Kind]:
    new = np.array([group == "new" for group in found.groups])[found.labels]
    if coloured == BY_GROUP and any(found.groups):
        trained = Kind("classes it was trained on", BLUE, "circle", ~new)
        return [trained, Kind("classes it never saw", VERMILION, "circle-open", new)]
    if coloured == BY_ANSWER:
        answers = found.said_after if learned and (found.said_after >= 0).any() else found.said_before
        right = answers == found.labels
        return [Kind("right", GREEN, "circle", right), Kind("wrong", VERMILION, "x", ~right)]
    kinds = []
    for place, name in enumerate(found.classes):
        symbol = SYMBOLS[place // len(OKABE_ITO) % len(SYMBOLS)] + ("-open" if found.groups[place] == "new" else "")
        kinds.append(Kind(plain(name, 30), OKABE_ITO[place % len(OKABE_ITO)], symbol, found.labels == place))
    return kinds


def _images(found: RunMap, images: Named, kind: Kind, places: Points, faint: bool = False) -> dict[str, Any]:
    rows = np.flatnonzero(kind.rows)
    when = "before" if faint else ""
    return {
        "type": "scatter" if len(found.samples) <= SVG_POINTS else "scattergl",
        "mode": "markers",
        "name": kind.name,
        "legendgroup": kind.name,
        "showlegend": not faint,
        "x": _rounded(places[rows, 0]),
        "y": _rounded(places[rows, 1]),
        "customdata": found.samples[rows].tolist(),
        "text": [plain(_hover(found, images, int(row), when)).replace("\n", "<br>") for row in rows],
        "marker": {
            "color": kind.colour,
            "symbol": kind.symbol,
            "size": 5 if faint else 9,
            "opacity": 0.45 if faint else 0.9,
            "line": {"width": 1.5 if "open" in kind.symbol else 0},
        },
        "hovertemplate": "%{text}<extra></extra>",
    }


def _hover(found: RunMap, images: Named, row: int, when: str) -> str:
    names, label = found.classes, int(found.labels[row])
    lines = [f"{names[label]}{f' ({when})' if when else ''}", images.names.get(int(found.samples[row]), "")]
    for words, answer in (("ready-made", found.said_before[row]), ("learned", found.said_after[row])):
        if answer >= 0:
            lines.append(f"{words} prompt: {names[int(answer)]}{'' if answer == label else ' ✗'}")
    return "\n".join(filter(None, lines))


def _words(found: RunMap, places: Points, name: str, colour: str, label: bool) -> dict[str, Any]:
    named_here = label and len(found.classes) <= MOST_LABELS
    return {
        "type": "scatter",
        "mode": "markers+text" if named_here else "markers",
        "name": name,
        "x": _rounded(places[:, 0]),
        "y": _rounded(places[:, 1]),
        "text": [plain(each, 26) for each in found.classes],
        "textposition": _label_places(places),
        "cliponaxis": False,
        "marker": {
            "symbol": ["star-open" if group == "new" else "star" for group in found.groups],
            "size": 15,
            "color": colour,
            "line": {"color": colour if any(found.groups) else "#FFFFFF", "width": 1},
        },
        "hovertemplate": f"{name}: “%{{text}}”<extra></extra>",
    }


def _label_places(places: Points) -> list[str]:
    """Where the labels of words stand, so that words close together are not written over each other."""
    extent = float(np.nanmax(np.nanmax(places, 0) - np.nanmin(places, 0))) if np.isfinite(places).any() else 0.0
    taken: list[str] = []
    for row in range(len(places)):
        near = np.linalg.norm(places[:row] - places[row], axis=1) < NEAR * extent
        free = [each for each in LABEL_PLACES if each not in {taken[other] for other in np.flatnonzero(near)}]
        taken.append((free or LABEL_PLACES)[0])
    return taken


def _arrows(before: Points, after: Points) -> dict[str, Any]:
    """Lines from where images were to where they are; of very many the longest."""
    length = np.linalg.norm(after - before, axis=1)
    extent = float(np.ptp(np.concatenate([before, after]), axis=0).max()) or 1.0
    order = np.argsort(-length, kind="stable")[:MOST_ARROWS]
    rows = [row for row in order if length[row] > STILL * extent]
    lines: list[list[float | None]] = [[], []]
    for row in rows:
        for axis in (0, 1):
            lines[axis] += [round(float(before[row, axis]), 4), round(float(after[row, axis]), 4), None]
    return {
        "type": "scatter",
        "mode": "lines",
        "x": lines[0],
        "y": lines[1],
        "line": {"color": READY_MADE, "width": 1},
        "opacity": 0.5,
        "hoverinfo": "skip",
        "showlegend": False,
    }


def _word_arrows(found: RunMap) -> list[dict[str, Any]]:
    if len(found.classes) > MOST_LABELS:
        return []
    arrows = []
    for before, after in zip(found.words_before, found.words_after, strict=True):
        if np.isfinite(after).all() and not np.allclose(before, after):
            tail = {"ax": float(before[0]), "ay": float(before[1]), "axref": "x", "ayref": "y"}
            head = {"x": float(after[0]), "y": float(after[1]), "xref": "x", "yref": "y", "standoff": 6}
            look = {"text": "", "showarrow": True, "arrowhead": 2, "arrowwidth": 1.5, "arrowcolor": WORDS}
            arrows.append(head | tail | look)
    return arrows


def _axis() -> dict[str, Any]:
    return {"showticklabels": False, "showgrid": False, "zeroline": False, "ticks": ""}


def _rounded(values: NDArray[np.float32]) -> Sequence[float | None]:
    return [round(float(value), 4) if np.isfinite(value) else None for value in values]
