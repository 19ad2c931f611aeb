"""Two pictures of equal size one over the other, with a divider that mouse, touch and keyboard move."""

from __future__ import annotations

from dataclasses import dataclass

from app.components.html import Html, tag


@dataclass(frozen=True)
class Picture:
    """One side of a comparison."""

    title: str
    """Written on the picture; its alternative text, too."""
    source: str
    """Address that the page may load, `data:` included."""


def wipe(left: Picture, right: Picture, name: str, at: float = 50) -> Html:
    """Left of the divider `left` is seen, right of it `right`.

    The divider stays where it was when the HTML is drawn again under the same `name` (moved by `static/wipe.js`).

    Args:
        name: what the two show; the divider is called so, and no two on a page share it.
        at: where the divider is until it is moved, in percent from the left.
    """
    label = f"{name}: divider between {left.title} and {right.title}"
    return tag(
        "figure",
        tag(
            "div",
            tag("div", tag("img", src=left.source, alt=left.title, draggable="false"), class_="pl-wipe-layer"),
            tag("div", tag("img", src=right.source, alt=right.title, draggable="false"), class_="pl-wipe-layer right"),
            tag("i", class_="pl-wipe-divider", aria_hidden="true"),
            tag("span", left.title, class_="pl-wipe-title", aria_hidden="true"),
            tag("span", right.title, class_="pl-wipe-title right", aria_hidden="true"),
            tag("input", type="range", min=0, max=100, step="any", value=at, aria_label=label, title="Drag to compare"),
            class_="pl-wipe-stage",
        ),
        class_="pl-wipe",
        style=f"--pl-wipe: {at:g}%",
        data_wipe=name,
    )
