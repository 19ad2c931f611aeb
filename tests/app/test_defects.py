"""The section on defects with made-up results: what is said, in which order images come, what the viewer is given."""

from __future__ import annotations

import json
from base64 import b64decode
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from app.components import defects
from engines.store import Dataset, LabelClass, Run, Sample, Workspace
from engines.store.defects import findings, groups
from tests.app.made_up import make_workspace

MEASURED = {"image_auroc": 0.934, "image_ap": 0.91, "pixel_auroc": 0.955, "pixel_ap": None, "pro": 0.87}
GUESSED = dict.fromkeys(MEASURED, 0.5)


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    return Workspace.open(tmp_path / "clinic")


@pytest.fixture
def run(ws: Workspace) -> Run:
    """30 images of two data sets; the score of each is its number; those with an even one are damaged and marked."""
    folder = ws.path / "pictures"
    folder.mkdir()
    with ws.session() as session:
        dataset = Dataset(name="screws", reader="defects")
        dataset.classes = [LabelClass(position=n, name=name) for n, name in enumerate(["normal", "anomalous"])]
        session.add(dataset)
        session.flush()
        Image.new("RGB", (40, 20), (90, 120, 130)).save(folder / "a.png")
        Image.new("L", (40, 20), 1).save(folder / "mask.png")  # whatever is not black is marked
        for place in range(30):
            mask = "pictures/mask.png" if place % 2 == 0 else ""
            kept = {"class_id": dataset.classes[1 - place % 2].id, "split": "test", "mask": mask}
            named = {"name": f"<b>{place}</b>.png", "file": "pictures/a.png", "sha256": f"{place:064x}"}
            session.add(Sample(dataset_id=dataset.id, position=place, width=40, height=20, **kept, **named))
        row = Run(
            name="AnomalyCLIP on screws",
            dataset_id=dataset.id,
            backbone="mini-clip",
            method="anomalyclip",
            protocol="zero-shot-anomaly",
            state="done",
            summary=MEASURED | {"zero_shot": GUESSED, "targets": {"screws": MEASURED, "nuts": GUESSED}},
        )
        session.add(row)
    leave(ws, row)
    return row


def leave(ws: Workspace, run: Run) -> None:
    with ws.session() as session:
        ids = [sample.id for sample in session.query(Sample).order_by(Sample.position)]
    folder = ws.run_folder(run.id)
    (folder / "defects").mkdir()
    rows: list[dict[str, Any]] = []
    for place, sample in enumerate(ids):
        Image.fromarray(np.full((8, 8), 8 * place, np.uint8)).save(folder / "defects" / f"{sample}.png")
        rows.append(
            {
                "sample_id": sample,
                "target": "screws" if place < 20 else "nuts",
                "domain": "m4" if place % 2 else "m5",
                "score": place / 30,
                "ready_made": 0.25,
                "anomalous": place % 2 == 0,
                "map": f"defects/{sample}.png" if place else "",
            }
        )
    (folder / "defects.json").write_text(json.dumps(rows))


def test_images_come_by_their_score_a_page_at_a_time(ws: Workspace, run: Run) -> None:
    page = findings(ws, run.id, limit=24)
    assert (len(page.findings), page.total) == (24, 30)
    scores = [found.score for found in page.findings]
    assert scores == sorted(scores, reverse=True)
    assert [f.score for f in findings(ws, run.id, first=10**6, limit=24).findings] == [n / 30 for n in range(5, -1, -1)]
    assert groups(ws, run.id) == ["screws", "nuts"]
    assert findings(ws, run.id, "nuts").total == 10
    assert findings(ws, run.id, "gone").findings == []
    assert findings(ws, "../../etc").total == 0


def test_every_measure_is_told_beside_the_ready_made_one(run: Run) -> None:
    said = defects.headline(run)
    assert "the damaged one got the higher score in 93.4% of all pairs; with the ready-made sentences in 50.0%" in said
    assert "image AUROC" in said
    assert said.count("<tr>") == 5  # head, two data sets, mean, ready-made
    assert "–" in said
    assert "could not be measured" not in said


def test_what_could_not_be_measured_is_said(run: Run) -> None:
    run.summary = dict.fromkeys(MEASURED) | {"zero_shot": dict.fromkeys(MEASURED)}
    said = defects.headline(run)
    assert "only one kind was tested" in said
    assert "so the maps could not be measured" in said


def test_the_surest_image_is_on_show_first(ws: Workspace, run: Run) -> None:
    tab, _, chooser, listed, shown = defects.shown(ws, run)
    assert tab["visible"]
    assert [name for name, _ in chooser["choices"]] == ["all", "screws", "nuts"]
    given = json.loads(shown)
    assert given["said"] == "Score 0.97 of 1"
    assert "By its label it is sound" in given["why"]
    assert given["mask"] == ""
    assert all(given[part].startswith("data:image/png") for part in ("image", "map"))
    assert "&lt;b&gt;29&lt;/b&gt;" in listed
    assert 'aria-pressed="true"' in listed
    assert "<b>29</b>" not in listed.replace("<b>0.97</b>", "")
    narrowed = json.loads(defects.narrowed(ws, run, "screws")[1])
    assert narrowed["said"] == "Score 0.63 of 1"


def test_presses_turn_the_page_or_show_an_image(ws: Workspace, run: Run) -> None:
    listed, _ = defects.answer(ws, run, "", "page", "24")
    assert "25–30 of 30" in listed
    sample = findings(ws, run.id, first=24, limit=24).findings[-2].sample
    given = json.loads(defects.answer(ws, run, "", "select", str(sample.id))[1])
    assert given["said"] == "Score 0.03 of 1"
    lowest = findings(ws, run.id, first=24, limit=24).findings[-1].sample
    without = json.loads(defects.answer(ws, run, "", "select", str(lowest.id))[1])
    assert "There is no map of it" in without["why"]
    with Image.open(BytesIO(b64decode(without["mask"].partition(",")[2]))) as marked:
        assert marked.getextrema() == ((255, 255),) * 3
    for made_up in ("-1", "NaN", "", "99999999"):
        assert defects.answer(ws, run, "", "select", made_up)[1] == ""


def test_an_image_that_is_gone_is_told(ws: Workspace, run: Run) -> None:
    (ws.path / "pictures" / "a.png").unlink()
    given = json.loads(defects.shown(ws, run)[4])
    assert given["image"] == ""
    assert "can no longer be read" in given["why"]


def test_other_results_have_no_such_section(tmp_path: Path, ws: Workspace) -> None:
    other = make_workspace(tmp_path / "other")
    assert defects.shown(other, None)[0]["visible"] is False
    assert defects.shown(ws, Run(summary={"accuracy": 1.0}))[0]["visible"] is False
