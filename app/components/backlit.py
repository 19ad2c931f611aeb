"""What the Backlit page says: numbers before and after, all methods at once, what was saved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from app.components.backlit_viewer import viewed
from app.components.figures import BLUE, READY_MADE, VERMILION, Figure, figure, plain
from app.components.gallery import Cell, grid
from app.components.html import Html, action, empty_state, fold, join, notice, section, table, tag, term
from app.components.icons import GALLERY
from app.components.wipe import Picture
from app.components.words import counted
from engines.enhance.choices import Choice, choices
from engines.enhance.requests import PREVIEW_SIDE
from engines.store import Job, JobState, Workspace

PHOTO = ""
"""Name of the photo itself among the methods."""
MOST_LISTED = 24
CAUTION = notice(
    "warning",
    "Enhancement changes intensities.",
    "An enhanced photo is for looking only: never measure in it, and keep the original for reading, for the record and"
    " for quality control. Originals are never overwritten.",
)
CONSENT = "I know that these values may be measurements, and that the enhanced copy is for looking only."
_MEASURES: list[tuple[str, str, str, str]] = [
    ("luminance", "Mean light", "{:.2f}", "Mean luminance, from 0 (black) to 1 (white)."),
    ("contrast", "Contrast", "{:.2f}", "Standard deviation of luminance (RMS contrast)."),
    ("dark", "Dark pixels", "{:.1%}", "Share of pixels with a luminance below 0.1."),
    ("clipped", "Blown out", "{:.1%}", "Share of pixels with a channel at its upper end, where nothing can be seen."),
    ("noise", "Noise", "{:.3f}", "Standard deviation by Immerkaer’s method; fine texture counts, too."),
    ("order", "Order of light turned", "{:.0f}", "Lightness-order error (LOE): 0 where what was brighter still is."),
    (
        "well_lit",
        "Taken for well-lit",
        "{:.2f}",
        "How probable mini-CLIP finds “a well-lit photo” against “a backlit photo”. It is a small synthetic model:"
        " never a judge of its own.",
    ),
    (
        "psnr",
        "Near the reference",
        "{:.1f} dB",
        "Peak signal-to-noise ratio (PSNR) to the well-lit photo.",
    ),
    ("ssim", "Alike in structure", "{:.3f}", "Structural similarity (SSIM) to the well-lit photo; 1 for equal ones."),
]


def empty() -> Html:
    return empty_state(
        GALLERY,
        "Your photo before and after will stand here. Drop photos above, or name a folder.",
        action("Try it with sample photos", "samples"),
    )


def methods_offered(workspace: Workspace) -> list[tuple[str, str]]:
    """(title, name) of what can stand left and right; the photo itself first."""
    return [("The photo as it is", PHOTO), *((each.title, each.name) for each in choices(workspace))]


def usual(offered: Sequence[tuple[str, str]]) -> str:
    """The method that stands on the right at first."""
    names = [name for _, name in offered]
    return "mini-enhancer" if "mini-enhancer" in names else "exposure-fusion"


def address(file: str | Path) -> str:
    return f"gradio_api/file={quote(str(file))}"


def pager(names: Sequence[str], place: int) -> Html:
    """ "2 of 12: IMG_0002.jpg" with a button to each side; a press brings `page` with the photo's place."""
    last = len(names) - 1
    return tag(
        "div",
        tag("span", f"{place + 1:,} of {len(names):,}: ", tag("strong", names[place])),
        tag(
            "span",
            action("‹ Before", "page", place - 1, "small", disabled=place == 0, data_key="ArrowLeft"),
            action("Next ›", "page", place + 1, "small", disabled=place == last, data_key="ArrowRight"),
            class_="pl-buttons",
        ),
        class_="pl-row pl-backlit-pager",
    )


def shown(view: Mapping[str, Any]) -> Picture:
    return Picture(str(view["title"]), address(view["picture"]))


def layered(left: Mapping[str, Any], right: Mapping[str, Any]) -> str:
    """Value of the viewer: both sides, and the light map of the right one, else of the left one."""
    lit = next((view for view in (right, left) if "light" in view), None)
    said = f"{lit['title']}: light from {lit['darkest']:.2f} (black) to {lit['brightest']:.2f} (white)" if lit else ""
    return viewed(shown(left), shown(right), Picture(said, address(lit["light"])) if lit else None)


