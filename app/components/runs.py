"""Runs as people look at them: the table, one result, the images it got wrong, answers for new images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.components.figures import READY_MADE, method_colour
from app.components.gallery import thumbnail_url
from app.components.html import Html, action, cards, join, table, tag
from app.components.methods import method_title, methods
from app.components.words import counted, duration, moment, percent
from engines.prompts.settings import TrainingConfig
from engines.store import Run, Workspace
from engines.store.answers import Answer
from engines.store.run_queries import Experiment

STATES = {
    "queued": "waiting",
    "running": "running",
    "done": "done",
    "failed": "failed",
    "cancelled": "cancelled",
}
LEARNED = "learned prompt"


@dataclass(frozen=True)
class Column:
    """A column of the table: its head, what a row is sorted by, and whether it holds numbers."""

    head: str
    key: Callable[[Experiment], Any]
    numbers: bool = False


COLUMNS = {
    "method": Column("Method", lambda e: method_title(e.method).lower()),
    "images": Column("Images", lambda e: e.dataset.lower()),
    "shots": Column("Labelled per class", lambda e: e.shots or (0 if not _trains(e.method) else 10**9), True),
    "right": Column("Right", lambda e: -1.0 if e.score is None else e.score, True),
    "ready": Column("Ready-made prompt", lambda e: -1.0 if e.zero_shot is None else e.zero_shot, True),
    "seeds": Column("Seeds", lambda e: len(e.lines), True),
    "started": Column("Started", lambda e: e.created_at, True),
}


def sorted_by(found: Sequence[Experiment], column: str, descending: bool) -> list[Experiment]:
    known = COLUMNS.get(column, COLUMNS["started"])
    return sorted(found, key=known.key, reverse=descending)


def filtered(found: Sequence[Experiment], words: str, dataset: str | None, method: str | None) -> list[Experiment]:
    """Those whose name, method or settings hold all `words`, on a data set and by a method (None: any)."""
    asked = words.lower().split()

    def fits(each: Experiment) -> bool:
        text = f"{each.name} {method_title(each.method)} {each.backbone} {changed_settings(each)}".lower()
        return (
            all(word in text for word in asked)
            and (not dataset or each.dataset == dataset)
            and (not method or each.method == method)
        )

    return [each for each in found if fits(each)]


def runs_table(found: Sequence[Experiment], opened: str, column: str, descending: bool, binned: bool = False) -> Html:
    """The table. Its actions: `sort` (a column), `open` and, in the bin, `restore` (an experiment)."""
    heads = []
    for name, each in COLUMNS.items():
        current = name == column
        arrow = (" ↓" if descending else " ↑") if current else ""
        sort = ("descending" if descending else "ascending") if current else None
        button = tag("button", each.head, arrow, type="button", data_action="sort", data_value=name)
        heads.append(tag("th", button, scope="col", aria_sort=sort, class_="num" if each.numbers else None))
    rows = [_row(each, each.key == opened, binned) for each in found]
    return tag(
        "div", tag("table", tag("thead", tag("tr", *heads)), tag("tbody", *rows)), class_="pl-runs", tabindex="0"
    )


def _row(each: Experiment, opened: bool, binned: bool) -> Html:
    spread = tag("span", f"±{100 * each.spread:.1f}", class_="pl-spread") if each.spread is not None else ""
    right = join([percent(each.score), spread]) if each.score is not None else STATES.get(each.state, each.state)
    trains = _trains(each.method)
    shots = f"{each.shots}" if each.shots else "all" if trains else "–"
    details = ", ".join(filter(None, ["base / new" if each.protocol == "base-to-new" else "", changed_settings(each)]))
    name = tag(
        "button",
        tag("i", class_="pl-dot-method", style=f"background:{method_colour(each.method)}"),
        method_title(each.method),
        tag("span", details, class_="pl-details") if details else "",
        type="button",
        data_action="restore" if binned else "open",
        data_value=each.key,
        title=f"Put back: {each.name}" if binned else f"Open: {each.name}",
    )
    cells = [
        each.dataset or "no longer here",
        shots,
        right,
        percent(each.zero_shot) if trains else "–",
        str(len(each.lines)) if trains else "–",
        moment(each.created_at),
    ]
    numbers = [column.numbers for column in COLUMNS.values()][1:]
    return tag(
        "tr",
        tag("td", name),
        *(
            tag("td", tag("span", cell), class_="num" if right_aligned else None)
            for cell, right_aligned in zip(cells, numbers, strict=True)
        ),
        aria_selected="true" if opened else "false",
    )


def changed_settings(each: Experiment) -> str:
    """The settings that are not the paper's, in words: "Learned words 4, Passes over the images 50"."""
    entry = methods().get(each.method)
    if entry is None:
        return ""
    own = entry.schema.get("properties", {})
    settings, training = each.config.get("settings", {}), each.config.get("training", {})
    usual = entry.training_for(each.protocol, each.shots) if training else {}
    usual_own = entry.settings_for(each.protocol)
    changed = [
        f"{own[name].get('title', name)}: {_plain(value)}"
        for name, value in settings.items()
        if name in own and value != usual_own.get(name)
    ]
    changed += [
        f"{TrainingConfig.model_fields[name].title}: {_plain(value)}"
        for name, value in training.items()
        if name in TrainingConfig.model_fields and name in usual and value != usual[name]
    ]
    return ", ".join(changed)


