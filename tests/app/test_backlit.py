"""What the Backlit page says: names stay text, numbers stand side by side, curves and stages of a training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from app.components import backlit as views
from app.components.backlit_open import opened
from app.components.backlit_train import curve_of, rounds_of, told
from engines.enhance.choices import CLASSICAL
from engines.enhance.requests import LENGTHS
from engines.enhance.trainings import CURVE, Training, planned_steps, read_training, training_stamp, trainings
from engines.errors import DataError
from engines.store import Job, JobState, Workspace

HARMFUL = "<img src=x onerror=alert(1)>"


def view(method: str, title: str, dark: float, **more: Any) -> dict[str, Any]:
    numbers = {"luminance": 0.3, "contrast": 0.2, "dark": dark, "clipped": 0.01, "noise": 0.005, "order": 12.4}
    picture = f"/place of/{method or 'photo'}#1.png"
    found = {"method": method, "title": title, "picture": picture, "numbers": numbers | {"well_lit": 0.4}}
    return found | {"histogram": [0.25] * 4} | more


PHOTO = view("", "Photo", 0.5)
OWN = view("own", HARMFUL, 0.1, light="/place of/light.png", darkest=0.2, brightest=0.9)
FOUND = {"name": HARMFUL, "width": 4000, "height": 3000, "bits": 16, "notes": [HARMFUL], "views": [PHOTO, OWN]}


def test_names_stay_text() -> None:
    job = Job(kind="enhance-photos", state=JobState.DONE)
    results = [
        {"output": f"{HARMFUL}.png", "problem": "", "notes": []},
        {"output": "", "problem": HARMFUL, "notes": []},
    ]
    job.result = {"folder": f"/place/{HARMFUL}", "results": results}
    shown = [
        views.numbers(FOUND, PHOTO, OWN),
        views.contact(FOUND, "own"),
        views.pager([HARMFUL], 0),
        views.saved(job),
        views.about(CLASSICAL),
        views.layered(PHOTO, OWN),
        json.dumps(views.histograms(PHOTO, OWN)),
    ]
    assert all("<img src=x" not in each for each in shown[:5] + shown[6:])
    assert json.loads(shown[5])["right"]["title"] == HARMFUL  # the browser writes it as text
    assert json.loads(shown[5])["light"]["title"].endswith("light from 0.20 (black) to 0.90 (white)")
    assert "%231.png" in views.contact(FOUND, "own")


def test_numbers_stand_side_by_side() -> None:
    said = views.numbers(FOUND, PHOTO, OWN)
    assert "10.0% of the photo is dark (before: 50.0%)" in said
    assert said.count("<tr>") == 1 + 7
    assert "4,000 × 3,000 pixels of 16 bits a channel. Shown is a smaller copy" in said
    assert "smaller copy" not in views.numbers(FOUND | {"width": 90, "height": 90}, PHOTO, OWN)
    assert views.sentence(PHOTO, PHOTO) == "50.0% of the photo is dark and 1.0% blown out."
    assert views.saved(Job(kind="enhance-photos", state=JobState.FAILED)) == ""


def test_a_training_is_read_even_where_a_crash_cut_it_off(tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path / "clinic")
    assert trainings(workspace) == []
    folder = workspace.folder("media") / "enhancers" / "0123456789ab"
    folder.mkdir(parents=True)
    settings = LENGTHS["A quick trial"].model_dump()
    card = {"name": HARMFUL, "created": "2026", "backlit": "x", "kind": "clip-lit", "settings": settings}
    (folder / "request.json").write_text(json.dumps(card))
    before = training_stamp(workspace, "0123456789ab")
    points = [(1, None), (2, 0.9), (3, 0.8), (3, 0.7)]
    lines = [json.dumps({"total": t, "stage": "enhancement", "round": 1, "loss": 1, "p_backlit": p}) for t, p in points]
    (folder / CURVE).write_text("\n".join([*lines, '{"total": 4, "st']))
    (folder / "snapshot-0-0.png").write_bytes(b"")
    found = read_training(workspace, "0123456789ab")
    assert isinstance(found, Training)
    assert training_stamp(workspace, "0123456789ab") != before
    assert [(p["total"], p["p_backlit"]) for p in found.curve] == [(1, None), (2, 0.9), (3, 0.7)]
    figure = curve_of(found)
    assert figure is not None
    assert figure["data"][0]["y"] == [0.9, 0.7]
    block = told(None, found)
    assert 'aria-current="step">Brightening, round 1<' in block
    assert "probability of 0.90 at first, now of 0.70" in block
    assert "as they are" in rounds_of(found)
    assert not found.usable
    assert read_training(workspace, "nothing") is None
    workspace.close()


def test_planned_steps_count_every_stage() -> None:
    assert planned_steps(LENGTHS["As in the paper"]) == 8000 + 1000 + 5 * 2100 + 4 * 1000


@pytest.mark.parametrize("place", ["", "  ", "/nowhere at all"])
def test_nothing_to_open_is_told(place: str, tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path / "clinic")
    with pytest.raises(DataError):
        opened(workspace, None, place)
    with pytest.raises(DataError, match="no photo among these files"):
        opened(workspace, ["/x/a.txt", "/x/b.doc"])
    workspace.close()
