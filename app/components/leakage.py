"""What the Leakage page says and shows: pictures to choose, words to press, jobs, previews, edits side by side."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from PIL import Image
from sqlalchemy import select

from app.components.gallery import Cell, grid, picture_url
from app.components.html import Html, empty_state, join, notice, tag, term
from app.components.icons import picture
from app.components.jobs import progress
from app.components.wipe import Picture, wipe
from app.components.words import counted
from engines.backbones.places import models_folder
from engines.diffusion.leakage.edits import WAYS, EditFolder
from engines.diffusion.leakage.repairs import Repair
from engines.diffusion.leakage.samples import SAMPLES
from engines.diffusion.leakage.sentences import change_sentence
from engines.diffusion.leakage.studies import Study, studies
from engines.diffusion.words import split_words
from engines.store import Job, JobState, Workspace

KINDS = ("leakage-maps", "leakage-repair", "leakage-edit")
MOST_SHOWN = 12
"""Pictures looked at before that are offered."""
THUMB = 96
LEAD = (
    "See where each word of a caption looks in a picture, repair what looks at the wrong thing, and edit the picture."
)
EXPLAINED = join(
    [
        "A picture generator links every word of a caption to places in the picture; when the word “circle” also looks"
        " at the star, changing the circle changes the star too (",
        term("cross-attention leakage", "Attention of a word that falls on other objects or the background (DPL)."),
        "). The repair leaves the generator as it is and adjusts only how these words are heard, until each looks at"
        " its own object.",
    ]
)
SAFETY = notice(
    "warning",
    "Edited pictures are synthetic.",
    "They show what a model made up, not what was in front of the camera. Never use them for diagnosis, or as evidence;"
    " every file says “synthetic” in its metadata.",
)
DROP = picture(
    '<rect x="24" y="14" width="92" height="92" rx="8"/><circle cx="54" cy="62" r="20"/><path d="M86 40l5 11 12 1-9 8 3'
    ' 12-11-6-11 6 3-12-9-8 12-1z"/><g class="accent"><path d="M140 40h56M140 60h40M140 80h48"/></g>'
)


def no_model() -> Html:
    """What stands here before there is a model."""
    place = tag("code", models_folder())
    return empty_state(
        DROP,
        join(
            [
                "Where words look in your pictures will stand here. It needs a text-to-image model: put a Stable"
                " Diffusion 1, 2 or SDXL folder in diffusers format into ",
                place,
                ", or type below where it lies.",
            ]
        ),
    )


# --- choosing ---------------------------------------------------------------------------------------------------------


def pictures(workspace: Workspace, chosen: str) -> Html:
    """Samples, then pictures looked at before. Action `select` brings `sample:<name>` or `study:<id>`."""
    offered = [
        Cell(f"sample:{name}", _sample_url(name), sample.caption, sample.caption, chosen == f"sample:{name}")
        for name, sample in SAMPLES.items()
    ]
    known = [study for study in studies(workspace) if study.looked][:MOST_SHOWN]
    before = [
        Cell(f"study:{s.id}", _thumbnail(s.image), s.facts.caption, s.facts.caption, chosen == f"study:{s.id}")
        for s in known
    ]
    parts = [tag("h3", "Sample pictures"), grid(offered)]
    parts += [tag("h3", "Looked at before"), grid(before)] if before else []
    return tag("div", *parts, class_="pl-samples")


@cache
def _sample_url(name: str) -> str:
    image, _ = SAMPLES[name].draw(THUMB)
    return picture_url(image)


@lru_cache(maxsize=4 * MOST_SHOWN)
def _thumbnail(file: Path) -> str:
    """Of a study's picture, which never changes."""
    return file_url(file, THUMB)


def file_url(file: Path, side: int = 0) -> str:
    """A picture as an address that carries it; made smaller where `side` is given."""
    with Image.open(file) as image:
        shown = image.convert("RGB")
        if side:
            shown.thumbnail((side, side))
        return picture_url(shown)


def words_to_press(caption: str, chosen: Sequence[int]) -> Html:
    """The caption's words as buttons. Action `word` brings a number."""
    words = split_words(caption)
    if not words:
        return tag("p", "Type a caption: its words appear here.", class_="pl-quiet")
    buttons = [
        tag("button", word, type="button", data_action="word", data_value=n, aria_pressed=str(n in chosen).lower())
        for n, word in enumerate(words)
    ]
    said = f"{counted(len(chosen), 'word')} chosen." if chosen else "Press the words that are objects."
    return tag("div", tag("div", *buttons, class_="pl-words"), tag("p", said, class_="pl-quiet"))


# --- working ----------------------------------------------------------------------------------------------------------


def jobs_of(workspace: Workspace, study_id: str) -> list[Job]:
    """The newest job of each kind for a study, oldest first."""
    newest = select(Job).where(Job.kind.in_(KINDS)).order_by(Job.created_at.desc(), Job.id.desc()).limit(100)
    shown: dict[str, Job] = {}
    with workspace.session() as session:
        for job in session.scalars(newest):
            if job.payload.get("study") == study_id:
                shown.setdefault(job.kind, job)
    return sorted(shown.values(), key=lambda job: (job.created_at, job.id))