def numbers(found: Mapping[str, Any], left: Mapping[str, Any], right: Mapping[str, Any]) -> Html:
    """A sentence on both sides, then every number of the photo, left and right."""
    photo = found["views"][0]
    sides = list({view["method"]: view for view in (photo, left, right)}.values())
    rows = [
        [term(words, meaning), *(_said(form, view["numbers"][key]) for view in sides)]
        for key, words, form, meaning in _MEASURES
        if key in photo["numbers"]
    ]
    size = f"The photo has {found['width']:,} × {found['height']:,} pixels of {found['bits']} bits a channel."
    if max(found["width"], found["height"]) > PREVIEW_SIDE:
        size += " Shown is a smaller copy; saving works on all pixels."
    return tag(
        "div",
        tag("p", sentence(photo, right if right["method"] else left), class_="pl-sentence"),
        table(["", *(f"{view['title']}>" for view in sides)], rows, style="pl-measures"),
        tag("p", "No single number says which is better: some even prefer the dark photo. Look.", class_="pl-quiet"),
        tag("p", size, class_="pl-quiet"),
        *(tag("p", note, class_="pl-quiet") for note in found["notes"]),
    )


def _said(form: str, value: float | None) -> str:
    return "–" if value is None else form.format(value)


def sentence(photo: Mapping[str, Any], view: Mapping[str, Any]) -> str:
    """ "With CLAHE 2.1% of the photo is dark (before: 31.0%) and 0.4% blown out (0.1%)."."""
    before, after = photo["numbers"], view["numbers"]
    if not view["method"]:
        return f"{before['dark']:.1%} of the photo is dark and {before['clipped']:.1%} blown out."
    return (
        f"With {view['title']} {after['dark']:.1%} of the photo is dark (before: {before['dark']:.1%}) and"
        f" {after['clipped']:.1%} blown out ({before['clipped']:.1%})."
    )


def histograms(left: Mapping[str, Any], right: Mapping[str, Any]) -> Figure:
    """How light is distributed on both sides."""
    colours = [READY_MADE if not view["method"] else colour for view, colour in ((left, VERMILION), (right, BLUE))]
    data = [
        {
            "type": "scatter",
            "mode": "lines",
            "fill": "tozeroy",
            "name": plain(view["title"], 40),
            "x": [(place + 0.5) / len(view["histogram"]) for place in range(len(view["histogram"]))],
            "y": view["histogram"],
            "line": {"color": colour, "width": 2, "shape": "spline"},
            "hovertemplate": "%{y:.1%}<extra></extra>",
        }
        for view, colour in zip((left, right), colours, strict=True)
    ]
    x = {"title": {"text": "luminance, black to white"}, "range": [0, 1]}
    y = {"tickformat": ".0%", "rangemode": "tozero", "title": {"text": "share of the pixels"}}
    return figure(data, "How light is distributed", xaxis=x, yaxis=y, hovermode="x unified", showlegend=True)


def contact(found: Mapping[str, Any], right: str) -> Html:
    """The photo by every method; a press brings `select` with the method."""
    cells = [
        Cell(
            view["method"],
            address(view["picture"]),
            f"{found['name']}: {view['title']}",
            view["title"],
            view["method"] == right,
        )
        for view in found["views"]
    ]
    lead = tag("p", "Press one to see it on the right.", class_="pl-quiet")
    return tag("div", lead, grid(cells), class_="pl-contact")


def about(offered: Sequence[Choice]) -> Html:
    """What each method does, folded."""
    lines = [tag("li", tag("b", each.title), ": ", each.about) for each in offered]
    return fold("What the methods do", tag("ul", *lines))


def saved(job: Job) -> Html:
    """What an ended job left: where it lies, links to the files, and what could not be enhanced."""
    if job.state is not JobState.DONE:
        return Html("")
    results: list[Mapping[str, Any]] = job.result["results"]
    done = [each for each in results if each["output"]]
    wrong = [each for each in results if each["problem"]]
    folder = Path(str(job.result["folder"]))
    where = f"They are in the workspace, folder “exports”, “enhanced”, “{folder.name}”."
    parts = [notice("good", f"{counted(len(done), 'enhanced photo')} saved.", where)]
    compared = [each["decibels"] for each in results if each.get("decibels") is not None]
    if compared:
        said = f"Light maps of the usual size give the same to within {min(compared):.1f} dB (PSNR) or better."
        parts.append(tag("p", said, class_="pl-quiet"))
    if wrong:
        problems = tag("ul", *(tag("li", each["problem"]) for each in wrong[:200]))
        parts.append(notice("warning", f"{counted(len(wrong), 'photo')} could not be enhanced.", problems))
    links = [tag("li", *_links(folder, str(each["output"]))) for each in done[:MOST_LISTED]]
    more = [tag("li", f"and {len(done) - MOST_LISTED:,} more in the folder")] if len(done) > MOST_LISTED else []
    return join([*parts, tag("ul", *links, *more, class_="pl-saved")])


def _links(folder: Path, output: str) -> list[Any]:
    card = str(Path(output).with_suffix(".json"))
    to = [
        tag("a", words, href=address(folder / name), download=Path(name).name)
        for words, name in ((output, output), ("how it was made (JSON)", card))
    ]
    return [to[0], " · ", to[1]]


HEAD = section("Save", "At full resolution, each photo with a note (JSON) of how it was made.")
