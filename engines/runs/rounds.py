"""One round of labelling with the machine: learn from the labels, look at the pool, pick what to read next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sqlalchemy import select, update
from torch.nn.functional import normalize

from engines.active import Pick, pick
from engines.backbones import load_backbone
from engines.errors import DataError
from engines.labelling import (
    LabelSettings,
    PoolAnswers,
    assign,
    label_settings,
    newest_answers,
    save_pool_answers,
    unlabelled,
    wilson,
)
from engines.prompts import create_method, load_prompt
from engines.prompts.base import PromptMethod
from engines.prompts.catalog import method_entry
from engines.prompts.settings import TrainingConfig
from engines.prompts.trainer import probabilities
from engines.runs.material import Item, split_items
from engines.runs.perform import Observer, perform
from engines.runs.request import TrainRequest, plan_runs
from engines.runs.views import Features, pixel_batches
from engines.store import Job, LabelClass, Run, SelectionRound, Workspace, now

# Images as they are: a crop may cut away what a reader looked at, and nothing has to be prepared between two rounds.
TRAINING = {"augmentation": "none", "views": 1}
MOST_EPOCHS = 50
"""CoOp's own number for one labelled image per class; with more a reader waits longer than the round is worth."""
Answers = NDArray[np.float32]


def run_round(
    workspace: Workspace, dataset_id: int, observer: Observer, token: str = "", measure_only: bool = False
) -> SelectionRound:
    """Carry out a round and write it, with `budget` picks, or none with `measure_only`.

    A prompt is learned from all labels so far, anew or from the last round's (Bang et al., CVPR 2024, section 3); as
    long as fewer than two classes are labelled the ready-made prompt takes its place. Images that anybody has decided,
    or that an earlier round still waits for, are not picked.

    Args:
        token: 12 characters that name this round's work: a second try goes on with what the first one left.

    Raises:
        DataError: there is no such data set, it has fewer than two classes, or no image is left to pick.
    """
    return _Round(workspace, dataset_id, observer, token).carry_out(measure_only)


@dataclass
class _Model:
    """What was learned, and how it is asked."""

    method: PromptMethod
    run: Run | None
    """None for the ready-made prompt."""
    notes: list[str]


