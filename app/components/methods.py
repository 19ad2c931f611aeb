"""The list of methods to choose from: what each does in plain words, what it costs, and why one cannot be used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache

from app.components.figures import method_colour
from app.components.html import Html, join, tag
from engines.prompts.catalog import MethodEntry, method_catalog

GROUPS = {
    "a few labels": "You have a few labelled images",
    "no labels": "You have no labels",
    "several sites or scanners": "Your images come from several sites or scanners",
    "only normal images": "You have only normal images",
}
COSTS = {
    "none": ("no training", "Nothing is trained."),
    "seconds": ("seconds", "Takes seconds with the small model on a processor."),
    "minutes": ("minutes", "Takes minutes with the small model on a processor."),
    "long": ("long", "Takes long on a processor: a graphics card is advisable."),
}


@cache
def _reading() -> Future[list[MethodEntry]]:
    """The catalogue, being read: after an update of the program that takes seconds, which no page should wait for."""
    return ThreadPoolExecutor(1, "read-methods").submit(method_catalog)


def begin_reading() -> None:
    """Start reading the catalogue without waiting for it."""
    _reading()


def methods() -> dict[str, MethodEntry]:
    """All methods by name, in the order of the catalogue."""
    return {entry.name: entry for entry in _reading().result()}


def method_title(name: str) -> str:
    """A method's name for people; its registry name where the method is no longer there."""
    entry = methods().get(name)
    return entry.title if entry else name


def method_cards(entries: Sequence[MethodEntry], chosen: str, reasons: Mapping[str, str]) -> Html:
    """Buttons of the action `method`, grouped by what the user has; those in `reasons` are greyed with the reason."""
    present = list(dict.fromkeys(entry.group for entry in entries))
    ordered = [g for g in GROUPS if g in present] + [g for g in present if g not in GROUPS]
    groups = [
        tag(
            "div",
            tag("h3", GROUPS.get(group, group)),
            tag(
                "div",
                *(_card(e, e.name == chosen, reasons.get(e.name, "")) for e in entries if e.group == group),
                class_="pl-methods",
            ),
        )
        for group in ordered
    ]
    return tag("div", join(groups), role="radiogroup", aria_label="Method", class_="pl-method-list")


def _card(entry: MethodEntry, chosen: bool, reason: str) -> Html:
    words, meaning = COSTS.get(entry.cost, (entry.cost, ""))
    return tag(
        "button",
        tag(
            "span",
            tag("i", style=f"background:{method_colour(entry.name)}"),
            tag("strong", entry.title),
            tag("em", words, title=meaning),
            class_="pl-method-head",
        ),
        tag("span", entry.summary, class_="pl-method-words"),
        tag("span", reason or entry.when, class_="pl-method-why" if not reason else "pl-method-why refused"),
        type="button",
        role="radio",
        aria_checked="true" if chosen else "false",
        class_="pl-method",
        data_action="method",
        data_value=entry.name,
        disabled=bool(reason),
        title=entry.paper,
    )
