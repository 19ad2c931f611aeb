"""Edits of a study, a folder each, as pages and commands read them. Torch-free.

edits/<edit>/edit.json             what was asked and what was measured
             p2p.png, null-text.png, dpl.png
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from engines.diffusion.leakage.files import read_json
from engines.diffusion.leakage.requests import EditRequest
from engines.diffusion.leakage.studies import Study
from engines.diffusion.words import split_words
from engines.errors import ConfigError, DataError

WAYS = {"p2p": "Plain Prompt-to-Prompt", "null-text": "Null-text inversion", "dpl": "After the repair (DPL)"}
"""Every way of editing, with its name for people."""


@dataclass(frozen=True, slots=True)
class EditFolder:
    """One edit, begun or finished."""

    id: str
    folder: Path

    def picture(self, way: str) -> Path:
        """Where the edited picture of one of `WAYS` lies."""
        return self.folder / f"{way}.png"

    @property
    def record(self) -> dict[str, Any] | None:
        """`{"request", "seconds", "measured": where, "middle": of the edited object, as a share of the width, if known,
        "by": model, "ways": {way: metrics}}`; None before it ends.
        """
        return read_json(self.folder / "edit.json")


@dataclass(frozen=True, slots=True)
class Changed:
    """Numbers of the words that an edit touches, in the caption and in the edited one."""

    source: tuple[int, ...]
    edited: tuple[int, ...]


def changed_words(caption: str, request: EditRequest) -> Changed:
    """What is changed.

    Raises:
        ConfigError: nothing is, or the captions do not fit the kind of edit.
    """
    old, new = ([word.casefold() for word in split_words(text)] for text in (caption, request.prompt))
    if request.kind == "weight":
        if old != new:
            raise ConfigError("Weighting words leaves the caption as it is.", "Swap or add words to change it.")
        found = tuple(sorted(number for number, factor in request.weights.items() if factor != 1))
        if not found:
            raise ConfigError("No word has another weight than before.", "Set a word's weight below or above 1.")
        return Changed(found, found)
    if old == new:
        raise ConfigError("The edited caption is the same as before.", "Change a word of it.")
    if request.kind == "swap":
        if len(old) != len(new):
            raise ConfigError(
                f"Words can only be swapped one for one; the caption has {len(old)} words, the edited one {len(new)}.",
                "Write as many words, or add words instead (refine).",
            )
        found = tuple(number for number, pair in enumerate(zip(old, new, strict=True)) if pair[0] != pair[1])
        return Changed(found, found)
    source: list[int] = []
    edited: list[int] = []
    for what, a, b, c, d in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if what != "equal":
            source += range(a, b)
            edited += range(c, d)
    return Changed(tuple(source), tuple(edited))


def open_edit(study: Study, request: EditRequest) -> EditFolder:
    """Where the pictures of an edit lie, or will.

    Raises:
        ConfigError: as `changed_words`.
    """
    changed_words(study.facts.caption, request)
    content = json.dumps(request.model_dump(mode="json", exclude={"slicing", "device"}), sort_keys=True)
    edit_id = hashlib.sha256(content.encode()).hexdigest()[:16]
    return EditFolder(edit_id, study.folder / "edits" / edit_id)


def find_edit(study: Study, edit_id: str) -> EditFolder:
    """The edit with that id.

    Raises:
        DataError: there is none.
    """
    folder = study.folder / "edits" / edit_id
    if not edit_id.isalnum() or not folder.is_dir():
        raise DataError("There is no such edit.", "Edit the picture anew.")
    return EditFolder(edit_id, folder)


def edits(study: Study) -> list[EditFolder]:
    """All that are finished, the newest first."""
    files = sorted((study.folder / "edits").glob("*/edit.json"), key=lambda f: (f.stat().st_mtime_ns, f.parent.name))
    return [EditFolder(file.parent.name, file.parent) for file in reversed(files)]
