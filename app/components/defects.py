"""Where a prompt sees defects: what it was worth in numbers, the images by their score, and one with its map."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from app.components.gallery import Cell, grid, pager, picture_url, thumbnail_url
from app.components.html import Html, join, notice, table, tag, term
from app.components.live import scripted_html
from app.components.words import counted
from engines.data import load_image
from engines.errors import PromptloupeError
from engines.store import Run, Workspace
from engines.store.defects import Finding, finding, findings, groups, place_of

PAGE_SIZE = 24
THRESHOLD = 30
"""From which value on places are coloured at first, in hundredths."""
MEASURES = {
    "image_auroc": term(
        "Damaged above sound",
        "How often a damaged image gets a higher score than a sound one (image AUROC). Guessing gives 50%.",
    ),
    "image_ap": term(
        "Top of the list",
        "How many of the images with the highest scores are damaged, averaged over the list (average precision).",
    ),
    "pixel_auroc": term(
        "Marks above the rest",
        "How often a place that was marked by hand gets a higher value than one that was not (pixel AUROC).",
    ),
    "pixel_ap": term(
        "Surest places",
        "How many of the places with the highest values were marked by hand (pixel average precision). Small defects"
        " make this low even where the maps are good.",
    ),
    "pro": term(
        "Defects covered",
        "How much of each defect is found while at most 30% of the sound places are taken for one (PRO). Small defects"
        " count as much as large ones.",
    ),
}
VIRIDIS = ("440154", "472C7A", "3B518B", "2C718E", "21908D", "27AD81", "5CC863", "AADC32", "FDE725")
"""As in `static/defects.js`."""
_SCRIPT = Path(__file__).parents[1] / "static" / "defects.js"


def _slider(name: str, label: str, value: int, said: str) -> Html:
    return tag(
        "label",
        tag("span", label),
        tag("input", type="range", min=0, max=100, value=value, data_part=name, aria_label=label),
        tag("output", said, data_part=f"{name}-said"),
    )


_TEMPLATE = tag(
    "div",
    tag("div", tag("img", data_part="image", alt=""), tag("canvas", data_part="overlay"), data_part="stage"),
    tag(
        "div",
        tag("strong", data_part="said"),
        tag("p", data_part="why", class_="pl-quiet"),
        _slider("opacity", "How strong the colours are", 70, "70%"),
        _slider("threshold", "Colour places from this value on", THRESHOLD, f"{THRESHOLD / 100:.2f}"),
        tag(
            "label",
            tag("input", type="checkbox", data_part="marked", checked=True),
            tag("span", "Outline what was marked by hand"),
            data_part="marked-row",
            hidden=True,
        ),
        tag("p", data_part="share", class_="pl-quiet"),
        tag("div", tag("span", "0 sound"), tag("i"), tag("span", "1 damaged"), class_="pl-scale"),
        class_="pl-defect-side",
    ),
    data_part="all",
    class_="pl-defect",
    hidden=True,
)


def viewer(**options: Any) -> gr.HTML:
    """The place of one image with its map; give it `viewed(...)` as a new value."""
    return scripted_html(_SCRIPT, _TEMPLATE, **options)


# --- what is said -----------------------------------------------------------------


def looked(run: Run | None) -> bool:
    """Whether a run looked for defects."""
    return run is not None and "image_auroc" in run.summary


def headline(run: Run) -> Html:
    """What the scores are worth in a sentence, then every measure for every data set."""
    summary, ready = run.summary, run.summary.get("zero_shot", {})
    rows = [_measures(name, each) for name, each in _each(summary).items()]
    rows.append(_measures("mean" if rows else "learned prompt", summary))
    rows.append(_measures("ready-made sentences", ready))
    columns = ["", *(Html(f"{words}>") for words in MEASURES.values())]
    return join(
        [
            tag("p", sentence(summary, ready), class_="pl-sentence"),
            _without_marks(summary),
            table(columns, rows, style="pl-measures"),
        ]
    )


def _each(summary: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    """The numbers of every data set, or where there is one alone of every thing in it; none where that is one, too."""
    parts: Mapping[str, Mapping[str, Any]] = summary.get("targets", {})
    if len(parts) < 2:
        (only,) = parts.values() or (summary,)
        parts = only.get("things", {})
    return parts if len(parts) > 1 else {}


def sentence(summary: Mapping[str, Any], ready: Mapping[str, Any]) -> str:
    """ "Of a damaged and a sound image, the damaged one got the higher score in 93.4% of all pairs; …"."""
    value, beside = summary.get("image_auroc"), ready.get("image_auroc")
    if value is None:
        return "It could not be measured how well damaged images are told from sound ones: only one kind was tested."
    said = f"Of a damaged and a sound image, the damaged one got the higher score in {_share(value)} of all pairs"
    return f"{said}; with the ready-made sentences in {_share(beside)}." if beside is not None else f"{said}."


def _without_marks(summary: Mapping[str, Any]) -> Html:
    if summary.get("pixel_auroc") is not None:
        return Html("")
    return notice("info", "No defect of these images was marked by hand, so the maps could not be measured.")


def _measures(name: str, summary: Mapping[str, Any]) -> list[Any]:
    return [name, *(_share(summary.get(key)) for key in MEASURES)]


def _share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}%"


# --- the images ---------------------------------------------------------------------


def images(workspace: Workspace, run: Run, group: str, first: int, chosen: int | None = None) -> Html:
    """Thumbnails by score, the highest first. A press brings `select` (a sample) or `page` (a place)."""
    page = findings(workspace, run.id, group, first, PAGE_SIZE)
    if not page.total:
        return notice("info", "There are no images to show.", "They were removed from the workspace.")
    turn = pager(page.first, len(page.findings), page.total, PAGE_SIZE) if page.total > PAGE_SIZE else ""
    return tag(
        "div",
        tag("h3", f"{counted(page.total, 'image')}, the highest score first"),
        turn,
        grid([_cell(workspace, each, chosen) for each in page.findings]),
        class_="pl-card",
    )


def _cell(workspace: Workspace, found: Finding, chosen: int | None) -> Cell:
    sample, kind = found.sample, "damaged" if found.anomalous else "sound"
    alt = f"score {found.score:.2f}, {kind}: {sample.name}"
    caption = join([tag("b", f"{found.score:.2f}"), f" {kind}"])
    return Cell(sample.id, thumbnail_url(workspace, sample), alt, caption, sample.id == chosen)


def viewed(workspace: Workspace, run: Run, sample_id: int | None) -> str:
    """One image with its map as the value of `viewer`; nothing where there is none."""
    found = finding(workspace, run.id, sample_id) if sample_id is not None else None
    if found is None:
        return ""
    truth = "it is damaged" if found.anomalous else "it is sound"
    why = f"By its label {truth}. Ready-made sentences: {found.ready_made:.2f}. {found.sample.name}"
    mask = workspace.resolve(found.sample.mask) if found.sample.mask else None
    image = _address(workspace.resolve(found.sample.file))
    if not image:
        why = f"{why}. The image can no longer be read: put it back where it was imported from."
    return json.dumps(
        {
            "id": str(found.sample.id),
            "image": image,
            "map": _address(found.map) if found.map else "",
            "mask": _address(mask, marks=True) if mask else "",
            "alt": found.sample.name,
            "said": f"Score {found.score:.2f} of 1",
            "why": why if found.map else f"{why}. There is no map of it.",
        }
    )


def _address(path: Path, marks: bool = False) -> str:
    """A picture as an address that carries it; empty where it cannot be read. Of `marks` all counts but black."""
    try:
        image = load_image(path)
    except PromptloupeError:
        return ""
    return picture_url(image.convert("L").point(lambda value: 255 * (value > 0)).convert("RGB") if marks else image)


def laid_over(image: Image.Image, map_: Image.Image) -> Image.Image:
    """An RGB image under its map, coloured from `THRESHOLD` on."""
    sure = map_.convert("L").resize(image.size, Image.Resampling.BILINEAR)
    stops = [np.array([int(code[i : i + 2], 16) for i in (0, 2, 4)]) for code in VIRIDIS]
    places = np.asarray(sure, np.float32) / 255
    colours = np.stack(
        [np.interp(places, np.linspace(0, 1, len(stops)), [stop[i] for stop in stops]) for i in range(3)], axis=-1
    )
    cover = np.where(places >= THRESHOLD / 100, 0.7 * np.minimum(1, 2 * places), 0)[..., None]
    return Image.fromarray((cover * colours + (1 - cover) * np.asarray(image)).astype(np.uint8))


# --- as values of components ----------------------------------------------------------


def shown(workspace: Workspace, run: Run | None) -> list[Any]:
    """Values of the tab, the sentence, the chooser of groups, the images and the viewer."""
    if run is None or not looked(run):
        return [gr.update(visible=False), "", gr.update(visible=False), "", ""]
    names = groups(workspace, run.id)
    first = _surest(workspace, run, "")
    return [
        gr.update(visible=True),
        headline(run),
        gr.update(choices=[("all", ""), *((n, n) for n in names)], value="", visible=len(names) > 1),
        images(workspace, run, "", 0, first),
        viewed(workspace, run, first),
    ]


def narrowed(workspace: Workspace, run: Run, group: str) -> list[Any]:
    """Values of the images and the viewer for one data set or thing."""
    first = _surest(workspace, run, group)
    return [images(workspace, run, group, 0, first), viewed(workspace, run, first)]


def _surest(workspace: Workspace, run: Run, group: str) -> int | None:
    found: Sequence[Finding] = findings(workspace, run.id, group, 0, 1).findings
    return found[0].sample.id if found else None


def answer(workspace: Workspace, run: Run, group: str, name: str, value: str) -> list[Any]:
    """Values of the images and the viewer after a press: `select` an image, or turn to a `page`."""
    number = int(value) if value.isdecimal() and len(value) < 12 else 0
    if name == "page":
        return [images(workspace, run, group, number), gr.skip()]
    first = place_of(workspace, run.id, number, group) // PAGE_SIZE * PAGE_SIZE
    return [images(workspace, run, group, first, number), viewed(workspace, run, number)]
