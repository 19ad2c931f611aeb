"""A learned prompt to take away: its files, a card in the Hugging Face format, and what is needed to train it again."""

from __future__ import annotations

import uuid
import zipfile
from pathlib import Path

from engines.runs.card import card
from engines.runs.predict import prompt_folder
from engines.runs.recipe import RECIPE, recipe
from engines.runs.used_images import FILE
from engines.store import Run, Workspace


def export_prompt(workspace: Workspace, run_id: str) -> Path:
    """Write `exports/<name>.zip` with the prompt, its card, `run.json` and `images.json`; returns the file.

    Raises:
        ConfigError: there is no such run, or it has not learned anything yet.
    """
    folder = prompt_folder(workspace, run_id)
    with workspace.session() as session:
        run = session.get_one(Run, run_id)
    made = recipe(workspace, run)
    stem = "".join(c if c.isalnum() or c in "-_" else "-" for c in run.name)[:80].strip("-")
    target = workspace.folder("exports") / f"{stem}-seed{run.seed}.zip"
    partial = target.with_name(f".{uuid.uuid4().hex}.partial")
    try:
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(folder.iterdir()):
                archive.write(file, file.name)
            used = workspace.run_folder(run_id) / FILE
            if used.is_file():
                archive.write(used, FILE)
            archive.writestr("README.md", card(workspace, run, made))
            archive.writestr(RECIPE, made.model_dump_json(indent=2))
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return target
