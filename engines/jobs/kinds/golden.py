"""Golden noise: collecting pairs, training an NPNet, judging, packing. Each goes on where it was stopped."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field

from engines.diffusion.golden.settings import JudgeSettings, NetworkSettings
from engines.diffusion.golden.study import Study, StudyRequest, find
from engines.jobs import JobContext, job_kind

if TYPE_CHECKING:
    from engines.diffusion.golden.perform import Watch


class GoldenPayload(BaseModel):
    study: str
    """Its id; what to collect stands in the study itself."""


class GoldenTrainPayload(GoldenPayload):
    settings: NetworkSettings = NetworkSettings()


class GoldenJudgePayload(GoldenPayload):
    prompts: str = ""
    """One a line; those that the network did not learn from where there are none."""
    scorers: list[str] = []
    settings: JudgeSettings = JudgeSettings()


class GoldenUsePayload(BaseModel):
    network: str
    """File of an NPNet: our own, or a released one."""
    request: StudyRequest
    folder: str
    """Where images are written."""


class GoldenExportPayload(GoldenPayload):
    parts: list[str] = Field(["images", "pairs", "network"], min_length=1)


@job_kind("golden-collect", title=lambda payload: "Collect pairs of noise")
def run_collect(job: JobContext, payload: GoldenPayload) -> dict[str, Any]:
    from engines.diffusion.golden.perform import collect_pairs

    study = _study(job, payload)
    collect_pairs(study, _watch(job))
    won = study.won()
    return {"study": study.id, "pairs": len(study.shown()), "verdict": won.verdict() if won else ""}


@job_kind("golden-train", title=lambda payload: "Train an NPNet")
def run_train(job: JobContext, payload: GoldenTrainPayload) -> dict[str, Any]:
    from engines.diffusion.golden.perform import train_network

    curve = train_network(_study(job, payload), payload.settings, _watch(job))
    best = curve.best or 0
    return {
        "passes": len(curve.held_out),
        "best": best + 1,
        "error": curve.held_out[best],
        "unchanged": curve.unchanged,
    }


@job_kind("golden-judge", title=lambda payload: "Judge golden noise")
def run_judge(job: JobContext, payload: GoldenJudgePayload) -> dict[str, Any]:
    from engines.diffusion.golden.perform import judge_noise

    judgement = judge_noise(_study(job, payload), payload.settings, payload.prompts, payload.scorers, _watch(job))
    return {"judgement": judgement.folder.name, "judged": len(judgement.rows())}


@job_kind("golden-use", lane="waited-for", title=lambda payload: "Make images from golden noise")
def run_use(job: JobContext, payload: GoldenUsePayload) -> dict[str, Any]:
    from engines.diffusion.golden.perform import use_network

    made = use_network(payload.request, Path(payload.network), Path(payload.folder), _watch(job))
    return {"folder": payload.folder, "images": made}


@job_kind("golden-export", lane="waited-for", title=lambda payload: "Pack golden noise")
def run_export(job: JobContext, payload: GoldenExportPayload) -> dict[str, Any]:
    from engines.diffusion.golden.export import export_study

    file = export_study(
        _study(job, payload), job.workspace.folder("exports"), payload.parts, job.progress, job.check_cancelled
    )
    return {"path": file.relative_to(job.workspace.path).as_posix()}


def _study(job: JobContext, payload: GoldenPayload) -> Study:
    return find(job.workspace, payload.study)


def _watch(job: JobContext) -> Watch:
    from engines.diffusion.golden.perform import Watch

    return Watch(job.progress, job.check_cancelled, job.log)
