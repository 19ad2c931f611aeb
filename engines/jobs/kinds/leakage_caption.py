"""A caption for a picture, where a captioning model is on the disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel

from engines.diffusion.places import find_captioner
from engines.errors import BackboneError
from engines.jobs import JobContext, job_kind


class LeakageCaptionPayload(BaseModel):
    file: str
    """Path of an image file."""


@job_kind("leakage-caption", lane="interactive", title=lambda payload: "Describe a picture")
def run(job: JobContext, payload: LeakageCaptionPayload) -> dict[str, Any]:
    """`{"caption"}`."""
    folder = find_captioner()
    if folder is None:
        raise BackboneError("There is no captioning model on this computer.", "Type the caption.")
    from engines.diffusion.leakage.describing import describe

    return {"caption": describe(Path(payload.file), folder)}