def working(found: Sequence[Job], kind: str) -> Html:
    """The job of one kind as a block, until it is done."""
    return join(progress(job) for job in found if job.kind == kind and job.state is not JobState.DONE)


def stamp(found: Sequence[Job]) -> tuple[tuple[str, str], ...]:
    """Changes when one of the jobs begins or ends."""
    return tuple((job.id, job.state.value) for job in found)


# --- what came out ----------------------------------------------------------------------------------------------------


def looked(study: Study | None, words: Sequence[int]) -> Html:
    """What the model could not read, and what to do next."""
    if study is None or not study.looked:
        return Html("")
    notes = study.notes()
    said = []
    if notes["unread"]:
        said.append(
            notice(
                "warning", f"The model stops reading before “{notes['unread']}”.", "Shorten the caption to change that."
            )
        )
    if not words:
        said.append(notice("info", "Press the words that are objects.", "Their maps appear here."))
    elif not any(study.mask_file(word) for word in words):
        said.append(
            notice(
                "info",
                "How much a word leaks is measured against its object.",
                "Draw masks below, and the shares appear under the maps.",
            )
        )
    return join(said)


def repaired(study: Study | None, repair: Repair | None) -> Html:
    """What the repair changed, in sentences."""
    if study is None or repair is None or not repair.finished:
        return Html("")
    before, after = study.figures(), repair.figures()
    said = [
        change_sentence(study.words, word, before[str(word)][0], after[str(word)][0])
        for word in repair.request.words
        if str(word) in before and str(word) in after and before[str(word)][0] and after[str(word)][0]
    ]
    result = repair.result
    reached = f"The picture is still reached, with {result['psnr']:.1f} dB (30 and more look the same)."
    return tag(
        "div",
        tag("p", " ".join(said) or reached, class_="pl-sentence"),
        tag("p", reached) if said else "",
        *(tag("p", note, class_="pl-quiet") for note in result["notes"]),
        class_="pl-told",
    )


def preview(repair: Repair | None) -> Html:
    """What the picture looks like as of the last step."""
    file = repair.preview if repair else None
    if repair is None or file is None:
        return Html("")
    said = "The picture, reached again after the repair" if repair.finished else "The picture as of this step"
    return tag("figure", tag("img", src=file_url(file), alt=said), tag("figcaption", said), class_="pl-preview")


METRICS = {
    "psnr": term(
        "Rest of the picture kept", "PSNR in dB outside the edited object; more is better, 30 looks the same."
    ),
    "ssim": term("Its structure kept", "SSIM outside the edited object, from 0 to 1; more is better."),
    "clip": term("Fits the new caption", "CLIP score: 100 times the cosine of picture and caption; more is better."),
    "structure": term(
        "Built differently", "Structure distance with the loaded CLIP's ViT, not DINO's; less is better."
    ),
}

UNITS = {"psnr": " dB"}


def edited(study: Study, found: EditFolder, record: dict[str, Any]) -> Html:
    """An edit three ways: each beside the picture under a divider, with its metrics and its file."""
    source = Picture("Before", file_url(study.image))
    middle = 100 * (record.get("middle") or 0.5)  # half of the object is seen before, and half after
    cells = []
    for way, name in WAYS.items():
        file = found.picture(way)
        data = base64.b64encode(file.read_bytes()).decode()
        link = tag(
            "a",
            "Download PNG",
            href=f"data:image/png;base64,{data}",
            download=f"synthetic-{way}.png",
            class_="pl-button small",
        )
        rows = [
            tag("tr", tag("td", words), tag("td", _said(record["ways"][way][key], UNITS.get(key, ""))))
            for key, words in METRICS.items()
        ]
        compared = wipe(source, Picture("Edited", file_url(file)), name, middle)
        cells.append(tag("div", tag("h3", name), compared, tag("table", tag("tbody", *rows)), link, data_way=way))
    outside = record["measured"] == "outside"
    where = "outside the object that was edited" if outside else "on the whole picture, because no mask is known"
    judge = f" Pictures and captions are judged by {record['by']}." if record["by"] else f" {record['why_not']}"
    return tag(
        "div",
        tag("p", _edit_sentence(study, record["request"]), class_="pl-sentence"),
        tag("div", *cells, class_="pl-ways"),
        tag("p", f"What was kept is measured {where}.{judge}", class_="pl-quiet"),
        class_="pl-edited",
    )


def _edit_sentence(study: Study, request: dict[str, Any]) -> str:
    if request["kind"] != "weight":
        return f"“{study.facts.caption}” became “{request['prompt']}”."
    changes = (f"“{study.words[int(word)]}” now counts {by:g} times as much" for word, by in request["weights"].items())
    return f"In “{study.facts.caption}”, {' and '.join(changes)}."


def _said(value: float | None, unit: str) -> str:
    return "–" if value is None else (f"{value:.3f}" if abs(value) < 1 else f"{value:.1f}") + unit
