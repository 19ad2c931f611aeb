"""A documentation page for every method, made from its own words and settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engines.prompts.catalog import MethodEntry, method_catalog


def write_pages(folder: Path) -> list[Path]:
    """Write `<name>.md` for every method and an index into `folder`; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = method_catalog()
    files = []
    for entry in entries:
        files.append(folder / f"{entry.name}.md")
        files[-1].write_text(page(entry), encoding="utf-8")
    lines = [f"- [{e.title}]({e.name}.md): {e.summary}" for e in entries]
    (folder / "README.md").write_text(
        "# Methods\n\nMade by `promptloupe methods --write-docs docs/methods`.\n\n" + "\n".join(lines) + "\n",
        encoding="utf-8",
    )
    return files


def page(entry: MethodEntry) -> str:
    """One method in Markdown: what it does, when to use it, what it needs, its settings, its checks."""
    parts = [
        f"# {entry.title}",
        entry.summary,
        f"**When to use it.** {entry.when}",
        f"**What it needs.** {entry.needs}",
        f"**Cost.** {_COST[entry.cost]}",
        "## Settings",
        settings_table(entry.schema) or "None.",
    ]
    if entry.fitting == "gradient":
        parts += ["## Training", _training(entry)]
    parts += ["## Source", entry.paper]
    parts += [f"Reported: {entry.reported}"] if entry.reported else []
    parts += ["## Checked against the official code", entry.parity] if entry.parity else []
    parts += [f"```\npromptloupe train --data NAME --method {entry.name}\n```"]
    return "\n\n".join(parts) + "\n"


_COST = {
    "none": "Nothing is trained.",
    "seconds": "Seconds with the shipped model on a processor.",
    "minutes": "Minutes with the shipped model on a processor.",
    "long": "Long on a processor; a GPU is advisable.",
}


def settings_table(schema: dict[str, Any]) -> str:
    """The settings of a JSON schema as a Markdown table."""
    rows = [
        _row(
            f"`{name}`", field.get("title", name), _values(field), f"`{field.get('default', '')}`", field["description"]
        )
        for name, field in schema.get("properties", {}).items()
    ]
    head = "| name | on the form | values | default | what it does |\n|---|---|---|---|---|\n"
    return head + "\n".join(rows) if rows else ""


def _row(*cells: Any) -> str:
    return f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in cells)} |"


def _values(field: dict[str, Any]) -> str:
    if "enum" in field:
        return ", ".join(map(str, field["enum"]))
    if field.get("type") == "boolean":
        return "yes, no"
    low = field.get("minimum", field.get("exclusiveMinimum"))
    high = field.get("maximum", field.get("exclusiveMaximum"))
    if low is not None and high is not None:
        return f"{low} to {high}"
    return "text" if field.get("type") == "string" else str(field.get("type", ""))


def _training(entry: MethodEntry) -> str:
    lines = []
    for protocol, settings in entry.training.items():
        name, _, shots = protocol.partition("/")
        if name not in entry.protocols:
            continue
        own = ", ".join(f"{key} {value or 'none'}" for key, value in entry.setting_presets.get(name, {}).items())
        which = f"{name}, {shots} labelled image{'s' if shots != '1' else ''} per class" if shots else name
        lines.append(
            f"- {which}: {settings['epochs']} passes, batch {settings['batch_size']},"
            f" {settings['optimizer'].upper()} at {settings['learning_rate']:g}{'; ' if own else ''}{own}"
        )
    return "\n".join(lines)
