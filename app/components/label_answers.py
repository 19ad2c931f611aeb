"""What the reading screen asks the server: its queue, its pictures, and to keep, take back and put back verdicts.

Everything that arrives here comes from a browser and is checked; everything that leaves is text and numbers, which
the page writes as text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from sqlalchemy import func, select

from app.components.label_wire import (
    Asker,
    ForPicture,
    Keep,
    Look,
    Turn,
    address,
    is_read,
    portions,
    press_of,
    said,
    told,
)
from engines import labelling
from engines.data.display import display_folder, display_picture
from engines.errors import DataError
from engines.labelling.answers import imported_suggestions
from engines.labelling.rows import log, still_standing
from engines.labelling.undo import piles
from engines.store import Annotation, Occasion, Sample, SelectionRound, Workspace
from engines.store.browse import classes

PAST = 12
"""Verdicts that are listed for another look."""
SUGGESTED = 3


class ReaderAnswers:
    """The answers of one workspace. Nothing is kept between two of them."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace

    def look(self, asked: Any) -> dict[str, Any]:
        """The queue of a reader, or a list of images, with what has been said of them."""
        request = Look.model_validate(asked)
        blind = labelling.label_settings(self.workspace, request.dataset).blind
        mark = self._newest_row()  # before anything else: a verdict of another window may come in between
        if request.samples is None:
            tasks = self._queue(request, blind)
        else:
            tasks = [{"sample": s, "occasion": request.occasion.value, "round": None} for s in request.samples]
        tasks = self._with_images(request, tasks, blind)
        # A repeated image must look like any other.
        repeated = {task["sample"] for task in tasks if task["occasion"] == Occasion.REPEAT}
        shown = [task["sample"] for task in tasks if task["sample"] not in repeated]
        revealed = request.samples is not None and not blind
        return {
            "title": request.title,
            "blind": blind,
            "classes": [{"id": each.id, "name": each.name} for each in classes(self.workspace, request.dataset)],
            "thumbnails": address(self.workspace.folder("thumbnails")),
            "tasks": tasks,
            "standing": self._standing(request, shown, request.occasion),
            "others": self._said_by_others(request, shown) if revealed else {},
            "mark": mark,
            "workspace": hashlib.sha256(str(self.workspace.path).encode()).hexdigest()[:12],
            **self._past(request),
        }

    def picture(self, asked: Any) -> dict[str, Any]:
        """The picture of an image, or why there is none."""
        request = ForPicture.model_validate(asked)
        with self.workspace.session() as session:
            sample = session.get(Sample, request.sample)
        if sample is None or sample.dataset_id != request.dataset:
            return {"missing": "This image is not in the data set any more."}
        try:
            picture = display_picture(self.workspace, sample)
        except DataError as error:
            return {"missing": str(error)}
        url = f"{address(display_folder(self.workspace))}/{picture.file}"
        return {**picture.model_dump(exclude={"file"}), "url": url}

    def keep(self, asked: Any) -> dict[str, Any]:
        """Keep verdicts, all or none. They are durable when this answers; one that came before is kept once."""
        request = Keep.model_validate(asked)
        blind = labelling.label_settings(self.workspace, request.dataset).blind
        entries = [
            labelling.Entry(
                dataset_id=request.dataset,
                annotator=request.annotator,
                sample_id=each.sample,
                **each.model_dump(exclude={"sample"}),
            )
            for each in request.entries
        ]
        receipts = labelling.record_all(self.workspace, entries)
        whys = self._whys(entries)
        kept = [
            {
                "sample": entry.sample_id,
                "id": receipt.id,
                "conflict": receipt.conflict and told(receipt.conflict),
                "others": self._others(request, entry.sample_id, receipt.others, blind),
                "why": whys.get((entry.round_id, entry.sample_id), ""),
            }
            for entry, receipt in zip(entries, receipts, strict=True)
        ]
        return {"receipts": kept}

    def turn(self, asked: Any) -> dict[str, Any]:
        """Take back or put back a step: a verdict, or all verdicts of one key press in the grid.

        Where another window was faster nothing is moved, and the answer says so in `overtaken`.
        """
        request = Turn.model_validate(asked)
        step = partial(
            labelling.undo if request.what == "undo" else labelling.redo,
            self.workspace,
            request.dataset,
            request.annotator,
        )
        try:
            first = step(f"{request.event}-0", of=request.of)
        except labelling.OvertakenError as late:
            return {"overtaken": str(late), **self._past(request)}
        assert first is not None  # only a step that names no row finds none
        for row in self._of_one_step(request, first.refers_to):
            with suppress(labelling.OvertakenError):
                step(f"{request.event}-{row}", of=row)
        with self.workspace.session() as session:
            written = Annotation.event.startswith(f"{request.event}-", autoescape=True)
            rows = session.scalars(select(Annotation).where(written)).all()
        samples = [row.sample_id for row in rows]
        blind = labelling.label_settings(self.workspace, request.dataset).blind
        queue = [task for task in self._queue(request, blind) if task["sample"] in samples] if samples else []
        known = {task["sample"] for task in queue}
        queue += [
            {"sample": row.sample_id, "occasion": row.occasion.value, "round": row.round_id}
            for row in rows
            if row.sample_id not in known
        ]
        return {
            "verdict": {"verdict": first.verdict.value, "class_id": first.class_id},
            "tasks": self._with_images(request, queue, blind),
            "standing": self._standing(request, samples, rows[0].occasion if rows else Occasion.READING),
            "mark": max((row.id for row in rows), default=0),
            **self._past(request),
        }

    # --- what is read -----------------------------------------------------------

    def _newest_row(self) -> int:
        with self.workspace.session() as session:
            return session.scalar(select(func.max(Annotation.id))) or 0

    def _queue(self, reader: Asker, blind: bool) -> list[dict[str, Any]]:
        return [
            {
                "sample": task.sample_id,
                "occasion": task.occasion.value,
                "round": task.round_id,
                "why": "" if blind else task.why,
            }
            for task in labelling.tasks(self.workspace, reader.dataset, reader.annotator)
        ]

    def _with_images(self, reader: Asker, tasks: Sequence[dict[str, Any]], blind: bool) -> list[dict[str, Any]]:
        """Tasks whose image is in the data set, with its thumbnail, and unless blind its name and the suggestions."""
        found: dict[int, Any] = {}
        with self.workspace.session() as session:
            for some in portions([task["sample"] for task in tasks]):
                query = select(Sample.id, Sample.sha256, Sample.name)
                rows = session.execute(query.where(Sample.id.in_(some), Sample.dataset_id == reader.dataset))
                found |= {row.id: row for row in rows}
        suggested = {} if blind else self._suggested(reader.dataset, list(found))
        complete = []
        for task in tasks:
            sample = found.get(task["sample"])
            if sample is None:
                continue
            # The folders of a name may be classes: the reader is helped, not told.
            aids = {} if blind else {"name": sample.name.rpartition("/")[2], **suggested.get(sample.id, {})}
            complete.append({**task, "thumbnail": f"{sample.sha256[:2]}/{sample.sha256}.jpg", **aids})
        return complete

    def _standing(
        self, reader: Asker, samples: Sequence[int], occasion: Occasion = Occasion.READING
    ) -> dict[str, dict[str, Any]]:
        """What this reader says of each image now; in an adjudication the last word that was given there."""
        if not samples:
            return {}
        if occasion is not Occasion.ADJUDICATION:
            found = labelling.standing(self.workspace, reader.dataset, reader.annotator, samples)
            return {str(sample): told(verdict) for sample, verdict in found.items()}
        with self.workspace.session() as session:
            rows = still_standing(log(session, reader.dataset, reader.annotator, samples))
        return {str(row.sample_id): told(row) for row in rows if row.occasion is occasion}

    def _said_by_others(self, reader: Asker, samples: Sequence[int]) -> dict[str, str]:
        """Image -> what each other reader says of it, in words."""
        names = {each.id: each.name for each in classes(self.workspace, reader.dataset)}
        with self.workspace.session() as session:
            rows = [row for row in still_standing(log(session, reader.dataset, sample_ids=samples)) if is_read(row)]
        newest = {(row.sample_id, row.annotator): row for row in rows if row.annotator != reader.annotator}
        found: dict[str, list[str]] = {}
        for (sample, name), row in newest.items():
            found.setdefault(str(sample), []).append(f"{name}: {said(row.verdict, row.class_id, names)}")
        return {sample: "; ".join(parts) for sample, parts in found.items()}

    def _others(self, reader: Asker, sample: int, others: Sequence[str], blind: bool) -> str:
        """After a verdict: whether somebody else has read the image, and unless blind with which result."""
        if not others:
            return ""
        if blind:
            return "Another reader has read it, too."
        return f"Also read by {self._said_by_others(reader, [sample]).get(str(sample), '')}."

    def _whys(self, entries: Iterable[labelling.Entry]) -> dict[tuple[int | None, int], str]:
        """(round, image) -> why the round picked the image."""
        rounds = {entry.round_id for entry in entries} - {None}
        with self.workspace.session() as session:
            found = session.execute(
                select(SelectionRound.id, SelectionRound.picks).where(SelectionRound.id.in_(rounds))
            ).all()
        return {(number, pick["sample"]): pick.get("why", "") for number, picks in found for pick in picks}

    def _suggested(self, dataset_id: int, samples: Sequence[int]) -> dict[int, dict[str, Any]]:
        """Image -> the model's first three classes as (class id, probability) with the run that learned them, and what
        files suggest as (class id, probability or None, whose suggestion)."""
        newest = select(SelectionRound.run_id).where(SelectionRound.dataset_id == dataset_id)
        with self.workspace.session() as session:
            run = session.scalar(newest.order_by(SelectionRound.number.desc()).limit(1)) or ""
        found = labelling.suggestions(self.workspace, dataset_id, samples, SUGGESTED)
        aids: dict[int, dict[str, Any]] = {
            sample: {"top": [(number, round(share, 4)) for number, share in top], "model": run}
            for sample, top in found.items()
        }
        for sample, of_files in imported_suggestions(self.workspace, dataset_id, samples).items():
            offered = [(each.class_id, each.probability, each.source) for each in of_files]
            aids.setdefault(sample, {"top": [], "model": ""})["offered"] = offered
        return aids

    def _past(self, reader: Asker) -> dict[str, Any]:
        """The reader's newest verdicts that stand; how many can be taken back and put back, and which come first."""
        with self.workspace.session() as session:
            done, undone = piles(log(session, reader.dataset, reader.annotator.strip()))
            newest = done[: -PAST - 1 : -1]
            query = select(Sample.id, Sample.sha256).where(Sample.id.in_({row.sample_id for row in newest}))
            images = dict(session.execute(query).tuples().all())
        past = [
            {**told(row), "sample": row.sample_id, "thumbnail": f"{sha[:2]}/{sha}.jpg"}
            for row in newest
            if (sha := images.get(row.sample_id))
        ]
        nexts = {"undo_next": done[-1].id if done else None, "redo_next": undone[-1].id if undone else None}
        return {"past": past, "undoable": len(done), "redoable": len(undone), **nexts}

    def _of_one_step(self, request: Turn, row: int) -> list[int]:
        """The rows that were given with the same key press as `row`, which has just been moved; the next one first."""
        with self.workspace.session() as session:
            press = press_of(session.scalar(select(Annotation.event).where(Annotation.id == row)))
            if not press:
                return []
            alike = set(
                session.scalars(select(Annotation.id).where(Annotation.event.startswith(f"{press}-", autoescape=True)))
            )
            done, undone = piles(log(session, request.dataset, request.annotator.strip()))
        return [each.id for each in reversed(done if request.what == "undo" else undone) if each.id in alike]