def facts(each: Experiment, run: Run) -> Html:
    """What a result stands on, as a row of facts."""
    summary = run.summary
    found = [
        (each.dataset or "no longer here", "images"),
        (each.backbone, "model"),
        (counted(int(summary.get("images_trained", 0)), "image"), "learned from"),
        (counted(_tested(summary), "image"), "tested on"),
    ]
    if seconds := summary.get("train_seconds"):
        found.append((duration(seconds), "training"))
    found.append((moment(each.created_at), "started"))
    return cards([fact for fact in found if fact[0]])


def settings_table(run: Run) -> Html:
    """All settings of a run with their names for people."""
    entry = methods().get(run.method)
    own = entry.schema.get("properties", {}) if entry else {}
    rows = [(own.get(name, {}).get("title", name), _plain(v)) for name, v in run.config.get("settings", {}).items()]
    for name, value in run.config.get("training", {}).items():
        field = TrainingConfig.model_fields.get(name)
        rows.append((field.title if field and field.title else name, _plain(value)))
    return table(["Setting", "Value>"], rows) if rows else tag("p", "This method has no settings.")


def answers_grid(workspace: Workspace, answers: Sequence[Answer], names: Sequence[str]) -> Html:
    """Thumbnails with the true class, the answer and how sure it was."""
    return tag("div", *(_answer(workspace, answer, names) for answer in answers), class_="pl-answers")


def _answer(workspace: Workspace, answer: Answer, names: Sequence[str]) -> Html:
    true, guess = _name(names, answer.true), _name(names, answer.predicted)
    listed = ", ".join(f"{_name(names, place)} {share:.2f}" for place, share in answer.top)
    taken = "rightly answered" if answer.true == answer.predicted else "taken for"
    return tag(
        "figure",
        tag(
            "span",
            tag("img", src=thumbnail_url(workspace, answer.sample), alt=f"{true}, {taken} {guess}", loading="lazy"),
            class_="pl-frame",
        ),
        tag("figcaption", tag("b", true), tag("span", f"{taken} {guess}, {answer.probability:.2f}")),
        title=f"{answer.sample.name}: {listed}",
    )


def asked(pictures: Sequence[str], answers: Sequence[Mapping[str, Any]], method: str, trains: bool) -> Html:
    """What the prompts say of images that somebody brought: the three most probable classes of each."""
    blocks = []
    for picture, answer in zip(pictures, answers, strict=True):
        image = tag("div", tag("img", src=picture, alt="Your image"), class_="pl-frame") if picture else tag("div")
        if "error" in answer:
            blocks.append(tag("div", image, tag("p", answer["error"], class_="pl-problem"), class_="pl-asked"))
            continue
        title = f"{method_title(method)}: {LEARNED}" if trains else method_title(method)
        sides = [_shares(title, answer["learned"], method_colour(method))]
        if trains:
            sides.append(_shares("Ready-made prompt", answer["ready_made"], READY_MADE))
        blocks.append(tag("div", image, *sides, class_="pl-asked"))
    return tag("div", *blocks, class_="pl-card") if blocks else Html("")


def _shares(title: str, best: Sequence[Mapping[str, Any]], colour: str) -> Html:
    rows = [
        tag(
            "div",
            tag("span", each["class"]),
            tag("b", f"{each['probability']:.2f}"),
            tag("div", tag("i", style=f"width:{100 * each['probability']:.1f}%;background:{colour}")),
            class_="pl-share",
        )
        for each in best
    ]
    return tag("div", tag("h4", title), *rows)


def bin_notice(names: Sequence[str], keys: str) -> Html:
    """What was moved to the bin just now, with a button to undo it (action `undo`)."""
    what = f"“{names[0]}” is in the bin." if len(names) == 1 else f"{len(names)} results are in the bin."
    return tag(
        "div",
        tag("p", tag("strong", what), " It stays there for 30 days."),
        action("Undo", "undo", keys, "small"),
        class_="pl-notice pl-row",
        role="status",
    )


def _trains(method: str) -> bool:
    entry = methods().get(method)
    return entry.trains if entry else True


def _tested(summary: Mapping[str, Any]) -> int:
    return int(summary.get("images", 0)) + int(summary.get("new", {}).get("images", 0))


def _name(names: Sequence[str], place: int) -> str:
    return names[place] if 0 <= place < len(names) else "a class that is no longer there"


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value) if value != "" else "none"
