"""Answers for images: a few at once in the interactive lane, a folder as a job."""

from __future__ import annotations

import csv
from typing import Any

from pydantic import BaseModel, Field

from engines.data.names import spreadsheet_safe
from engines.jobs import JobContext, job_kind


class PredictPayload(BaseModel):
    run_id: str
    images: list[str] = Field(min_length=1, max_length=64)
    """Paths of image files."""


@job_kind("predict", lane="interactive", title=lambda payload: "Look at an image")
def run(job: JobContext, payload: PredictPayload) -> dict[str, Any]:
    from engines.runs.predict import predict, prompt_folder

    return {"answers": predict(prompt_folder(job.workspace, payload.run_id), payload.images)}


class PredictFolderPayload(BaseModel):
    run_id: str
    folder: str


@job_kind("predict-folder", lane="long", title=lambda payload: "Look at a folder of images")
def run_folder(job: JobContext, payload: PredictFolderPayload) -> dict[str, Any]:
    from engines.runs.predict import images_below, predict, prompt_folder

    images = images_below(payload.folder)

    def on_batch(done: int) -> None:
        job.check_cancelled()
        job.progress(done / len(images), f"{done:,} of {len(images):,} images")

    answers = predict(prompt_folder(job.workspace, payload.run_id), images, on_batch=on_batch)
    table = job.workspace.folder("exports") / f"predictions-{job.id}.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "class", "probability", "ready_made_class", "ready_made_probability", "error"])
        for answer in answers:
            first = [answer.get(key, [{"class": "", "probability": ""}])[0] for key in ("learned", "ready_made")]
            cells = [cell for best in first for cell in (best["class"], best["probability"])]
            writer.writerow(
                [
                    spreadsheet_safe(cell) if isinstance(cell, str) else cell
                    for cell in [answer["file"], *cells, answer.get("error", "")]
                ]
            )
    return {"answers": answers, "table": str(table.relative_to(job.workspace.path))}
