"""Safe HTML. Names of classes, files and people are untrusted: all text passes `esc` on its way into a page.

Everything here returns finished, escaped markup as `Html`, and takes `Html` unchanged while it escapes plain text.
"""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import Any


class Html(str):
    """Markup that is safe to insert."""

    __slots__ = ()


def esc(text: Any) -> Html:
    """`text` as markup: escaped, unless it is markup already."""
    return text if isinstance(text, Html) else Html(html.escape(str(text), quote=True))


def join(parts: Iterable[Any], between: str = "") -> Html:
    return Html(str(esc(between)).join(esc(part) for part in parts))


def tag(name: str, /, *content: Any, **attributes: Any) -> Html:
    """An element; `class_` and `data_x` stand for `class` and `data-x`, attributes that are None or False are left out.

    >>> tag("a", "5 < 6", href="data", class_="quiet")
    '<a href="data" class="quiet">5 &lt; 6</a>'
    """
    written = []
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        key = key.rstrip("_").replace("_", "-")
        written.append(f" {key}" if value is True else f' {key}="{esc(value)}"')
    if name in ("img", "br", "hr", "input", "meta"):
        return Html(f"<{name}{''.join(written)}>")
    return Html(f"<{name}{''.join(written)}>{join(content)}</{name}>")


def table(columns: Iterable[Any], rows: Iterable[Iterable[Any]], caption: str = "", style: str = "") -> Html:
    """A plain table; columns whose name ends with ">" are numbers, aligned to the right."""
    heads = [str(column) if not isinstance(column, Html) else column for column in columns]
    right = ["num" if head.endswith(">") else None for head in heads]
    head = (
        tag("th", Html(h[:-1]) if isinstance(h, Html) and r else h.rstrip(">") if r else h, class_=r, scope="col")
        for h, r in zip(heads, right, strict=True)
    )
    body = (tag("tr", *(tag("td", cell, class_=r) for cell, r in zip(row, right, strict=True))) for row in rows)
    return tag(
        "div",
        tag(
            "table",
            tag("caption", caption) if caption else "",
            tag("thead", tag("tr", *head)),
            tag("tbody", *body),
            class_=f"pl-table {style}",
        ),
        class_="pl-scroll",
    )
