"""Answers for images: a few at once in the interactive lane, a folder as a job."""

from __future__ import annotations

import csv
from base64 import b64encode
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import BaseModel, Field

from engines.data.names import spreadsheet_safe
from engines.jobs import JobContext, job_kind


class PredictPayload(BaseModel):
    run_id: str
    images: list[str] = Field(min_length=1, max_length=64)
    """Paths of image files."""
    maps: bool = False
    """Whether to answer with maps of defects, too: each a PNG file as Base64 text."""


@job_kind("predict", lane="interactive", title=lambda payload: "Look at an image")
def run(job: JobContext, payload: PredictPayload) -> dict[str, Any]:
    from engines.runs.predict import predict, prompt_folder

    folder = prompt_folder(job.workspace, payload.run_id)
    if not payload.maps:
        return {"answers": predict(folder, payload.images)}
    with TemporaryDirectory(prefix="promptloupe-") as place:
        answers = predict(folder, payload.images, maps=Path(place))
        for answer in answers:
            if "map" in answer:
                answer["map"] = b64encode(Path(answer["map"]).read_bytes()).decode()
    return {"answers": answers}


class PredictFolderPayload(BaseModel):
    run_id: str
    folder: str
    maps: bool = False
    """Whether to write where an image is damaged; only prompts that find defects can tell."""


@job_kind("predict-folder", lane="long", title=lambda payload: "Look at a folder of images")
def run_folder(job: JobContext, payload: PredictFolderPayload) -> dict[str, Any]:
    from engines.runs.predict import images_below, predict, prompt_folder

    images = images_below(payload.folder)

    def on_batch(done: int) -> None:
        job.check_cancelled()
        job.progress(done / len(images), f"{done:,} of {len(images):,} images")

    exports = job.workspace.folder("exports")
    maps = exports / f"maps-{job.id}" if payload.maps else None
    answers = predict(prompt_folder(job.workspace, payload.run_id), images, on_batch=on_batch, maps=maps)
    scored = any("score" in answer for answer in answers)
    table = exports / f"predictions-{job.id}.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        scores = ["score", "ready_made_score", "map"] if scored else []
        heads = ["file", "class", "probability", "ready_made_class", "ready_made_probability", *scores, "error"]
        writer.writerow(heads)
        for answer in answers:
            first = [answer.get(key, [{"class": "", "probability": ""}])[0] for key in ("learned", "ready_made")]
            cells = [cell for best in first for cell in (best["class"], best["probability"])]
            cells += [answer.get(name, "") for name in scores]
            row = [answer["file"], *cells, answer.get("error", "")]
            writer.writerow([spreadsheet_safe(cell) if isinstance(cell, str) else cell for cell in row])
    written = {"maps": str(maps.relative_to(job.workspace.path))} if maps else {}
    return {"answers": answers, "table": str(table.relative_to(job.workspace.path))} | written
