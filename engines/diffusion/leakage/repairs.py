"""Repairs of a study, a folder each, as pages and commands read them. Torch-free.

repairs/<repair>/request.json
                 state.safetensors    everything that is needed to go on; see `RepairState`
                 live.json            losses of every update so far, rewritten while the job runs
                 preview.png          what the picture looks like as of the last step
                 maps.npz, figures.json, picture.png, result.json    at the end
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from engines.diffusion.leakage.files import read_array, read_json
from engines.diffusion.leakage.requests import RepairRequest
from engines.diffusion.leakage.studies import Maps, Study
from engines.errors import ConfigError, DataError
from engines.files import write_whole


@dataclass(frozen=True, slots=True)
class Repair:
    """One repair, begun or finished."""

    id: str
    folder: Path
    request: RepairRequest

    @property
    def state(self) -> Path:
        return self.folder / "state.safetensors"

    @property
    def preview(self) -> Path | None:
        """The newest picture of it."""
        found = (self.folder / name for name in ("picture.png", "preview.png"))
        return next((file for file in found if file.is_file()), None)

    @property
    def finished(self) -> bool:
        return (self.folder / "result.json").is_file()

    @property
    def result(self) -> dict[str, Any]:
        """`{"psnr": of the reconstruction in dB, "updates", "notes", "background": whether one was found}`."""
        return read_json(self.folder / "result.json") or {}

    def touch(self) -> None:
        """Make it the last one: what was asked for again is what is shown."""
        os.utime(self.folder / ("result.json" if self.finished else "request.json"))

    def live(self) -> dict[str, Any]:
        """`{"step", "steps", "updates": [[step, {loss: value}], ...]}` so far."""
        return read_json(self.folder / "live.json") or {"step": 0, "steps": 0, "updates": []}

    def maps(self) -> Maps | None:
        """[words, steps, s, s] behind the repair, as `Study.maps`."""
        return read_array(self.folder / "maps.npz")

    def figures(self) -> dict[str, Any]:
        return read_json(self.folder / "figures.json") or {}


def open_repair(study: Study, request: RepairRequest) -> Repair:
    """Begin, or find again, the repair with these settings.

    Raises:
        ConfigError: a word is not in the caption, one has no mask where masks are wanted, or adjectives have none.
    """
    settings = request.settings.model_copy(update={"steps": study.facts.steps})
    request = request.model_copy(update={"settings": settings})
    words = study.words
    for number in [*request.words, *request.adjectives.values()]:
        if not 0 <= number < len(words):
            raise ConfigError("A chosen word is not in the caption.", "Choose the words anew.")
    if request.adjectives and not request.masks:
        raise ConfigError("Adjectives can be bound with masks only.", "Bind the words to masks, too.")
    missing = [words[number] for number in request.words if request.masks and study.mask_file(number) is None]
    if missing:
        raise ConfigError(
            f"There is no mask for “{missing[0]}”.", "Draw one for every chosen word, or repair without masks."
        )
    content = request.model_dump(mode="json", exclude={"slicing", "device"})
    seen = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
    for number in request.words if request.masks else []:
        mask = study.mask(number)
        assert mask is not None
        seen.update(mask.tobytes())
    folder = study.folder / "repairs" / seen.hexdigest()[:16]
    if not (folder / "request.json").is_file():
        write_whole(folder / "request.json", request.model_dump_json())
    return Repair(folder.name, folder, request)


def find_repair(study: Study, repair_id: str) -> Repair:
    """The repair with that id.

    Raises:
        DataError: there is none.
    """
    folder = study.folder / "repairs" / repair_id
    try:
        if not repair_id.isalnum():
            raise FileNotFoundError(repair_id)
        return Repair(repair_id, folder, RepairRequest.model_validate_json((folder / "request.json").read_bytes()))
    except (OSError, ValidationError) as error:
        raise DataError("There is no such repair.", "Repair the picture anew.", str(error)) from error


def repairs(study: Study) -> list[Repair]:
    """All repairs that learned words, the last one touched first; damaged folders are left out."""
    found = []
    for file in (study.folder / "repairs").glob("*/request.json"):
        try:
            repair = find_repair(study, file.parent.name)
        except DataError:
            continue
        if repair.request.words:
            last = repair.folder / ("result.json" if repair.finished else "request.json")
            found.append((last.stat().st_mtime_ns, repair.id, repair))
    return [repair for *_, repair in sorted(found, key=lambda each: each[:2], reverse=True)]
