"""How damaged a prompt found every test image, and where, from what a run leaves behind. Torch-free."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from sqlalchemy import select

from engines.store.models import Sample
from engines.store.workspace import Workspace


@dataclass(frozen=True)
class Finding:
    """What a prompt said of one test image. Scores are from 0 (surely sound) to 1 (surely damaged)."""

    sample: Sample
    score: float
    ready_made: float
    """The ready-made sentences' score."""
    anomalous: bool
    """Whether it is damaged, by its label."""
    map: Path | None
    """Greyscale picture of how damaged each place is, 255 for surely; stretched to a square."""


@dataclass(frozen=True)
class FindingsPage:
    findings: list[Finding]
    total: int
    first: int
    """Place of the first finding among all that fit, counted from 0."""


def groups(workspace: Workspace, run_id: str) -> list[str]:
    """What the images on show can be narrowed to: data sets, or where there is one alone the things in it."""
    rows = _rows(workspace, run_id)
    key = _group_key(rows)
    return list(dict.fromkeys(row[key] for row in rows if row[key]))


def findings(workspace: Workspace, run_id: str, group: str = "", first: int = 0, limit: int = 24) -> FindingsPage:
    """A page of the test images of a run, the most damaged first; of one of its `groups` where it is named.

    A place beyond the end gives the last page. Images that are no longer in the workspace are left out.
    """
    rows = _sorted(workspace, run_id, group)
    first = max(0, min(first, (len(rows) - 1) // limit * limit)) if rows else 0
    page = rows[first : first + limit]
    with workspace.session() as session:
        wanted = select(Sample).where(Sample.id.in_([row["sample_id"] for row in page]))
        samples = {sample.id: sample for sample in session.scalars(wanted)}
    found = [_finding(workspace, run_id, row, samples[row["sample_id"]]) for row in page if row["sample_id"] in samples]
    return FindingsPage(found, len(rows), first)


def place_of(workspace: Workspace, run_id: str, sample_id: int, group: str = "") -> int:
    """Place of an image among the `findings`; 0 where it is none of them."""
    ids = [row["sample_id"] for row in _sorted(workspace, run_id, group)]
    return ids.index(sample_id) if sample_id in ids else 0


def _sorted(workspace: Workspace, run_id: str, group: str) -> list[dict[str, Any]]:
    rows = _rows(workspace, run_id)
    key = _group_key(rows)
    return sorted((row for row in rows if not group or row[key] == group), key=lambda row: -float(row["score"]))


def _group_key(rows: list[dict[str, Any]]) -> str:
    return "target" if len({row["target"] for row in rows}) > 1 else "domain"


def finding(workspace: Workspace, run_id: str, sample_id: int) -> Finding | None:
    """What a run said of one image."""
    row = next((row for row in _rows(workspace, run_id) if row["sample_id"] == sample_id), None)
    with workspace.session() as session:
        sample = session.get(Sample, sample_id)
    return _finding(workspace, run_id, row, sample) if row and sample else None


def _finding(workspace: Workspace, run_id: str, row: dict[str, Any], sample: Sample) -> Finding:
    place = workspace.path / "runs" / run_id / row["map"] if row["map"] else None
    shown = place if place and place.is_file() else None
    return Finding(sample, row["score"], row["ready_made"], bool(row["anomalous"]), shown)


def _rows(workspace: Workspace, run_id: str) -> list[dict[str, Any]]:
    file = workspace.path / "runs" / run_id / "defects.json"
    return _read(file, file.stat().st_mtime_ns) if run_id.isalnum() and file.is_file() else []


@lru_cache(maxsize=8)
def _read(file: Path, _stamp: int) -> list[dict[str, Any]]:
    return list(json.loads(file.read_text(encoding="utf-8")))
