"""Looks at all images of a data set with one model, so that everything after it is quick."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from engines.jobs import JobContext, job_kind


class FeaturesPayload(BaseModel):
    dataset_id: int
    backbone: str = "mini-clip"


@job_kind("features", lane="long", title=lambda payload: f"Look at the images with {payload.backbone}")
def run(job: JobContext, payload: FeaturesPayload) -> dict[str, Any]:
    from engines.backbones import load_backbone
    from engines.runs.material import all_items
    from engines.runs.views import Features

    items = all_items(job.workspace, payload.dataset_id)
    features = Features(job.workspace, load_backbone(payload.backbone), payload.dataset_id)
    features.get(items, job.progress, job.check_cancelled)
    return {"images": len(items)}
