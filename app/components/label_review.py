"""Likely errors: labels that the model contradicts most, as a queue to look at once more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import gradio as gr

from app.components.gallery import grid
from app.components.html import Html, action, notice, tag, term
from app.components.jobs import progress
from app.components.label_desk import Desk, cells, existing, newest_job, number_of, samples_of
from app.components.live import live_html, pressed
from app.components.words import counted, moment
from engines import jobs
from engines.errors import DataError
from engines.labelling import effective_labels, label_settings, standing
from engines.store import Job, Occasion
from engines.store.browse import classes

KIND = "label_hints"
FEWEST = 5
"""Labels that a class needs before hints about it are worth anything."""
SHOWN = 60
HOW = term(
    "contradicts",
    "A small model that did not learn from the image is sure of another class (confident learning).",
)


class LikelyErrors:
    """The tab, and what it answers."""

    def __init__(self, desk: Desk) -> None:
        self.desk, self.workspace = desk, desk.workspace
        lead = tag(
            "p", "Labels that a model ", HOW, ". Slips of the finger are mostly among the first.", class_="pl-lead"
        )
        gr.HTML(lead, apply_default_css=False)
        self.stamp = gr.State("")
        self.answer = live_html(elem_id="label-errors")

    @property
    def shown(self) -> list[Any]:
        return [self.answer, self.stamp]

    def listen(self) -> None:
        desk, context = self.desk, self.desk.context
        asked = [desk.dataset, desk.name]
        context.listen(self.answer.action, self.act, asked, [*self.shown, *desk.screen], every=True)
        context.on_tick(self.follow, [*asked, self.stamp], self.shown)

    def look(self, dataset_id: Any, name: Any) -> tuple[Html, str]:
        """The tab for a data set: the hints there are, the job that makes them, or why there can be none."""
        chosen = existing(self.workspace, dataset_id)
        newest = newest_job(self.workspace, KIND, chosen)
        return self._said(chosen, str(name or ""), newest), _stamp(newest)

    def follow(self, dataset_id: Any, name: Any, stamp: Any) -> list[Any]:
        """Show how far the job is; everything else is drawn when the tab is opened."""
        if not stamp or not isinstance(dataset_id, int):
            return [gr.skip()] * 2
        newest = newest_job(self.workspace, KIND, dataset_id)
        return [gr.skip()] * 2 if _stamp(newest) == stamp else [*self.look(dataset_id, name)]

    def begin(self, dataset_id: Any) -> None:
        """Queue the search for wrong labels.

        Raises:
            DataError: a class has too few labels.
        """
        chosen = existing(self.workspace, dataset_id)
        if lacking := self._lacking(chosen):
            raise DataError("There are too few labels yet to tell which are wrong.", lacking)
        backbone = label_settings(self.workspace, chosen).backbone
        self.desk.context.submit(KIND, {"dataset_id": chosen, "backbone": backbone})

    def act(self, dataset_id: Any, name: Any, event: gr.EventData) -> list[Any]:
        what, value = pressed(event)
        still = [gr.skip()] * 3
        if what == "begin":
            self.begin(dataset_id)
        elif what in ("cancel", "retry"):
            newest = newest_job(self.workspace, KIND, existing(self.workspace, dataset_id))
            if newest is not None and newest.id == value:
                (jobs.cancel if what == "cancel" else jobs.retry)(self.workspace, value)
        elif what in ("review", "select"):
            return [gr.skip(), gr.skip(), *self._review(dataset_id, name, number_of(value))]
        return [*self.look(dataset_id, name), *still]

    def _review(self, dataset_id: Any, name: Any, first: int | None) -> tuple[str, Html, str]:
        """The images on the reading screen, `first` before the others."""
        done = newest_job(self.workspace, KIND, existing(self.workspace, dataset_id), done=True)
        ids = [int(hint["sample"]) for hint in _hints(done)]
        looked = self._looked_at(dataset_id, str(name or ""), done, ids)
        ids = [first] if first in ids else [each for each in ids if each not in looked]
        return self.desk.open_list(dataset_id, name, ids, Occasion.REVIEW, "Labels that may be wrong")

    def _lacking(self, dataset_id: int) -> str:
        """Why there are too few labels, in a sentence; empty where there are enough."""
        with self.workspace.session() as session:
            counts = Counter(effective_labels(session, dataset_id).values())
        listed = [(each.name, counts[each.id]) for each in classes(self.workspace, dataset_id)]
        if sum(count >= FEWEST for _, count in listed) >= 2:
            return ""
        said = ", ".join(f"“{name}” {count}" for name, count in listed[:6]) + (", …" if len(listed) > 6 else "")
        return f"At least two classes need {FEWEST} labelled images each. So far: {said or 'no class'}."

    def _looked_at(self, dataset_id: int, name: str, job: Job | None, ids: list[int]) -> set[int]:
        """Images that this reader has looked at since the hints were made."""
        if job is None or job.finished_at is None or not name or not ids:
            return set()
        read = standing(self.workspace, dataset_id, name, ids)
        return {sample for sample, verdict in read.items() if verdict.created_at > job.finished_at}

    def _said(self, dataset_id: int, name: str, newest: Job | None) -> Html:
        if newest is not None and not newest.state.ended:
            return tag("div", progress(newest), class_="pl-card")
        lacking = self._lacking(dataset_id)
        done = newest_job(self.workspace, KIND, dataset_id, done=True)
        again = action("Look for wrong labels", "begin", "", "small" if done else "primary", disabled=bool(lacking))
        failed = progress(newest) if newest is not None and newest is not done and newest.error else ""
        if done is None:
            why = notice("info", "There are too few labels yet to tell which are wrong.", lacking) if lacking else ""
            return tag("div", failed, why, tag("div", again), class_="pl-stack")
        return tag("div", failed, self._listed(dataset_id, name, done, again), class_="pl-stack")

    def _listed(self, dataset_id: int, name: str, done: Job, again: Html) -> Html:
        hints = _hints(done)
        if not hints:
            said = notice("good", "No label looks wrong.", f"Looked at {moment(done.finished_at)}.")
            return tag("div", said, again, class_="pl-offer")
        names = {each.id: each.name for each in classes(self.workspace, dataset_id)}
        ids = [int(hint["sample"]) for hint in hints]
        looked = self._looked_at(dataset_id, name, done, ids)
        left = [hint for hint in hints if int(hint["sample"]) not in looked]
        sentence = f"{counted(len(hints), 'label')} may be wrong; you have looked at {len(looked)} of them since."
        head = tag(
            "div",
            tag("p", tag("strong", sentence), f" As of {moment(done.finished_at)}.", class_="pl-sentence"),
            tag(
                "span",
                again,
                action("Look at them", "review", "", "small primary", disabled=not left),
                class_="pl-buttons",
            ),
            class_="pl-row",
        )
        captions = {int(hint["sample"]): _caption(hint, names) for hint in left[:SHOWN]}
        samples = samples_of(self.workspace, dataset_id, captions)
        more = (
            tag("p", f"… and {counted(len(left) - SHOWN, 'more image')}.", class_="pl-quiet")
            if len(left) > SHOWN
            else ""
        )
        return tag("div", head, grid(cells(self.workspace, samples, captions)), more, class_="pl-stack")


def _caption(hint: Mapping[str, Any], names: Mapping[int, str]) -> Html:
    given, suggested = (names.get(int(hint[key]), "?") for key in ("given", "suggested"))
    return tag("span", f"{given} → {suggested}?", title=f"Labelled “{given}”; the model says “{suggested}”.")


def _hints(job: Job | None) -> list[Mapping[str, Any]]:
    found = job.result.get("hints") if job is not None else None
    return [hint for hint in found if isinstance(hint, Mapping)] if isinstance(found, list) else []


def _stamp(job: Job | None) -> str:
    return f"{job.id}:{job.state.value}:{job.progress:.2f}" if job is not None else "none"
