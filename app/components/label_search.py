"""Find images: by words, or by one that looks like those that are wanted."""

from __future__ import annotations

from typing import Any

import gradio as gr
from sqlalchemy import select

from app.components.gallery import grid
from app.components.html import Html, action, notice, tag
from app.components.jobs import progress
from app.components.label_desk import Desk, cells, existing, newest_job, number_of, samples_of
from app.components.live import live_html, pressed
from app.components.words import counted
from app.context import tell_errors
from engines import jobs
from engines.errors import DataError, PromptloupeError
from engines.labelling import label_settings
from engines.store import Annotation, JobState, Occasion, Sample
from engines.store.browse import get_jobs

SHOWN = 20
LIKE, FOUND = "Most like that image", "Found images"
LEAD = (
    "Look for a kind of image by describing it, or by an example. Good for a class that the rounds have not found yet."
)
Found = dict[str, Any]
"""What was found: `title`, `ids`, `selected`; or `job` and `asked`, while the images are looked at first; or `pending`
and `title`, while the search is on its way."""
# The image on the reading screen, as the screen itself tells it.
ON_SCREEN = "() => document.querySelector('#label-reader [data-shown]')?.dataset.shown || ''"


class FindImages:
    """The tab, and what it answers."""

    def __init__(self, desk: Desk) -> None:
        self.desk, self.workspace = desk, desk.workspace
        self.found: gr.State = gr.State({})
        gr.HTML(tag("p", LEAD, class_="pl-lead"), apply_default_css=False)
        with gr.Row(equal_height=True):
            self.words = gr.Textbox(
                label="What the image shows",
                placeholder="for example: cells with two lobes",
                max_lines=1,
                max_length=300,
                scale=4,
                elem_id="label-words",
            )
            self.search = gr.Button("Find", variant="primary", scale=0, min_width=96, elem_classes="pl-beside")
            self.like = gr.Button(
                "20 like the one on screen", scale=0, min_width=256, elem_id="label-like", elem_classes="pl-beside"
            )
        self.fresh = gr.Checkbox(
            value=True, label="Only images without a label", interactive=True, elem_id="label-fresh", container=False
        )
        self.shown_sample = gr.Textbox(visible=False)
        self.answer = live_html(elem_id="label-found")

    @property
    def answered(self) -> list[Any]:
        return [self.found, self.answer]

    def listen(self) -> None:
        desk, context = self.desk, self.desk.context
        for event in (self.search.click, self.words.submit):
            self.after(context.listen(event, searching, None, self.answer))
        begun = context.listen(self.like.click, searching, None, self.answer)
        seen = [desk.dataset, desk.name, self.shown_sample, self.fresh]
        self._then(begun, self.like_shown, seen, js=f"(d, n, s, f) => [d, n, ({ON_SCREEN})(), f]")
        inputs = [desk.dataset, desk.name, self.found]
        pressed_on = context.listen(self.answer.action, self.act, inputs, [*self.answered, *desk.screen], every=True)
        self._then(pressed_on, self.carry_on, [desk.dataset, self.found, self.fresh])
        context.on_tick(self.follow, self.found, self.answer)

    def after(self, begun: Any) -> None:
        """Search for the words once the listener `begun` has said that it is on its way."""
        self._then(begun, self.by_words, [self.desk.dataset, self.words, self.fresh])

    def _then(self, begun: Any, fn: Any, inputs: list[Any], js: str | None = None) -> None:
        begun.then(
            tell_errors(fn),
            inputs,
            self.answered,
            js=js,
            concurrency_limit=None,
            show_progress="hidden",
            api_visibility="private",
        )

    # --- asking -----------------------------------------------------------------------

    def by_words(self, dataset_id: Any, words: Any, fresh: Any) -> tuple[Found, Html]:
        text = " ".join(str(words or "").split())
        if not text:
            return {}, notice("info", "Type what the images shall show.", "For example: cells with two lobes.")
        return self.ask(dataset_id, {"text": text}, f"Closest to “{text}”", bool(fresh))

    def like_shown(self, dataset_id: Any, name: Any, shown: Any, fresh: Any) -> tuple[Found, Html]:
        sample = number_of(str(shown or "")) or self._last_read(dataset_id, name)
        if sample is None:
            return {}, notice("info", "There is no image on the screen.", "Search in words instead.")
        return self.like_sample(dataset_id, sample, fresh)

    def like_sample(self, dataset_id: Any, sample: int, fresh: Any) -> tuple[Found, Html]:
        return self.ask(dataset_id, {"sample_id": sample}, LIKE, bool(fresh))

    def carry_on(self, dataset_id: Any, found: Any, fresh: Any) -> Any:
        """The search that a button inside the answer has begun; it says “Searching …” meanwhile."""
        if not isinstance(found, dict) or not found.get("pending"):
            return gr.skip(), gr.skip()
        return self.ask(dataset_id, found["pending"], found.get("title", FOUND), bool(fresh))

    def ask(self, dataset_id: Any, asked: dict[str, Any], title: str, fresh: bool) -> tuple[Found, Html]:
        """The search, or why it cannot be; begins to look at the images where that was never done."""
        kind = "text_search" if "text" in asked else "similar"
        try:
            chosen = existing(self.workspace, dataset_id)
            backbone = label_settings(self.workspace, chosen).backbone
            payload = {"dataset_id": chosen, "backbone": backbone, "limit": SHOWN, "unlabelled": fresh, **asked}
            answer = self.desk.context.call(kind, payload, timeout=180)
            missing = int(answer.get("missing") or 0)
            if missing and not answer["hits"]:
                return self._look_first(chosen, backbone, missing, {**asked, "title": title})
        except PromptloupeError as error:
            return {}, notice("warning", error.what, error.remedy, error.detail)
        return self.show(chosen, [int(hit["sample"]) for hit in answer["hits"]], title, asked)

    def _look_first(self, dataset_id: int, backbone: str, missing: int, asked: Found) -> tuple[Found, Html]:
        running = newest_job(self.workspace, "features", dataset_id)
        if running is None or running.state.ended or running.payload.get("backbone") != backbone:
            job = self.desk.context.submit("features", {"dataset_id": dataset_id, "backbone": backbone})
        else:
            job = running.id
        return {"job": job, "asked": asked, "missing": missing}, self.waiting(missing, job, asked)

    def _last_read(self, dataset_id: Any, name: Any) -> int | None:
        query = (
            select(Annotation.sample_id)
            .join(Sample, Sample.id == Annotation.sample_id)
            .where(Sample.dataset_id == dataset_id, Annotation.annotator == name)
        )
        with self.workspace.session() as session:
            return session.scalars(query.order_by(Annotation.id.desc()).limit(1)).first()

    # --- showing ----------------------------------------------------------------------

    def show(
        self, dataset_id: int, ids: list[int], title: str, asked: Found, selected: int | None = None
    ) -> tuple[Found, Html]:
        found = {"title": title, "ids": ids, "asked": asked, "selected": selected}
        if not ids:
            return found, notice("info", "Nothing was found.", "Take away “Only images without a label”, or ask anew.")
        samples = samples_of(self.workspace, dataset_id, ids)
        one = (
            [
                action("20 like this one", "like", selected, "small"),
                action("Open this one", "open-one", selected, "small"),
            ]
            if selected
            else [tag("span", "Press an image to find others like it.", class_="pl-quiet")]
        )
        head = tag(
            "div",
            tag(
                "p",
                tag("strong", title),
                f": {counted(len(samples), 'image')}, the best fit first.",
                class_="pl-sentence",
            ),
            tag("span", *one, action("Label these", "open", "", "small primary"), class_="pl-buttons"),
            class_="pl-row",
        )
        return found, tag("div", head, grid(cells(self.workspace, samples, {}, selected)), class_="pl-stack")

    def waiting(self, missing: int, job_id: str, asked: Found) -> Html:
        """How far looking at the images is; when it is done, the way on."""
        job = next(iter(get_jobs(self.workspace, [job_id])), None)
        if job is not None and job.state is JobState.DONE:
            return tag(
                "div",
                notice("good", "All images have been looked at.", "From now on searching takes a moment only."),
                action("Show what was found", "again", "", "primary"),
                class_="pl-offer",
            )
        first = f"{counted(missing, 'image')} must be looked at once before they can be searched."
        return tag("div", notice("info", first, "You can go on labelling."), progress(job) if job else "")

    def follow(self, found: Any) -> Any:
        if not isinstance(found, dict) or not found.get("job"):
            return gr.skip()
        return self.waiting(int(found.get("missing") or 0), str(found["job"]), found.get("asked") or {})

    def act(self, dataset_id: Any, name: Any, found: Any, event: gr.EventData) -> list[Any]:
        what, value = pressed(event)
        found, still = found if isinstance(found, dict) else {}, [gr.skip()] * 3
        chosen, sample = existing(self.workspace, dataset_id), number_of(value)
        asked = found.get("asked") or {}
        if what == "select" and sample in found.get("ids", []):
            selected = None if sample == found.get("selected") else sample
            return [*self.show(chosen, found["ids"], found["title"], asked, selected), *still]
        if what == "like" and sample is not None:
            return [{"pending": {"sample_id": sample}, "title": LIKE}, searching(), *still]
        if what in ("open", "open-one"):
            ids = [each for each in found.get("ids", []) if what == "open" or each == sample]
            screen = self.desk.open_list(chosen, name, ids, Occasion.REVIEW, found.get("title", FOUND))
            return [gr.skip(), gr.skip(), *screen]
        if what == "again" and asked:
            question = {key: asked[key] for key in ("text", "sample_id") if key in asked}
            return [{"pending": question, "title": asked.get("title", FOUND)}, searching(), *still]
        if what in ("cancel", "retry") and found.get("job") == value:
            if what == "cancel":
                jobs.cancel(self.workspace, value)
            else:
                found["job"] = jobs.retry(self.workspace, value)
            return [found, self.waiting(int(found.get("missing") or 0), found["job"], asked), *still]
        raise DataError("That cannot be done here.", "Search anew.")


def searching() -> Html:
    """What stands there until the search answers."""
    return tag("p", "Searching …", class_="pl-quiet")
