"""Workspaces: SQLAlchemy models, migrations and folders."""

from engines.store.models import (
    Annotation,
    Artifact,
    Base,
    Dataset,
    Job,
    JobState,
    LabelClass,
    Metric,
    Occasion,
    Run,
    Sample,
    SelectionRound,
    Split,
    Verdict,
    new_id,
    now,
)
from engines.store.workspace import Workspace

__all__ = [
    "Annotation",
    "Artifact",
    "Base",
    "Dataset",
    "Job",
    "JobState",
    "LabelClass",
    "Metric",
    "Occasion",
    "Run",
    "Sample",
    "SelectionRound",
    "Split",
    "Verdict",
    "Workspace",
    "new_id",
    "now",
]
