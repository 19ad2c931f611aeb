"""Synthetic textiles: patterns in colours, whole or with one defect."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from engines.miniworld import canvas, phrases
from engines.miniworld.canvas import Floats, Pixels, column, coverage, length, uniform

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (186, 48, 50),
    "orange": (222, 130, 50),
    "yellow": (226, 200, 88),
    "green": (62, 132, 76),
    "blue": (52, 88, 168),
    "purple": (116, 66, 146),
    "brown": (122, 84, 56),
    "grey": (146, 146, 148),
}
PATTERNS = ("plain weave", "twill", "herringbone", "basket weave", "striped", "checked", "dotted", "ribbed")
DEFECTS = ("no defect", "hole", "stain", "pulled thread", "missing yarn", "wrinkle", "foreign fibre", "knot")

LEFT_OUT = frozenset(
    {
        ("twill", "hole"),
        ("striped", "stain"),
        ("checked", "pulled thread"),
        ("dotted", "missing yarn"),
        ("ribbed", "wrinkle"),
        ("plain weave", "foreign fibre"),
        ("basket weave", "knot"),
        ("herringbone", "stain"),
    }
)
"""Pairs of pattern and defect that no training picture shows."""
PAIRS = tuple(product(PATTERNS, DEFECTS))
SEEN = tuple(pair for pair in PAIRS if pair not in LEFT_OUT)


@dataclass(frozen=True, slots=True)
class FabricSpec:
    """One piece of cloth to draw."""

    pattern: str
    colour: str
    defect: str


DEFECT_WORDS = {defect: defect if defect == "no defect" else phrases.with_article(defect) for defect in DEFECTS}


def sample(rng: np.random.Generator, pair: tuple[str, str] | None = None) -> FabricSpec:
    """Draws a cloth of the given (pattern, defect) pair, or of one that training may show."""
    pattern, defect = pair or SEEN[rng.integers(len(SEEN))]
    return FabricSpec(pattern, list(COLOURS)[rng.integers(len(COLOURS))], defect)


def caption(spec: FabricSpec, rng: np.random.Generator) -> str:
    """A training caption: the pattern, often its colour, and the defect in words."""
    cloth = f"{spec.colour} {spec.pattern}" if rng.random() < 0.6 else spec.pattern
    draw = rng.random()
    if draw < 0.15:
        return f"{cloth} texture."
    if draw < 0.3:
        return phrases.fill(f"{cloth} fabric", rng)
    if draw < 0.45:
        return phrases.fill(f"fabric with {DEFECT_WORDS[spec.defect]}", rng)
    noun = phrases.pick(("fabric", "cloth", "textile"), rng)
    frame = phrases.pick(("{}", "a photo of {}.", "a close-up of {}."), rng)
    return frame.format(f"{phrases.with_article(cloth)} {noun} with {DEFECT_WORDS[spec.defect]}")


def render(specs: Sequence[FabricSpec], size: int, seed: int) -> Pixels:
    """Draws cloths, [N, size, size, 3] uint8; the same scene for the same seed at every size."""
    return canvas.in_chunks(_render, specs, size, seed)


def _render(specs: Sequence[FabricSpec], size: int, rng: np.random.Generator) -> Pixels:
    count = len(specs)
    patterns, defects = [s.pattern for s in specs], [s.defect for s in specs]
    x, y = canvas.grid(size)
    drape = canvas.noise(rng, count, size, 0.2, 0.7)
    u, v = canvas.rotate(x, y, uniform(rng, -0.35, 0.35, count, 1, 1))
    u, v = u + drape * np.float32(0.012), v - drape * np.float32(0.012)
    place = uniform(rng, -0.5, 0.5, 2, count, 1, 1)
    pulled = canvas.where(defects, "pulled thread")
    if pulled.size:
        away = (u[pulled] - place[0, pulled]) * 7
        v[pulled] += np.float32(0.14) * np.exp(-away * away)
    pitch = uniform(rng, 0.85, 1.2, count, 1, 1)
    shade, second = np.empty_like(u), np.zeros_like(u)
    for pattern, weave in _WEAVES.items():
        chosen = canvas.where(patterns, pattern)
        if chosen.size:
            shade[chosen], second[chosen] = weave(u[chosen] * pitch[chosen], v[chosen] * pitch[chosen], size)
    shade = 1 + shade + drape * np.float32(0.03) + canvas.noise(rng, count, size, 4, 9) * np.float32(0.03)

    base = np.array([COLOURS[s.colour] for s in specs], dtype=np.float32) + uniform(rng, -14, 14, count, 3)
    other = np.where(rng.random((count, 1)) < 0.7, 236, 40).astype(np.float32) + uniform(rng, -14, 14, count, 3)
    colour = base[:, :, None, None] + (other - base)[:, :, None, None] * second[:, None]
    planes = colour * shade[:, None]
    for defect, spoil in _DEFECTS.items():
        chosen = canvas.where(defects, defect)
        if chosen.size:
            planes[chosen] = spoil(planes[chosen], u[chosen], v[chosen], place[:, chosen], base[chosen], size, rng)
    light = uniform(rng, 0.82, 1.1, count, 1, 1) * (1 + x * uniform(rng, -0.1, 0.1, count, 1, 1))
    planes = canvas.soften(planes * light[:, None], uniform(rng, 0, 0.5, count, 1, 1, 1), size)
    return canvas.develop(planes, rng)


def _sine(phase: Floats) -> Floats:
    return np.sin(phase * np.float32(2 * np.pi))


def _plain(u: Floats, v: Floats, size: int) -> tuple[Floats, Floats]:
    return _sine(u * 5) * _sine(v * 5) * np.float32(0.22), np.zeros_like(u)


def _twill(u: Floats, v: Floats, size: int) -> tuple[Floats, Floats]:
    return _sine((u + v) * 3.4) * np.float32(0.2) + _sine((u - v) * 6) * np.float32(0.04), np.zeros_like(u)


def _herringbone(u: Floats, v: Floats, size: int) -> tuple[Floats, Floats]:
    fold = np.abs((u * np.float32(1.3)) % 1 - np.float32(0.5)) * np.float32(1.5)
    return _sine((fold + v) * 4) * np.float32(0.22), np.zeros_like(u)


def _basket(u: Floats, v: Floats, size: int) -> tuple[Floats, Floats]:
    square = np.clip(_sine(u * 1.6) * _sine(v * 1.6) * 8, -1, 1) * np.float32(0.5) + np.float32(0.5)
    return (_sine(u * 6.4) * square + _sine(v * 6.4) * (1 - square)) * np.float32(0.2), np.zeros_like(u)


def _edge(wave: Floats) -> Floats:
    return np.clip(wave * 4 + np.float32(0.5), 0, 1)


def _striped(u: Floats, v: Floats, size: int) -> tuple[Floats, Floats]:
    return _sine(v * 6) * np.float32(0.05), _edge(_sine(u * 1.9)) * np.float32(0.85)


def _checked(u: Floats, v: Floats, size: int) -> tuple[Floats, Floats]:
    second = (_edge(_sine(u * 1.7)) + _edge(_sine(v * 1.7))) * np.float32(0.44)
    return _sine((u + v) * 6) * np.float32(0.04), second


def _dotted(u: Floats, v: Floats, size: int) -> tuple[Floats, Floats]:
    row = np.floor(v * np.float32(2.4))
    across = (u * np.float32(2.4) + np.float32(0.5) * (row % 2)) % 1 - np.float32(0.5)
    down = (v * np.float32(2.4)) % 1 - np.float32(0.5)
    return _sine(u * 6) * _sine(v * 6) * np.float32(0.05), coverage(length(across, down) - 0.24, size, 0.09) * 0.9


def _ribbed(u: Floats, v: Floats, size: int) -> tuple[Floats, Floats]:
    return np.abs(_sine(u * 1.5)) * np.float32(0.55) - np.float32(0.36), np.zeros_like(u)


_WEAVES: dict[str, Callable[[Floats, Floats, int], tuple[Floats, Floats]]] = dict(
    zip(PATTERNS, (_plain, _twill, _herringbone, _basket, _striped, _checked, _dotted, _ribbed), strict=True)
)


def _blend(planes: Floats, colour: Floats, share: Floats) -> Floats:
    """Lays ``colour`` [N, 3] over the planes [N, 3, H, W] where ``share`` [N, H, W] says so."""
    return planes + (colour[:, :, None, None] - planes) * share[:, None]


def _ragged(u: Floats, v: Floats, place: Floats, radius: Floats, size: int, rng: np.random.Generator) -> Floats:
    """Signed distance of a blot with an uneven edge."""
    rough = canvas.noise(rng, len(u), size, 1.0, 4.0) * np.float32(0.05)
    return length(u - place[0], v - place[1]) - radius + rough


def _hole(
    planes: Floats, u: Floats, v: Floats, place: Floats, base: Floats, size: int, rng: np.random.Generator
) -> Floats:
    edge = _ragged(u, v, place, uniform(rng, 0.16, 0.32, len(u), 1, 1), size, rng)
    planes = planes * (1 - np.float32(0.35) * np.exp(-np.abs(edge) * 16))[:, None]
    below = np.repeat(uniform(rng, 12, 44, len(u), 1), 3, axis=1)
    return _blend(planes, below, coverage(edge, size))


def _stain(
    planes: Floats, u: Floats, v: Floats, place: Floats, base: Floats, size: int, rng: np.random.Generator
) -> Floats:
    edge = _ragged(u, v, place, uniform(rng, 0.24, 0.44, len(u), 1, 1), size, rng)
    tint = np.array([0.55, 0.45, 0.34], dtype=np.float32) * uniform(rng, 0.8, 1.25, len(u), 1)
    rim = np.exp(-np.abs(edge) * 18) * np.float32(0.15)
    share = coverage(edge, size, 0.12) * np.float32(0.8) + rim
    return planes * (1 + (tint[:, :, None, None] - 1) * share[:, None])


def _pulled_thread(
    planes: Floats, u: Floats, v: Floats, place: Floats, base: Floats, size: int, rng: np.random.Generator
) -> Floats:
    line = coverage(np.abs(u - place[0]) - np.float32(0.022), size)
    shadow = np.exp(-(((u - place[0] - np.float32(0.06)) * 16) ** 2)) * np.float32(0.4)
    return _blend(planes * (1 - shadow)[:, None], base * np.float32(0.5) + 125, line)


def _missing_yarn(
    planes: Floats, u: Floats, v: Floats, place: Floats, base: Floats, size: int, rng: np.random.Generator
) -> Floats:
    across = column(rng.random(len(u)) < 0.5)
    along = (u - place[0]) * across + (v - place[1]) * (1 - across)
    return _blend(planes, base * np.float32(0.22), coverage(np.abs(along) - np.float32(0.036), size) * np.float32(0.9))


def _wrinkle(
    planes: Floats, u: Floats, v: Floats, place: Floats, base: Floats, size: int, rng: np.random.Generator
) -> Floats:
    across, along = canvas.rotate(u, v, uniform(rng, 0.5, 2.6, len(u), 1, 1))
    fold = (across - place[0] * np.float32(0.7) + np.float32(0.09) * _sine(along * np.float32(0.7))) * 6
    bright, dark = np.exp(-((fold - np.float32(0.6)) ** 2)), np.exp(-((fold + np.float32(0.6)) ** 2))
    return planes * (1 + np.float32(0.42) * bright - np.float32(0.5) * dark)[:, None]


def _foreign_fibre(
    planes: Floats, u: Floats, v: Floats, place: Floats, base: Floats, size: int, rng: np.random.Generator
) -> Floats:
    across, along = canvas.rotate(u - place[0], v - place[1], uniform(rng, 0, 3.1, len(u), 1, 1))
    bend = across - np.float32(0.13) * _sine(along * uniform(rng, 0.7, 1.3, len(u), 1, 1))
    edge = np.maximum(np.abs(bend) - np.float32(0.03), np.abs(along) - uniform(rng, 0.35, 0.6, len(u), 1, 1))
    contrast = np.where(base.mean(axis=1, keepdims=True) > 120, 20, 245).astype(np.float32)
    return _blend(planes, np.repeat(contrast, 3, axis=1), coverage(edge, size))


def _knot(
    planes: Floats, u: Floats, v: Floats, place: Floats, base: Floats, size: int, rng: np.random.Generator
) -> Floats:
    radius = uniform(rng, 0.11, 0.17, len(u), 1, 1)
    away = length(u - place[0], v - place[1])
    shadow = length(u - place[0] - np.float32(0.06), v - place[1] - np.float32(0.06)) - radius * np.float32(1.25)
    planes = planes * (1 - np.float32(0.6) * coverage(shadow, size, 0.08))[:, None]
    return _blend(planes, base * np.float32(0.75) + 64, coverage(away - radius, size))


_DEFECTS = {
    "hole": _hole,
    "stain": _stain,
    "pulled thread": _pulled_thread,
    "missing yarn": _missing_yarn,
    "wrinkle": _wrinkle,
    "foreign fibre": _foreign_fibre,
    "knot": _knot,
}
