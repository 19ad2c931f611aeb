"""Many photos, each by several methods, at full resolution."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from engines.data.names import file_name
from engines.enhance.applying import Applicable
from engines.enhance.choices import find_choice, photos_of
from engines.enhance.enhancer import SIDE
from engines.enhance.folder import enhance_photos
from engines.enhance.requests import EnhanceRequest
from engines.errors import DataError
from engines.store import Workspace


def enhance_batch(
    workspace: Workspace,
    request: EnhanceRequest,
    tell: Callable[[float, str], None],
    check_cancelled: Callable[[], None],
) -> dict[str, Any]:
    """Enhance what `request` names; a bad photo is told and the rest goes on; done ones are not done again.

    Returns:
        `{"folder", "done": count, "results": [{"source", "method", "output" in the folder, "problem", "notes",
        "decibels": see `Applicable`}]}`.
    Raises:
        DataError: no photo could be enhanced, a place does not exist, or the disk is full.
        ConfigError: there is no such method, or the folder is that of the originals.
        BackboneError: the weights of a method are damaged.
    """
    photos = photos_of(request.photos)
    out = workspace.resolve(request.out).expanduser().absolute()
    side = None if request.native else SIDE
    methods = [Applicable(find_choice(workspace, name), request.strength, side) for name in request.methods]
    references = Path(request.reference).expanduser() if request.reference else None
    if references is not None and not references.is_dir():
        raise DataError(f"There is no folder “{references.name}” with references.", "Check the spelling.")
    results: list[dict[str, Any]] = []
    total = len(photos) * len(methods)
    for method in methods:
        folder = out / file_name(method.choice.title) if len(methods) > 1 else out
        making = enhance_photos(photos, folder, method, method.recipe(), request.measurements, request.kind, references)
        for place in range(len(photos)):
            check_cancelled()
            tell(len(results) / total, f"{photos[place].name} ({method.choice.title})")
            method.decibels = None
            made = next(making)
            results.append(
                {
                    "source": made.source.name,
                    "method": method.choice.name,
                    "output": str(made.output.relative_to(out)) if made.output else "",
                    "problem": made.problem,
                    "notes": list(made.notes),
                    "decibels": method.decibels,
                }
            )
    done = sum(not each["problem"] for each in results)
    if not done:
        raise DataError("No photo could be enhanced.", results[0]["problem"])
    return {"folder": str(out), "done": done, "results": results}
