"""Safe HTML. Names of classes, files and people are untrusted: all text passes `esc` on its way into a page.

A `gr.HTML` value is inserted as it is, so everything here returns finished, escaped markup as `Html`, and takes `Html`
unchanged while it escapes plain text. Never put text into an `html_template`: Gradio evaluates templates as JavaScript.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from engines.reports.markup import Html, esc, join, table, tag

__all__ = [
    "Html",
    "action",
    "cards",
    "empty_state",
    "esc",
    "fold",
    "join",
    "link",
    "notice",
    "page_title",
    "section",
    "table",
    "tag",
    "term",
]


def action(label: Any, name: str, value: Any = "", style: str = "secondary", **attributes: Any) -> Html:
    """A button inside live HTML: a press arrives at the `action` listener of the component (see `components.live`)."""
    return tag(
        "button", label, type="button", class_=f"pl-button {style}", data_action=name, data_value=value, **attributes
    )


def link(label: Any, page: str, style: str = "") -> Html:
    """A link to a page of the workbench, relative so that it works below any address."""
    return tag("a", label, href=page or "./", class_=style or None)


def term(words: str, meaning: str) -> Html:
    """A technical term with its one-sentence explanation on hover and on focus."""
    return tag("span", words, class_="pl-term", tabindex="0", title=meaning, aria_label=f"{words}: {meaning}")


def page_title(title: str, lead: Any) -> Html:
    """The head of a page: its name and one sentence on what it is for."""
    return tag("header", tag("h1", title), tag("p", lead, class_="pl-lead"), class_="pl-title")


def section(title: str, lead: Any = "") -> Html:
    return tag("div", tag("h2", title), tag("p", lead) if lead else "", class_="pl-section")


def fold(summary: Any, *content: Any) -> Html:
    return tag("details", tag("summary", summary), *content, class_="pl-fold")


def notice(kind: str, what: Any, remedy: Any = "", detail: str = "") -> Html:
    """A message in the page: `kind` is "info", "good", "warning" or "error"; technical detail is folded."""
    return tag(
        "div",
        tag("p", tag("strong", what), " " if remedy else "", remedy),
        fold("Technical detail", tag("pre", detail)) if detail else "",
        class_=f"pl-notice {kind}",
        role="alert" if kind == "error" else "status",
    )


def empty_state(picture: Html, sentence: Any, *buttons: Any) -> Html:
    """What a page shows before there is anything: a picture of what will be here, one sentence, one button."""
    return tag("div", picture, tag("p", sentence), *buttons, class_="pl-empty")


def cards(facts: Iterable[tuple[Any, Any]]) -> Html:
    """A row of numbers, each with what it counts."""
    cells = (tag("div", tag("strong", value), tag("span", label)) for value, label in facts)
    return tag("div", *cells, class_="pl-facts")
