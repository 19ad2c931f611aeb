"""Line drawings, so that no icon font or picture has to be fetched: 24 units square, drawn in the text's colour."""

from __future__ import annotations

from collections.abc import Iterable

from app.components.html import Html

PATHS = {
    "start": "M3 11l9-8 9 8M5 10v10h5v-6h4v6h5V10",
    "data": "M4 5h16v14H4zM4 15l5-5 4 4 3-3 4 4M15.5 9a.5.5 0 1 0 .01 0",
    "label": "M4 12V4h8l9 9-8 8zM8 8h.01",
    "train": "M4 19l5-7 4 4 7-10M15 6h5v5",
    "runs": "M4 20V10M10 20V4M16 20v-7M21 20H3",
    "compare": "M12 3v18M5 7h4v10H5zM15 10h4v7h-4z",
    "shift": "M5 17a2 2 0 1 0 .01 0M18 5a2 2 0 1 0 .01 0M8 16l7-7M15 13V9h-4",
    "leakage": "M12 3c4 5 6 8 6 11a6 6 0 0 1-12 0c0-3 2-6 6-11z",
    "golden-noise": "M12 3l2.5 6 6.5.5-5 4.2 1.6 6.3L12 16.5 6.4 20 8 13.7 3 9.5 9.5 9z",
    "backlit": "M12 7a5 5 0 1 0 .01 0M12 1v3M12 20v3M1 12h3M20 12h3M4 4l2 2M18 18l2 2M4 20l2-2M18 6l2-2",
    "present": "M3 4h18v12H3zM12 16v4M8 20h8",
    "jobs": "M4 6h16M4 12h10M4 18h13M18 10l3 2-3 2z",
    "page": "M6 3h9l4 4v14H6zM15 3v4h4",
    "theme": "M20 14A8.5 8.5 0 0 1 10 4a8.5 8.5 0 1 0 10 10z",
    "help": "M12 21a9 9 0 1 0-.01 0M9.5 9.5a2.5 2.5 0 1 1 3.6 2.2c-.8.4-1.1.9-1.1 1.8M12 16.5h.01",
    "close": "M6 6l12 12M18 6L6 18",
    "folder": "M3 6h6l2 2h10v11H3z",
    "up": "M12 19V5M6 11l6-6 6 6",
    "loupe": "M10.5 3a7.5 7.5 0 1 0 .01 0M16 16l5 5",
    "check": "M5 13l4 4L19 7",
}


def icon(name: str, size: int = 20) -> Html:
    """The drawing called `name` (a blank page where there is none)."""
    path = PATHS.get(name, PATHS["page"])
    return Html(
        f'<svg class="pl-icon" width="{size}" height="{size}" viewBox="0 0 24 24" fill="none" stroke="currentColor"'
        f' stroke-width="1.75" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true"><path d="{path}"/>'
        "</svg>"
    )


def picture(body: str, width: int = 220, height: int = 120) -> Html:
    """A larger drawing for empty states, from our own constant markup."""
    return Html(
        f'<svg class="pl-picture" width="{width}" height="{height}" viewBox="0 0 {width} {height}" fill="none"'
        f' stroke="currentColor" stroke-width="2" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true">'
        f"{body}</svg>"
    )


def _tiles() -> str:
    squares = []
    for row in range(2):
        for column in range(4):
            x, y = 18 + 48 * column, 12 + 50 * row
            squares.append(f'<rect x="{x}" y="{y}" width="40" height="40" rx="6"/>')
            squares.append(f'<circle class="accent" cx="{x + 20}" cy="{y + 20}" r="{6 + (3 * column + 5 * row) % 7}"/>')
    return "".join(squares)


GALLERY = picture(_tiles())


def _columns(places: Iterable[tuple[int, int]]) -> str:
    return "".join(f'<rect x="{x}" y="{108 - high}" width="28" height="{high}" rx="4"/>' for x, high in places)


BARS = picture(
    f'<path d="M20 108H204"/>{_columns([(36, 42), (78, 60)])}<g class="accent">{_columns([(120, 78), (162, 94)])}</g>'
)
QUEUE = picture(
    '<rect x="20" y="16" width="180" height="20" rx="6"/><rect x="20" y="50" width="180" height="20" rx="6"/>'
    '<rect x="20" y="84" width="180" height="20" rx="6"/><path class="accent" d="M30 26h96M30 60h44"/>'
)
