"""One image shown to several prompts at once."""

from __future__ import annotations

import time
from typing import Any, Literal

from pydantic import BaseModel, Field

from engines.jobs import JobContext, job_kind


class TryItPayload(BaseModel):
    run_ids: list[str] = Field(min_length=1, max_length=12)
    file: str
    """Path of an image file."""
    class_name: str = ""
    """Class that the maps look for; the answer of each prompt where it is empty."""
    rule: Literal["relevance", "rollout"] = "relevance"


@job_kind("try_it", lane="interactive", title=lambda payload: "Show an image to several prompts")
def run(job: JobContext, payload: TryItPayload) -> dict[str, Any]:
    """`{"replies": [{"run", "top", "looked_for", "overlay", "reason"}], "seconds": of the worker}`."""
    from engines.inspection.try_it import ask, overlays

    started = time.monotonic()
    replies = ask(job.workspace, payload.run_ids, payload.file, payload.class_name, payload.rule)
    found = [
        {
            "run": each.run_id,
            "top": [{"class": name, "probability": share} for name, share in each.top],
            "looked_for": each.looked_for,
            "overlay": picture,
            "reason": each.reason,
        }
        for each, picture in zip(replies, overlays(replies), strict=True)
    ]
    return {"replies": found, "seconds": time.monotonic() - started}
