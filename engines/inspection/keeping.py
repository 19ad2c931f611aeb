"""What was found out about runs, kept in the workspace, so that nothing is computed twice. Torch-free."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from engines.files import whole_file
from engines.store import Workspace

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Findings:
    """The answer of one inspection: values as JSON, and arrays by name."""

    values: dict[str, Any]
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)


def key_of(*parts: Any) -> str:
    """A short name for what an inspection depends on: runs, data, settings and the version of its definition."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def keep(
    workspace: Workspace, kind: str, key: str, values: dict[str, Any], arrays: Mapping[str, NDArray[Any]] | None = None
) -> Findings:
    """Write an answer, whole or not at all; it replaces an earlier one of the same kind and key."""
    file = _file(workspace, kind, key)
    members: dict[str, Any] = {"values": np.array(json.dumps(values, ensure_ascii=False)), **(arrays or {})}
    with whole_file(file) as out:
        np.savez(out, **members)
    return Findings(values, dict(arrays or {}))


def kept(workspace: Workspace, kind: str, key: str) -> Findings | None:
    """An answer that was kept; None where there is none, or where its file is damaged."""
    try:
        with np.load(_file(workspace, kind, key), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files if name != "values"}
            return Findings(json.loads(str(file["values"])), arrays)
    except Exception:  # a damaged archive fails in many ways; each means: compute it again
        return None


def _file(workspace: Workspace, kind: str, key: str) -> Path:
    return workspace.folder("inspections") / kind / f"{key}.npz"


def kept_about(
    workspace: Workspace, kind: str, run_id: str, answers: TypeAdapter[Answer], version: int
) -> Answer | None:
    """The answer about a run; None where there is none yet, or one by another definition."""
    found = kept(workspace, kind, run_id) if run_id.isalnum() else None
    if found is None or found.values.get("version") != version:
        return None
    try:
        return answers.validate_python(found.values)
    except ValidationError:
        return None
