"""Packs a learned prompt with its card."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from engines.jobs import JobContext, job_kind


class ExportPromptPayload(BaseModel):
    run_id: str


@job_kind("export-prompt", lane="interactive", title=lambda payload: "Export a learned prompt")
def run(job: JobContext, payload: ExportPromptPayload) -> dict[str, Any]:
    from engines.runs.export import export_prompt

    return {"path": str(export_prompt(job.workspace, payload.run_id).relative_to(job.workspace.path))}
