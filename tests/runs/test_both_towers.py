"""Runs of methods that change the image tower: images are looked at anew in every step, and twice by CoPrompt."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from engines.backbones import load_backbone
from engines.errors import Cancelled
from engines.prompts import load_prompt
from engines.prompts.coprompt import CoPrompt
from engines.runs.estimate import check
from engines.runs.perform import Observer, perform
from engines.runs.predict import predict, prompt_folder
from engines.runs.request import TrainRequest, create_runs
from engines.store import Dataset, Run, Workspace
from tests.runs.conftest import COLOURS, draw

SHORT = {"epochs": 2, "batch_size": 8}


def begin(ws: Workspace, dataset_id: int, method: str, **values: object) -> Run:
    request = TrainRequest(
        dataset_id=dataset_id, method=method, **({"shots": 4, "seeds": [1], "training": SHORT} | values)
    )
    return create_runs(ws, request)[0]


def finish(ws: Workspace, run: Run) -> Run:
    summary = perform(ws, run, Observer())
    with ws.session() as session:
        done = session.get_one(Run, run.id)
        done.summary, done.state = summary, "done"
    return done


@pytest.mark.parametrize("method", ["vpt", "maple"])
def test_few_shot(ws: Workspace, dataset_id: int, method: str, tmp_path: Path) -> None:
    run = finish(ws, begin(ws, dataset_id, method))
    assert run.summary["images_trained"] == 16
    assert sum(map(sum, run.summary["confusion"])) == 24
    picture = tmp_path / "new.png"
    draw(COLOURS["red thing"], 5).save(picture)
    (answer,) = predict(prompt_folder(ws, run.id), [picture], top=4)
    assert sum(each["probability"] for each in answer["learned"]) == pytest.approx(1, abs=1e-4)


def test_coprompt_holds_to_what_people_wrote(ws: Workspace, dataset_id: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with ws.session() as session:
        blue = next(c for c in session.get_one(Dataset, dataset_id).classes if c.name == "blue thing")
        blue.descriptions = ["A disc as blue as the sea.", "A round blue thing."]
    held, plain = [], CoPrompt.loss

    def seen(self: CoPrompt, pixels: torch.Tensor, labels: torch.Tensor, **kwargs: torch.Tensor) -> torch.Tensor:
        held.append((self.descriptions, pixels.shape[0], torch.equal(pixels[0], pixels[1])))
        return plain(self, pixels, labels, **kwargs)

    monkeypatch.setattr(CoPrompt, "loss", seen)
    run = finish(ws, begin(ws, dataset_id, "coprompt", protocol="base-to-new"))
    assert held == [([["A disc as blue as the sea.", "A round blue thing."], []], 2, False)] * 2
    assert run.config["training"]["augmentation"] == "randaugment"
    assert 0 <= run.summary["harmonic_mean"] <= 1


def test_an_interrupted_promptsrc_ends_as_an_undisturbed_one(ws: Workspace, dataset_id: int) -> None:
    backbone = load_backbone("mini-clip")
    undisturbed = finish(ws, begin(ws, dataset_id, "promptsrc"))
    run = begin(ws, dataset_id, "promptsrc")

    def stop() -> None:
        if (ws.run_folder(run.id) / "checkpoint.pt").exists():
            raise Cancelled

    with pytest.raises(Cancelled):
        perform(ws, run, Observer(check_cancelled=stop))
    resumed = finish(ws, run)
    first, second = (load_prompt(ws.run_folder(r.id) / "prompt", backbone) for r in (undisturbed, resumed))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_the_cost_is_told_beforehand(dataset_id: int) -> None:
    request = TrainRequest(dataset_id=dataset_id, method="promptsrc", shots=4, seeds=[1])
    told = check(request, sorted(COLOURS), 24)
    assert told["ok"]
    assert told["seconds"] > 0
    assert told["note"] == "50 passes over the labelled images."
