"""A learned prompt to take away: its files, a card in the Hugging Face format, and what is needed to train it again."""

from __future__ import annotations

import json
import platform
import zipfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from engines.prompts.catalog import method_entry
from engines.runs.predict import prompt_folder
from engines.store import Dataset, Run, Workspace

PACKAGES = ("promptloupe", "torch", "open_clip_torch", "scikit-learn")


def export_prompt(workspace: Workspace, run_id: str) -> Path:
    """Write `exports/<name>.zip` with the prompt, its card and `run.json`; returns the file."""
    folder = prompt_folder(workspace, run_id)
    with workspace.session() as session:
        run = session.get_one(Run, run_id)
        dataset = session.get(Dataset, run.dataset_id) if run.dataset_id else None
        dataset_name = dataset.name if dataset else "a data set that is no longer here"
    stem = "".join(c if c.isalnum() or c in "-_" else "-" for c in run.name)[:80].strip("-")
    target = workspace.folder("exports") / f"{stem}-seed{run.seed}.zip"
    partial = target.with_suffix(".partial")
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, file.name)
        archive.writestr("README.md", card(run, dataset_name))
        archive.writestr("run.json", json.dumps(recipe(run, dataset_name), indent=2, ensure_ascii=False))
    partial.replace(target)
    return target


def recipe(run: Run, dataset_name: str) -> dict[str, Any]:
    """Everything that fixes a run: data, model, settings, seed, versions; and what came out."""
    return {
        "dataset": {"name": dataset_name, "fingerprint": run.dataset_fingerprint},
        "backbone": run.backbone,
        "method": run.method,
        "protocol": run.protocol,
        "shots": run.shots,
        "seed": run.seed,
        **run.config,
        "results": {k: v for k, v in run.summary.items() if isinstance(v, int | float)},
        "versions": {name: version(name) for name in PACKAGES} | {"python": platform.python_version()},
    }


def card(run: Run, dataset_name: str) -> str:
    """A model card: front matter that hubs read, then what a person should know."""
    entry, summary = method_entry(run.method), run.summary
    images = f"{run.shots} labelled images per class" if run.shots else "all labelled images"
    front = [
        "---",
        "library_name: open_clip",
        f"base_model: {json.dumps(run.backbone)}",
        "pipeline_tag: zero-shot-image-classification",
        f"tags: [prompt-learning, {entry.name}, few-shot]",
        "---",
    ]
    body = [
        f"# {entry.title} prompt: {run.name}",
        entry.summary,
        f"Learned from {images} of “{dataset_name}” (seed {run.seed}) on the model `{run.backbone}`.",
        "## Results",
        f"On {summary.get('images', 0):,} test images: {_percent(summary, 'accuracy')} right, mean F1 per class"
        f" {_percent(summary, 'macro_f1')}; the ready-made prompt (zero-shot) got"
        f" {_percent(summary.get('zero_shot', {}), 'accuracy')} of the same images right.",
        "## Classes",
        "\n".join(f"- {name}" for name in summary.get("class_names", [])),
        "## Limits",
        "The results hold for images like the test images: other sites, devices or stains may give other results."
        " Not for diagnosis or any other decision about a person.",
        "## Use",
        "```python\nfrom engines.backbones import load_backbone\nfrom engines.prompts import load_prompt\n"
        f'prompt = load_prompt("this folder", load_backbone({json.dumps(run.backbone)}))\n```',
        "## Method",
        entry.paper,
    ]
    return "\n".join(front) + "\n" + "\n\n".join(body) + "\n"


def _percent(values: dict[str, Any], key: str) -> str:
    return f"{100 * values[key]:.1f}%" if key in values else "not measured"
