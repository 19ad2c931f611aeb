"""Who said what, when, in which round and with what on screen: the log as it was written, and whether it still is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr
from sqlalchemy import func, select

from app.components.gallery import pager, thumbnail_url
from app.components.html import Html, notice, table, tag, term
from app.components.label_desk import Desk, existing, number_of, samples_of
from app.components.live import live_html, pressed
from app.components.methods import method_title
from app.components.words import counted, duration, moment, number
from engines.labelling import check_chain, history
from engines.labelling.readers import spellings
from engines.store import Annotation, Occasion, Run, Sample, SelectionRound, Verdict
from engines.store.browse import classes

PAGE_SIZE = 25
MINE, EVERYBODY = "mine", "everybody"
VERDICTS = {
    Verdict.LABEL: "label",
    Verdict.UNSURE: "unsure",
    Verdict.NOT_GRADABLE: "not gradable",
    Verdict.SKIP: "skipped for later",
    Verdict.FLAG: "flagged",
    Verdict.UNDO: "taken back",
    Verdict.SUGGESTION: "suggestion from a file",
}
OCCASIONS = {
    Occasion.READING: "reading",
    Occasion.REPEAT: "shown once more",
    Occasion.REVIEW: "looked up",
    Occasion.ADJUDICATION: "last word",
    Occasion.IMPORT: "from a file",
}
CHAIN = term(
    "chain of checksums", "Every entry carries a checksum over itself and the one before it: a change by hand shows."
)


class History:
    """The tab, and what it answers."""

    def __init__(self, desk: Desk) -> None:
        self.desk, self.workspace = desk, desk.workspace
        lead = tag("p", "Every verdict is kept for good, also those that were taken back.", class_="pl-lead")
        gr.HTML(lead, apply_default_css=False)
        with gr.Row(equal_height=True):
            self.whose = gr.Radio(
                [("mine", MINE), ("everybody’s", EVERYBODY)],
                value=MINE,
                label="Whose verdicts",
                info="If you read without knowing what others said, look at theirs when you are through.",
                interactive=True,
                elem_id="label-whose",
            )
            self.check = gr.Button(
                "Check that nothing was changed",
                scale=0,
                min_width=304,
                elem_id="label-check",
                elem_classes="pl-beside",
            )
        self.checked = live_html(elem_id="label-checked")
        self.listed = live_html(elem_id="label-history")

    @property
    def shown(self) -> list[Any]:
        return [self.listed]

    @property
    def asked(self) -> list[Any]:
        return [self.desk.dataset, self.desk.name, self.whose]

    def listen(self) -> None:
        context = self.desk.context
        context.listen(self.whose.input, self.look, self.asked, self.listed)
        context.listen(self.listed.action, self.turn, self.asked, self.listed, every=True)
        context.listen(self.check.click, self.verify, None, self.checked)

    def look(self, dataset_id: Any, name: Any, whose: Any, first: int = 0) -> Html:
        chosen, reader = existing(self.workspace, dataset_id), None if whose == EVERYBODY else str(name or "")
        total = self._count(chosen, reader)
        if not total:
            return tag("p", "Verdicts will be listed here, the newest first.", class_="pl-quiet")
        first = min(first, (total - 1) // PAGE_SIZE * PAGE_SIZE)
        rows = history(self.workspace, chosen, reader, first=first, limit=PAGE_SIZE)
        return tag("div", pager(first, len(rows), total, PAGE_SIZE, keys=False), self._table(chosen, rows))

    def turn(self, dataset_id: Any, name: Any, whose: Any, event: gr.EventData) -> Html:
        """Another page of the table."""
        _, value = pressed(event)
        return self.look(dataset_id, name, whose, number_of(value) or 0)

    def verify(self) -> Html:
        found = check_chain(self.workspace)
        if found.broken is None:
            said = f"All {counted(found.rows, 'entry', 'entries')} of this workspace are as they were written."
            return notice("good", said, tag("span", "The ", CHAIN, " fits."))
        what = f"Entry {found.broken} does not fit: it, or one before it, was changed outside the program."
        return notice("error", what, "Compare with an export or a backup from before.")

    def _count(self, dataset_id: int, reader: str | None) -> int:
        query = select(func.count(Annotation.id)).where(
            Annotation.sample_id.in_(select(Sample.id).where(Sample.dataset_id == dataset_id))
        )
        with self.workspace.session() as session:
            if reader is not None:
                query = query.where(Annotation.annotator.in_(spellings(session, reader)))
            return session.scalar(query) or 0

    def _table(self, dataset_id: int, rows: Sequence[Annotation]) -> Html:
        names = {each.id: each.name for each in classes(self.workspace, dataset_id)}
        samples = {each.id: each for each in samples_of(self.workspace, dataset_id, (row.sample_id for row in rows))}
        rounds = self._rounds(row.round_id for row in rows)
        columns = ["No.>", "When", "Who", "Image", "What", "Why shown", "Round", "Seen beside it", "Took>"]
        lines = [
            [
                number(row.id),
                moment(row.created_at),
                row.annotator,
                self._picture(samples.get(row.sample_id)),
                _what(row, names),
                OCCASIONS[row.occasion],
                rounds.get(row.round_id or 0, "–"),
                _aids(row),
                duration(row.seconds) if row.seconds is not None else "–",
            ]
            for row in rows
        ]
        return table(columns, lines)

    def _picture(self, sample: Sample | None) -> Html:
        if sample is None:
            return Html("–")
        image = tag(
            "img", src=thumbnail_url(self.workspace, sample), alt=f"Image {sample.position + 1}", loading="lazy"
        )
        return tag("span", image, class_="pl-tiny", title=f"Image {sample.position + 1}")

    def _rounds(self, ids: Any) -> dict[int, Html]:
        """Number of each round and the model that picked it, by id."""
        query = select(SelectionRound, Run.method).join(Run, Run.id == SelectionRound.run_id, isouter=True)
        with self.workspace.session() as session:
            found = session.execute(query.where(SelectionRound.id.in_({each for each in ids if each}))).all()
        return {
            each.id: tag("span", str(each.number), title=f"Picked with {method_title(method)}" if method else None)
            for each, method in found
        }


def _what(row: Annotation, names: Mapping[int, str]) -> Html:
    said = names.get(row.class_id, "?") if row.class_id is not None else VERDICTS[row.verdict]
    if row.verdict is Verdict.SUGGESTION:
        said = f"{said} ({VERDICTS[row.verdict]})"
    if row.refers_to is not None:
        said = f"No. {row.refers_to} taken back" if row.verdict is Verdict.UNDO else f"{said} (put back)"
    comment = tag("span", f"“{row.comment}”", class_="pl-quiet") if row.comment else ""
    return tag("span", tag("strong", said), " ", comment)


def _aids(row: Annotation) -> str:
    if row.occasion is Occasion.IMPORT or row.verdict is Verdict.UNDO:
        return "–"
    if row.aids.get("offered"):
        return "suggestions of the model and of files" if row.model else "suggestions of files"
    return "the model’s guess" if row.model or not row.aids.get("blind", True) else "nothing (blind)"
