"""A data set in words: its line, its report, its counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from app.components.figures import SPLIT_WORDS, Figure, class_balance
from app.components.html import Html, fold, join, notice, table, tag, term
from app.components.words import counted, moment, number
from engines.store import LabelClass
from engines.store.browse import DatasetSummary, Tally, in_order

MOST_BARS = 60
MOST_ROWS = 200
SPLIT_MEANING = {
    "train": "Images that a prompt may learn from.",
    "val": "Images set aside to choose between settings and training stages; never used for the final result.",
    "test": "Images set aside to measure the result; a prompt never learns from them.",
    "pool": "Images that nobody has labelled yet.",
}


def split_term(split: str) -> Html:
    """The name of a split with what it means."""
    return term(SPLIT_WORDS.get(split, split), SPLIT_MEANING.get(split, "A part of the data set.") + f" ({split})")


def split_totals(tally: Tally) -> dict[str, int]:
    totals: dict[str, int] = {}
    for (split, _, _), count in tally.items():
        totals[split] = totals.get(split, 0) + count
    return {split: totals[split] for split in in_order(totals)}


def summary_line(dataset: DatasetSummary, tally: Tally) -> Html:
    """One sentence: how many images of how many classes, for what, and since when."""
    parts = [join([f"{number(count)} ", split_term(split)]) for split, count in split_totals(tally).items()]
    return tag(
        "p",
        tag("strong", counted(dataset.images, "image")),
        f" of {counted(dataset.classes, 'class', 'classes')}" if dataset.classes else " without classes",
        ": " if parts else "",
        join(parts, ", "),
        f". Imported {moment(dataset.created_at)}.",
        f" {dataset.description}" if dataset.description else "",
        class_="pl-summary",
    )


def counts_by_class(classes: Sequence[LabelClass], tally: Tally) -> tuple[list[str], list[str], list[list[int]]]:
    """(class names, splits, counts[class][split]); images without a label as a last line where there are any."""
    splits = in_order(split for split, _, _ in tally)
    rows: dict[int | None, list[int]] = {each.id: [0] * len(splits) for each in classes}
    for (split, class_id, _), count in tally.items():
        rows.setdefault(class_id, [0] * len(splits))[splits.index(split)] += count
    names: dict[int | None, str] = {each.id: each.name for each in classes}
    return [names.get(class_id, "(no label)") for class_id in rows], splits, list(rows.values())


def balance(classes: Sequence[LabelClass], tally: Tally) -> Figure | None:
    """Images per class by split as bars; of very many classes the largest and the smallest."""
    names, splits, rows = counts_by_class(classes, tally)
    if not names:
        return None
    title = "Images per class"
    if len(names) > MOST_BARS:
        order = sorted(range(len(names)), key=lambda place: -sum(rows[place]))
        order = order[: MOST_BARS // 2] + order[-MOST_BARS // 2 :]
        names, rows = [names[place] for place in order], [rows[place] for place in order]
        title = f"Images per class: the {MOST_BARS // 2} largest and the {MOST_BARS // 2} smallest"
    return class_balance(names, {split: [row[place] for row in rows] for place, split in enumerate(splits)}, title)


def report(dataset: DatasetSummary, stored: Mapping[str, Any], classes: Sequence[LabelClass], tally: Tally) -> Html:
    """What an import brought in, what it left out and why."""
    left_out = _counts(stored.get("reasons"))
    dropped = sum(left_out.values())
    warnings = [str(each) for each in stored.get("warnings") or []]
    said = f"{counted(dataset.images, 'image')} came in."
    if dropped:
        verb = "was" if dropped == 1 else "were"
        head = notice("warning", f"{said} {counted(dropped, 'file')} {verb} left out.", "The reasons are listed below.")
    else:
        head = notice("good", said, "Nothing was left out.")
    return tag(
        "div",
        head,
        *(notice("warning", warning) for warning in warnings),
        tag("p", f"Published results of ready-made prompts use the sentence “{sentence}”", class_="pl-quiet")
        if (sentence := str(stored.get("template") or ""))
        else "",
        _left_out(left_out, stored.get("left_out") or []) if dropped else "",
        _class_table(classes, tally),
        class_="pl-stack",
    )


def _left_out(reasons: Mapping[str, int], files: Sequence[Any]) -> Html:
    listed = [(str(f.get("file", "")), str(f.get("reason", ""))) for f in files if isinstance(f, Mapping)]
    missing = sum(reasons.values()) - len(listed)
    more = tag("p", f"… and {counted(missing, 'more file')}.", class_="pl-quiet") if missing > 0 else ""
    return tag(
        "div",
        table(["Why it was left out", "Files>"], [(reason, number(n)) for reason, n in reasons.items()]),
        fold("Show the files", table(["File", "Why"], listed), more) if listed else "",
        class_="pl-card",
    )


def _class_table(classes: Sequence[LabelClass], tally: Tally) -> Html:
    names, splits, rows = counts_by_class(classes, tally)
    columns: list[Any] = ["Class", *(Html(f"{split_term(split)}>") for split in splits), "All>"]
    lines = [
        [name, *(number(n) if n else "–" for n in row), number(sum(row))]
        for name, row in list(zip(names, rows, strict=True))[:MOST_ROWS]
    ]
    more = len(names) - len(lines)
    return tag(
        "div",
        table(columns, lines),
        tag("p", f"… and {counted(more, 'more class', 'more classes')}.", class_="pl-quiet") if more > 0 else "",
        class_="pl-card",
    )


def _counts(value: Any) -> dict[str, int]:
    return {str(reason): int(n) for reason, n in value.items()} if isinstance(value, Mapping) else {}
