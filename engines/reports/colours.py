"""Colours with a fixed meaning: grey is the ready-made prompt, the others are Okabe and Ito's series."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

READY_MADE = "#6B7280"
BLUE, VERMILION, GREEN, PURPLE, AMBER, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
OKABE_ITO = (BLUE, VERMILION, GREEN, PURPLE, AMBER, SKY)
OWN_COLOURS = {"zero-shot": READY_MADE, "coop": BLUE, "linear-probe": AMBER, "cocoop": VERMILION, "maple": GREEN}


def method_colour(method: str) -> str:
    """The colour of a method on every page; grey is the ready-made prompt's alone."""
    return OWN_COLOURS.get(method) or OKABE_ITO[zlib.crc32(method.encode()) % len(OKABE_ITO)]


def distinct_colours(methods: Sequence[str]) -> list[str]:
    """The methods' own colours for results that stand side by side; another one where two would look the same."""
    found: list[str] = []
    for method in methods:
        own = method_colour(method)
        found.append(own if own not in found else next((c for c in OKABE_ITO if c not in found), own))
    return found
