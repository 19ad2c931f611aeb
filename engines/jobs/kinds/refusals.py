"""Which methods a backbone cannot carry, and why: what the list of methods greys out."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from engines.jobs import JobContext, job_kind


class RefusalsPayload(BaseModel):
    backbone: str


@job_kind("refusals", lane="interactive", title=lambda payload: f"Look at the model {payload.backbone}")
def run(job: JobContext, payload: RefusalsPayload) -> dict[str, Any]:
    from engines.backbones import load_backbone
    from engines.prompts import available_methods, method_class

    backbone = load_backbone(payload.backbone)
    reasons = {name: method_class(name).refuse(backbone) for name in available_methods()}
    return {"reasons": {name: reason for name, reason in reasons.items() if reason}}
