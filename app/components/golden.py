"""What the Golden noise page says of a collection: jobs, pairs as they come, the training, what can be taken away."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import select

from app.components.gallery import pager
from app.components.html import Html, action, empty_state, fold, join, notice, tag, term
from app.components.icons import picture
from app.components.jobs import progress
from app.components.wipe import Picture, wipe
from app.components.words import counted, moment, size
from engines.backbones.places import models_folder
from engines.diffusion.golden.scorers import SCORERS
from engines.diffusion.golden.study import Shown, Study
from engines.store import Job, JobState, Workspace

KINDS = ("golden-collect", "golden-train", "golden-judge", "golden-export")
PAGE_SIZE = 24
"""Pairs on one page of the gallery."""
LEAD = (
    "Every generated image begins with random noise, and some noise gives better images. See whether that helps your"
    " prompts, on pairs of images that differ in nothing else."
)
GOLDEN_TERM = term(
    "golden noise",
    "Noise that went one step down and back with strong and weak guidance, so that it carries some of the prompt"
    " (re-denoise sampling, Zhou et al.).",
)
NPNET_TERM = term(
    "NPNet", "Noise prompt network: a small network that turns noise and a prompt into golden noise at once."
)
EXPLAINED = join(
    [
        "From each noise the program makes ",
        GOLDEN_TERM,
        ", and an image of both. What comes out is judged pair by pair. A small network, ",
        NPNET_TERM,
        ", learns from the pairs to make golden noise itself. Effects are small: believe intervals, not single images.",
    ]
)
DOTS = picture(
    '<rect x="24" y="16" width="72" height="72" rx="8"/><path d="M36 34h.01M52 28h.01M74 40h.01M44 52h.01M66 60h.01M82'
    ' 74h.01M40 74h.01M58 80h.01"/><g class="accent"><path d="M108 52h20M122 46l6 6-6 6"/><rect x="140" y="16"'
    ' width="72" height="72" rx="8"/><path d="M176 32l5 14 15 1-12 9 4 15-12-8-13 8 5-15-12-9 15-1z"/></g>'
)


def no_model() -> Html:
    """What stands here before there is a text-to-image model."""
    return empty_state(
        DOTS,
        join(
            [
                "Pairs of images will stand here. Put the folder of a Stable Diffusion model (1, 2 or SDXL, in"
                " diffusers format) into ",
                tag("code", models_folder()),
                ", or type its place into “Text-to-image model”.",
            ]
        ),
    )


# --- jobs ---


def jobs_of(workspace: Workspace, study_id: str) -> list[Job]:
    """The newest job of each kind for a collection, oldest first."""
    newest = select(Job).where(Job.kind.in_(KINDS)).order_by(Job.created_at.desc(), Job.id.desc()).limit(200)
    shown: dict[str, Job] = {}
    with workspace.session() as session:
        for job in session.scalars(newest):
            if study_id and job.payload.get("study") == study_id:
                shown.setdefault(job.kind, job)
    return sorted(shown.values(), key=lambda job: (job.created_at, job.id))


def at_work(found: Sequence[Job], kind: str) -> bool:
    return any(job.kind == kind and not job.state.ended for job in found)


def working(found: Sequence[Job], *kinds: str) -> Html:
    """Jobs of these kinds as blocks with progress and cancel: at work, failed or cancelled."""
    return join(progress(job) for job in found if job.kind in kinds and job.state is not JobState.DONE)


def study_name(study: Study) -> str:
    """ "Mini world, 27 Nov, 12:05"."""
    request = study.request
    return f"{request.name or Path(request.model).name}, {moment(request.created)}"


# --- pairs ---


def file_url(path: Path) -> str:
    """Address of a picture of a study, relative so that it works below any address."""
    return f"gradio_api/file={quote(str(path))}"


def pairs_view(study: Study | None, first: int, opened: str, busy: bool) -> Html:
    """Winning rate so far, and the pairs, the newest first; one of them large."""
    found = study.shown()[::-1] if study is not None else []
    if study is None or not found:
        return tag("p", "The first pairs appear in a moment …" if busy else "", class_="pl-quiet") if busy else Html("")
    won = study.won()
    assert won is not None
    first = max(0, min(first, (len(found) - 1) // PAGE_SIZE * PAGE_SIZE))
    page = found[first : first + PAGE_SIZE]
    large = next((each for each in found if each.key == opened), None)
    so_far = "So far " if busy else ""
    judged_by = SCORERS[study.request.scorer].title
    parts = [
        tag("p", f"{so_far}{won.verdict()}" if busy else _upper(won.verdict()), class_="pl-sentence"),
        tag("p", f"Judged by: {judged_by}. {counted(len(found), 'pair')}, the newest first.", class_="pl-quiet"),
        notes(study.notes),
        pager(first, len(page), len(found), PAGE_SIZE, keys=False) if len(found) > PAGE_SIZE else "",
        tag("div", _large(study, large), class_="pl-golden-open") if large else "",
        tag("div", *(_cell(study, each, each.key == opened) for each in page), class_="pl-gallery pl-golden-pairs"),
    ]
    return tag("div", *parts, class_="pl-stack")


def _cell(study: Study, pair: Shown, selected: bool) -> Html:
    images = (
        tag("img", src=file_url(study.picture(pair.key, kind)), alt=f"{kind} noise: {pair.prompt}", loading="lazy")
        for kind in ("original", "golden")
    )
    return tag(
        "button",
        tag("span", *images, class_="pl-frame pl-golden-two"),
        tag("span", f"{_gain(pair)} ", tag("span", _short(pair.prompt), class_="pl-quiet"), class_="pl-caption"),
        type="button",
        data_action="open",
        data_value=pair.key,
        aria_pressed=str(selected).lower(),
        title=f"{pair.prompt} (left: original noise, right: golden noise)",
    )


def _large(study: Study, pair: Shown) -> Html:
    sides = [
        Picture(title, file_url(study.picture(pair.key, kind)))
        for title, kind in (("Original noise", "original"), ("Golden noise", "golden"))
    ]
    facts = [
        ("Prompt", pair.prompt),
        ("Seed", pair.seed),
        ("Original noise", f"{pair.original:.3f}"),
        ("Golden noise", f"{pair.golden:.3f}"),
        ("Difference", f"{pair.gain:+.3f}"),
    ]
    return opened("Pair of noises", sides, facts)


def opened(name: str, sides: Sequence[Picture], facts: Sequence[tuple[str, Any]]) -> Html:
    """Two images under a divider, with what is known of them; the action `close` has no value."""
    return tag(
        "aside",
        wipe(sides[0], sides[1], name),
        tag(
            "div",
            tag(
                "dl", *(join([tag("dt", term_), tag("dd", value)]) for term_, value in facts), class_="pl-golden-facts"
            ),
            action("Close", "close", "", "small"),
        ),
        class_="pl-golden-large",
        aria_label="The chosen images",
    )


def _gain(pair: Shown) -> str:
    return f"golden {pair.gain:+.3f}" if pair.gain else "equal"


def notes(found: Sequence[str]) -> Html:
    """What was left out: one sentence at once, several folded."""
    if not found:
        return Html("")
    if len(found) <= 3:
        return notice("warning", " ".join(found))
    return notice(
        "warning", f"{len(found)} notes on what was left out.", fold("Show them", tag("ul", *map(_item, found)))
    )


def _item(text: str) -> Html:
    return tag("li", text)


def _short(prompt: str) -> str:
    return prompt if len(prompt) <= 60 else f"{prompt[:59]}…"


def _upper(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


# --- to take away ---


def exported(workspace: Workspace, found: Sequence[Job]) -> Html:
    """The newest file, to be downloaded."""
    done = [job for job in found if job.kind == "golden-export" and job.state is JobState.DONE]
    if not done:
        return Html("")
    file = workspace.resolve(str(done[-1].result.get("path", "")))
    if not file.is_file():
        return notice("info", "The exported file has been moved or removed since.", "Export again to download it.")
    words = f"Download {file.name} ({size(file.stat().st_size)})"
    link = tag("a", words, href=file_url(file), download=file.name, class_="pl-button primary")
    return tag(
        "div", notice("good", f"Packed {moment(done[-1].finished_at)}, with a card that says how."), tag("p", link)
    )