class _Round:
    def __init__(self, workspace: Workspace, dataset_id: int, observer: Observer, token: str) -> None:
        self.workspace, self.dataset_id, self.observer, self.token = workspace, dataset_id, observer, token
        self.settings: LabelSettings = label_settings(workspace, dataset_id)
        self.items = split_items(workspace, dataset_id)
        with workspace.session() as session:
            ordered = select(LabelClass).where(LabelClass.dataset_id == dataset_id).order_by(LabelClass.position)
            classes = session.scalars(ordered).all()
            before = select(SelectionRound).where(SelectionRound.dataset_id == dataset_id)
            self.rounds = list(session.scalars(before.order_by(SelectionRound.number)))
            self.open = set(unlabelled(session, dataset_id))
        self.number = self.rounds[-1].number + 1 if self.rounds else 1
        self.class_ids, self.names = [c.id for c in classes], [c.name for c in classes]
        if len(self.names) < 2:
            raise DataError("To tell images apart takes at least two classes.", "Name them first, one per line.")

    def carry_out(self, measure_only: bool) -> SelectionRound:
        if done := self._done_before():
            return done
        pool = [item for split in ("train", "pool") for item in self.items.get(split, [])]
        asked = {each["sample"] for record in self.rounds for each in record.picks}
        waiting = self.open - asked
        free = [item for item in pool if item.sample_id in waiting]
        labelled = [item for item in pool if item.label >= 0]
        if not free and not measure_only:
            if not pool:
                raise DataError("There are no images to label.", "Import images without labels, or practise on a copy.")
            measure_only = True  # everything is read: what is left to know is what the last labels were worth
        self.observer.progress(0.02, "Loading the model")
        self.backbone = load_backbone(self.settings.backbone)
        features = Features(self.workspace, self.backbone, self.dataset_id)
        self.observer.progress(0.04, "Looking at the images")
        seen = features.get(pool, self._share(0.04, 0.4, "Looking at the images"), self.observer.check_cancelled)
        model = self._learn(labelled)
        place = {item.sample_id: row for row, item in enumerate(pool)}
        answers = self._ask(model.method, seen, pool, 0.8)
        rest = [place[item.sample_id] for item in pool if item.label < 0]
        record = SelectionRound(
            dataset_id=self.dataset_id,
            number=self.number,
            strategy=self.settings.strategy,
            budget=0 if measure_only else min(self.settings.budget, len(free)),
            seed=self.settings.seed,
            run_id=model.run.id if model.run else None,
            settings=self.settings.model_dump() | {"token": self.token},
            summary=self._summary(model, labelled),
        )
        samples = np.array([pool[row].sample_id for row in rest], np.int64)
        here = PoolAnswers(samples, answers[rest], np.array(self.class_ids, np.int64))
        record.summary |= {"change": self._change(here), "pool_left": len(free) - record.budget}
        if record.budget:
            self.observer.progress(0.9, "Picking the images")
            rows = [place[item.sample_id] for item in free]
            known = [place[item.sample_id] for item in labelled]
            record.picks = self._picks(seen, answers, pool, rows, known, record.budget)
        return self._write(record, here)

    # --- the model ------------------------------------------------------------

    def _learn(self, labelled: list[Item]) -> _Model:
        """The prompt that the labels give; the ready-made one while they show fewer than two classes."""
        found = sorted({item.label for item in labelled})
        if len(found) < 2:
            return _Model(create_method("zero-shot", self.backbone, self.names), None, [])
        run = self._run(shots=max(1, len(labelled) // len(found)))
        share = Observer(
            lambda fraction, message: self.observer.progress(0.4 + 0.4 * fraction, message),
            self.observer.check_cancelled,
            self.observer.metric,
            self.observer.log,
        )
        if run.state != "done":
            summary = perform(self.workspace, run, share)
            with self.workspace.session() as session:
                done = session.get_one(Run, run.id)
                done.summary, done.state, done.finished_at = summary, "done", now()
                run = done
        folder = self.workspace.run_folder(run.id) / "prompt"
        return _Model(load_prompt(folder, self.backbone), run, list(run.summary.get("notes", [])))

    def _run(self, shots: int) -> Run:
        """The run of this round: the one that an earlier try began, or a new one."""
        with self.workspace.session() as session:
            known = session.get(Run, self.token) if self.token else None
            if known is not None:
                return known
        entry = method_entry(self.settings.method)
        epochs = min(TrainingConfig(**entry.training_for("few-shot", shots)).epochs, MOST_EPOCHS)
        request = TrainRequest(
            dataset_id=self.dataset_id,
            backbone=self.settings.backbone,
            method=self.settings.method,
            shots=0,
            seeds=[self.settings.seed],
            training=TRAINING | {"epochs": epochs} if entry.trains else {},
        )
        run = plan_runs(self.workspace, request)[0]
        run.name = f"{entry.title}, labelling round {self.number}"
        # Labels grow from round to round: these runs are no repetitions of each other.
        run.experiment = self.token or f"round-{self.number:05d}"
        if self.token:
            run.id = self.token
        trained = [each.run_id for each in self.rounds if each.run_id]
        if self.settings.start == "warm" and trained:
            run.config = run.config | {"start_from": trained[-1]}
        run.state = "running"
        with self.workspace.session() as session:
            session.add(run)
            session.flush()
            session.execute(update(Job).where(Job.id == self.token).values(run_id=run.id))
        return run

    def _ask(self, method: PromptMethod, features: torch.Tensor, items: list[Item], start: float) -> Answers:
        """Probabilities [N, C] of the classes for `items`."""
        if method.frozen_images:
            return probabilities(method, features)
        share = self._share(start, start + 0.1, "Asking about the images")

        def tell(done: int) -> None:
            self.observer.check_cancelled()
            share(done / max(len(items), 1), "")

        return probabilities(method, pixels=pixel_batches(self.workspace, method.prepare, items), on_batch=tell)

    # --- what came of it ------------------------------------------------------

    def _summary(self, model: _Model, labelled: list[Item]) -> dict[str, Any]:
        """What the model is worth on labelled images that are set aside for testing, where there are any."""
        test = [item for item in self.items.get("test", []) if item.label >= 0]
        summary: dict[str, Any] = {"labelled": len(labelled), "images_tested": len(test), "notes": model.notes}
        if not test:
            return summary | {"accuracy": None, "accuracy_interval": None, "zero_shot": None}
        features = Features(self.workspace, self.backbone, self.dataset_id)
        seen = features.get(test, self._share(0.8, 0.84, "Looking at the test images"), self.observer.check_cancelled)
        true = np.array([item.label for item in test])
        ready_made = create_method("zero-shot", self.backbone, self.names)
        right = int((self._ask(model.method, seen, test, 0.84).argmax(1) == true).sum())
        before = int((probabilities(ready_made, seen).argmax(1) == true).sum())
        return summary | {
            "accuracy": right / len(test),
            "accuracy_interval": list(wilson(right, len(test)) or ()),
            "zero_shot": before / len(test),
        }

    def _change(self, here: PoolAnswers) -> float | None:
        """Share of the pool's images whose first answer is another one than a round ago."""
        there = newest_answers(self.workspace, self.dataset_id)
        if there is None or not len(here.samples):
            return None
        shared, now_row, then_row = np.intersect1d(here.samples, there.samples, return_indices=True)
        if not len(shared):
            return None
        first_now = here.classes[here.probabilities[now_row].argmax(1)]
        first_then = there.classes[there.probabilities[then_row].argmax(1)]
        return float((first_now != first_then).mean())

    def _picks(
        self,
        features: torch.Tensor,
        answers: Answers,
        pool: list[Item],
        rows: list[int],
        known: list[int],
        budget: int,
    ) -> list[dict[str, Any]]:
        with torch.no_grad():
            words = create_method("zero-shot", self.backbone, self.names).text_features()
        chosen: list[Pick] = pick(
            self.settings.strategy,
            normalize(features, dim=-1).numpy(),
            answers,
            known,
            budget,
            self.settings.seed + self.number,
            labels=[pool[row].label for row in known],
            balanced=self.settings.balanced,
            rule=self.settings.rule,
            class_features=normalize(words, dim=-1).cpu().numpy(),
            pool=rows,
            check_cancelled=self.observer.check_cancelled,
        )
        picks = [
            {
                "sample": pool[each.index].sample_id,
                "why": each.reason.sentence(self.names),
                "predicted": self.class_ids[each.predicted] if each.predicted >= 0 else None,
                "score": each.score,
            }
            for each in chosen
        ]
        return assign(picks, self.settings, self.settings.seed + self.number)

    def _write(self, record: SelectionRound, here: PoolAnswers) -> SelectionRound:
        with self.workspace.session() as session:
            session.add(record)
            session.flush()
            save_pool_answers(self.workspace, self.dataset_id, record.id, here)
        self.observer.progress(1.0, f"{len(record.picks)} images picked")
        return record

    def _done_before(self) -> SelectionRound | None:
        if not self.token:
            return None
        return next((each for each in self.rounds if each.settings.get("token") == self.token), None)

    def _share(self, start: float, end: float, message: str) -> Any:
        return lambda fraction, detail: self.observer.progress(
            start + (end - start) * fraction, f"{message}, {detail}" if detail else message
        )
