"""Values of the components of the Golden noise page: what there is of a collection, and what has changed of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from app.components import golden as views
from app.components import golden_judge as judged
from app.components import golden_vote as vote
from app.components.golden_training import training_figure, training_sentence
from app.components.html import Html, join
from app.components.live import pressed
from app.components.plot import drawn
from engines.diffusion.golden.judged import Judgement, judgements
from engines.diffusion.golden.study import Curve, Study
from engines.store import Job, Workspace

NO_VIEW: dict[str, Any] = {"first": 0, "opened": ""}
"""First page, nothing opened."""
COLLECT = views.KINDS[0]


def values(
    workspace: Workspace, seen: dict[str, Any], study: Study | None, pairs_view: Any, judged_view: Any, rival: Any
) -> list[Any]:
    """Stamps of what is on show; jobs of each kind; whether training, judging and export are there; then pairs, the
    training's sentence and figure, what `told` gives, and the voting: each only where its stamp
    is not the one in `seen`."""
    found = views.jobs_of(workspace, study.id) if study is not None else []
    curve = study.newest() if study is not None else None
    judgement_ = judgement(study)
    stamps = _stamps(study, curve, judgement_, found)
    changed = {name for name, stamp in stamps.items() if name not in seen or stamp != seen[name]}
    parts = [gr.skip()] * 8
    if "pairs" in changed:
        parts[0] = views.pairs_view(study, *_place(pairs_view), busy=views.at_work(found, COLLECT))
    if "curve" in changed:
        parts[1:3] = [training_sentence(curve), drawn(training_figure(curve))]
    if changed & {"judged", "voting"}:
        parts[3:7] = told(judgement_, judged_view, rival)
        parts[7] = vote.voting(judgement_) if judgement_ is not None and judgement_.rows() else Html("")
    columns = [gr.update(visible=stamps["there"]) if "there" in changed else gr.skip()] * 3
    return [stamps, *_progress(workspace, found), *columns, *parts]


def progress(workspace: Workspace, study: Study | None) -> list[Html]:
    """How far the jobs of each kind are; with the last kind the file that was packed."""
    return _progress(workspace, views.jobs_of(workspace, study.id) if study is not None else [])


def _progress(workspace: Workspace, found: Sequence[Job]) -> list[Html]:
    blocks = [views.working(found, kind) for kind in views.KINDS]
    return [*blocks[:-1], join([blocks[-1], views.exported(workspace, found)])]


def pairs(workspace: Workspace, study: Study | None, view: Any) -> Html:
    found = views.jobs_of(workspace, study.id) if study is not None else []
    return views.pairs_view(study, *_place(view), busy=views.at_work(found, COLLECT))


def told(judgement: Judgement | None, view: Any, rival: Any) -> list[Any]:
    """Verdict, figure, images, and which may be laid over each other; hidden while somebody votes blind."""
    if judgement is None or vote.open_round(judgement):
        return [judged.hidden() if judgement else Html(""), drawn(None), Html(""), gr.update(visible=False)]
    choices = [(judged.TITLES[kind], kind) for kind in judgement.kinds[1:]]
    rival = rival if rival in judgement.kinds else "golden"
    figure = judged.scatter(judgement, list(judgement.scorers)[-1])
    verdict, shown = judged.verdict(judgement), images(judgement, view, rival)
    return [verdict, drawn(figure), shown, gr.update(choices=choices, value=rival, visible=bool(judgement.rows()))]


def images(judgement: Judgement | None, view: Any, rival: Any) -> Html:
    if judgement is None or vote.open_round(judgement):
        return Html("")
    first, opened = _place(view)
    chosen = int(opened) if opened.isdecimal() else None
    return judged.images(judgement, first, chosen, rival if rival in judgement.kinds else "golden")


def judgement(study: Study | None) -> Judgement | None:
    """The newest one."""
    found = judgements(study) if study is not None else []
    return found[-1] if found else None


def turned(view: Any, event: gr.EventData) -> dict[str, Any]:
    """The view after a press: another page, another pair, or none."""
    first, opened = _place(view)
    name, value = pressed(event)
    if name == "page":
        return {"first": int(value) if value.isdecimal() else 0, "opened": ""}
    return {"first": first, "opened": "" if name == "close" or value == opened else value}


def _stamps(
    study: Study | None, curve: Curve | None, judgement: Judgement | None, found: Sequence[Job]
) -> dict[str, Any]:
    """Change with what is on show, part by part."""
    shown = len(study.shown()) if study is not None else 0
    name = study.id if study is not None else ""
    return {
        "there": bool(shown),
        "pairs": [name, shown, len(study.notes) if study is not None else 0, views.at_work(found, COLLECT)],
        "curve": [str(curve.folder), len(curve.held_out), curve.passes] if curve is not None else [name],
        "judged": [str(judgement.folder), len(judgement.rows())] if judgement is not None else [name],
        # Not each vote: the window where it was cast shows the next pair itself.
        "voting": vote.open_round(judgement),
    }


def _place(view: Any) -> tuple[int, str]:
    """First place and what is opened; what the browser sent may be anything."""
    view = view if isinstance(view, dict) else {}
    first = view.get("first")
    return (first if isinstance(first, int) else 0), str(view.get("opened") or "")
