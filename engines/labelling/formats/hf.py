"""A folder that Hugging Face's `datasets` opens: `load_dataset("imagefolder", data_dir=…)`, with a data card."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from engines.labelling.content import Content, Picture
from engines.labelling.formats.tables import about, write_decisions, write_table

SPLITS = ("train", "validation", "test")


def write(folder: Path, content: Content) -> list[str]:
    folders = content.class_folders()

    def place(picture: Picture) -> str:
        return f"{folders[picture.label or '']}/{picture.file_name}"

    kept = content.written(content.labelled, lambda picture: folder / picture.purpose / place(picture))
    columns = ["file_name", "label", "decided_by", "part", "domain", "group", "name", "sha256"]
    for split in SPLITS:
        rows = [[place(picture), *about(picture)] for picture in kept if picture.purpose == split]
        if rows:
            write_table(folder / split / "metadata.csv", columns, rows)
    (folder / "README.md").write_text(card(content, kept), "utf-8")
    return ["README.md", *write_decisions(folder, content)]


def card(content: Content, kept: list[Picture]) -> str:
    """A data card: front matter that the hub reads, then what a person should know."""
    present = [split for split in SPLITS if any(picture.purpose == split for picture in kept)]
    counts = Counter((picture.purpose, picture.label) for picture in kept)
    lines = [
        "---",
        f"pretty_name: {json.dumps(content.name)}",
        "task_categories:",
        "- image-classification",
        f"size_categories:\n- {_size(len(kept))}",
        "---",
        "",
        f"# {plain(content.name)}",
        "",
        *([plain(content.description), ""] if content.description else []),
        f"{len(kept):,} labelled images of {len(content.classes)} classes, exported by Promptloupe. The column `label`"
        " of each metadata.csv holds the class; `sha256` names the image as it was imported.",
        "",
        "```python",
        "from datasets import load_dataset",
        "",
        'data = load_dataset("imagefolder", data_dir="this folder")',
        "```",
        "",
        f"| class | {' | '.join(present)} |",
        f"| --- |{' ---: |' * len(present)}",
        *(
            f"| {plain(name)} | {' | '.join(f'{counts[split, name]:,}' for split in present)} |"
            for name in content.classes
        ),
        "",
    ]
    if content.decisions is not None:
        readers = ", ".join(map(plain, content.readers)) or "nobody"
        lines += [f"`decisions.csv` holds every decision on these images. Readers: {readers}.", ""]
    return "\n".join(lines)


def plain(text: str) -> str:
    """A name as text in Markdown: nothing in it is markup."""
    shown = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "".join(f"\\{c}" if c in "\\`*_{}[]()#+-.!|~$" else c for c in shown)


def _size(images: int) -> str:
    """The hub's name of a size."""
    steps = [(10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M")]
    return next((name for most, name in steps if images < most), "1M<n<10M")
