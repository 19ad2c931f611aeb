"""The card beside an exported prompt, in the format that Hugging Face reads: front matter in YAML, then words.

Fields as in Hugging Face's model card specification (`license`, `library_name`, `pipeline_tag`, `base_model`, `tags`,
`metrics`, `model-index`); the numbers in `model-index` are those that were measured, fractions of 1.
"""

from __future__ import annotations

from typing import Any

import yaml

from engines.backbones.catalog import hub_name
from engines.prompts.catalog import method_entry
from engines.reports.data_facts import data_facts
from engines.reports.limits import limits
from engines.reports.results import find_results
from engines.reports.sentences import result_sentence, wilson
from engines.reports.words import counted, percent
from engines.runs.recipe import Recipe
from engines.store import Run, Workspace

METRICS = {
    "accuracy": ("accuracy", "Accuracy"),
    "macro_f1": ("f1", "F1, mean of the classes"),
    "ece": ("ece", "Expected calibration error"),
    "base_accuracy": ("accuracy", "Accuracy on base classes"),
    "new_accuracy": ("accuracy", "Accuracy on new classes"),
    "harmonic_mean": ("harmonic_mean", "Harmonic mean of base and new accuracy"),
    "image_auroc": ("roc_auc", "AUROC of images"),
    "pixel_auroc": ("roc_auc", "AUROC of pixels"),
}
"""Number of a summary -> (Hugging Face's identifier where there is one, name)."""


def card(workspace: Workspace, run: Run, recipe: Recipe) -> str:
    """The card of a run that is done."""
    front = yaml.safe_dump(_front_matter(run, recipe), sort_keys=False, allow_unicode=True, width=100)
    return f"---\n{front}---\n\n{_words(workspace, run, recipe)}"


def _front_matter(run: Run, recipe: Recipe) -> dict[str, Any]:
    entry, summary = method_entry(run.method), run.summary
    tested = [_result(run, recipe.dataset.name, summary)]
    tested += [_result(run, name, target) for name, target in summary.get("targets", {}).items()]
    few = ["few-shot"] if run.shots else []
    return {
        "license": "other",
        "license_name": "chosen-by-whoever-publishes-it",
        "library_name": "open_clip",
        "pipeline_tag": "zero-shot-image-classification",
        "base_model": hub_name(run.backbone) or run.backbone,
        "tags": ["promptloupe", "prompt-learning", entry.name, *few, "vision-language"],
        "metrics": sorted({METRICS[name][0] for name in METRICS if _is_number(summary.get(name))}),
        "model-index": [{"name": run.name, "results": tested}],
    }


def _result(run: Run, dataset: str, numbers: dict[str, Any]) -> dict[str, Any]:
    measured = [
        {"type": kind, "name": name, "value": float(numbers[key])}
        for key, (kind, name) in METRICS.items()
        if _is_number(numbers.get(key))
    ]
    return {
        "task": {"type": "image-classification", "name": "Image classification"},
        "dataset": {
            "type": "imagefolder",
            "name": dataset or "not published",
            "split": "test",
            "args": {"shots": run.shots, "seed": run.seed, "protocol": run.protocol},
        },
        "metrics": measured,
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and value == value


def _words(workspace: Workspace, run: Run, recipe: Recipe) -> str:
    entry = method_entry(run.method)
    [result] = find_results(workspace, [run.id])
    facts = data_facts(workspace, run.dataset_id)
    images = f"{counted(run.shots, 'labelled image')} per class" if run.shots else "all labelled images"
    trained = run.summary.get("images_trained", 0)
    parts = [
        f"# {entry.title} prompt: {_text(run.name)}",
        entry.summary,
        f"Learned from {images} of “{_text(recipe.dataset.name)}” ({trained:,} images, seed {run.seed}) on the model"
        f" `{run.backbone}`, whose weights stay as they are.",
        "## Results",
        _text(result_sentence(entry.title, entry.trains, [run.summary])),
        _class_table(run),
        "## Limits",
        "\n".join(f"- {_text(sentence)}" for sentence in limits([result], facts)),
        "## Intended use",
        "To sort or search images like those that it learned from, with a person looking at what comes out. Not for"
        " diagnosis or any other decision about a person.",
        "## Use",
        "```python\nfrom engines.backbones import load_backbone\nfrom engines.prompts import load_prompt\n\n"
        f'prompt = load_prompt("this folder", load_backbone({run.backbone!r}))\n```',
        "## To do it again",
        "`promptloupe reproduce` with this folder trains it again from the same images and says whether the numbers"
        " come out the same. `run.json` holds settings, seed and versions, `images.json` the hashes of the images.",
        f"Data set fingerprint: `{recipe.dataset.fingerprint}`",
        "## Licence",
        "Whoever publishes this prompt chooses its licence. The model it belongs to, and the images it learned from,"
        " have their own.",
        "## Method",
        entry.paper,
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _class_table(run: Run) -> str:
    rows = [*run.summary.get("per_class", []), *run.summary.get("new", {}).get("per_class", [])]
    lines = []
    for row in rows:
        low, high = wilson(row["accuracy"] * row["count"], row["count"])
        between = f"{percent(low)} to {percent(high)}"
        lines.append(f"| {_text(row['name'])} | {row['count']:,} | {percent(row['accuracy'])} | {between} |")
    head = "| class | test images | right | 95% interval |\n| --- | ---: | ---: | --- |"
    return "\n".join([head, *lines]) if lines else ""


def _text(words: str) -> str:
    """Names in Markdown: on one line, and without anything that a hub would take for markup."""
    flat = " ".join(words.split())
    return "".join(f"\\{letter}" if letter in "\\`*_[]<>|#" else letter for letter in flat)
