"""Synthetic scenes: one to three coloured objects, beside or above each other, on a background."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from engines.miniworld import canvas, phrases
from engines.miniworld.canvas import Floats, Masks, Pixels, column, coverage, length, uniform

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 44, 46),
    "orange": (242, 142, 34),
    "yellow": (244, 218, 56),
    "green": (44, 156, 72),
    "blue": (40, 92, 208),
    "purple": (134, 56, 168),
    "pink": (244, 140, 190),
    "brown": (124, 78, 44),
}
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring", "heart", "crescent")
RELATIONS = ("to the left of", "to the right of", "above", "below")
BACKGROUNDS: dict[str, tuple[int, int, int]] = {
    "white": (248, 248, 246),
    "grey": (168, 170, 174),
    "black": (26, 26, 30),
    "sand": (222, 200, 158),
    "grass": (126, 164, 96),
    "sky": (176, 208, 236),
}
SIZES = ("small", "large")
MOST_THINGS = 3

LEFT_OUT = frozenset(
    {
        ("red", "star"),
        ("blue", "heart"),
        ("green", "ring"),
        ("yellow", "cross"),
        ("purple", "circle"),
        ("orange", "crescent"),
        ("pink", "square"),
        ("brown", "triangle"),
        ("blue", "triangle"),
        ("red", "cross"),
    }
)
"""Pairs of colour and shape that no training picture shows."""
PAIRS = tuple(product(COLOURS, SHAPES))
SEEN = tuple(pair for pair in PAIRS if pair not in LEFT_OUT)


@dataclass(frozen=True, slots=True)
class Thing:
    """One object of a scene."""

    colour: str
    shape: str
    size: str


@dataclass(frozen=True, slots=True)
class SceneSpec:
    """One scene: the first thing stands ``relation`` the second; a third one, if any, lies on the other side."""

    things: tuple[Thing, ...]
    relation: str
    background: str


def sample(rng: np.random.Generator, pair: tuple[str, str] | None = None) -> SceneSpec:
    """Draws a scene of one thing of the given (colour, shape), or of one to three things that training may show."""
    count = 1 if pair else (1, 1, 1, 2, 2, 2, 2, 3)[rng.integers(8)]
    pairs = [pair] if pair else [SEEN[i] for i in rng.choice(len(SEEN), count, replace=False)]
    things = tuple(Thing(colour, shape, SIZES[rng.integers(2)]) for colour, shape in pairs)
    relation = RELATIONS[rng.integers(4)] if count > 1 else ""
    return SceneSpec(things, relation, list(BACKGROUNDS)[rng.integers(len(BACKGROUNDS))])


_PLACES = {"grass": "on grass", "sand": "on sand", "sky": "in the sky"}
_MIRRORED = dict(zip(RELATIONS, ("to the right of", "to the left of", "below", "above"), strict=True))


def place(spec: SceneSpec) -> str:
    """The background in words, such as “on grass”."""
    return _PLACES.get(spec.background, f"on a {spec.background} background")


def _thing_words(thing: Thing, rng: np.random.Generator) -> str:
    size = f"{thing.size} " if rng.random() < 0.25 else ""
    return f"{size}{thing.colour} {thing.shape}"


def caption(spec: SceneSpec, rng: np.random.Generator) -> str:
    """A training caption: the things, how they stand to each other, and at times the background."""
    if len(spec.things) == 1 and rng.random() < 0.5:
        return phrases.fill(f"{spec.things[0].colour} {spec.things[0].shape}", rng)
    words = [_thing_words(thing, rng) for thing in spec.things]
    listed = [phrases.with_article(word) for word in words]
    if len(words) == 2 and rng.random() < 0.75:
        swap = rng.random() < 0.5
        relation = _MIRRORED[spec.relation] if swap else spec.relation
        first, second = listed[::-1] if swap else listed
        text = f"{first} {relation} {second}"
    else:
        text = phrases.enumerate_words([listed[i] for i in rng.permutation(len(listed))])
    if rng.random() < 0.35:
        text = f"{text} {place(spec)}"
    return phrases.pick(("{}", "a photo of {}.", "a picture of {}."), rng).format(text)


def render(specs: Sequence[SceneSpec], size: int, seed: int) -> Pixels:
    """Draws scenes, [N, size, size, 3] uint8; the same scene for the same seed at every size."""
    return canvas.in_chunks(lambda *chunk: _render(*chunk)[0], specs, size, seed)


def render_with_masks(specs: Sequence[SceneSpec], size: int, seed: int) -> tuple[Pixels, Masks]:
    """The same pictures as `render`, [N, size, size, 3], and what is seen of each thing, [N, 3, size, size] bool.

    Masks are in the order of the things; those of things that a scene lacks are empty.
    """
    pictures = np.empty((len(specs), size, size, 3), dtype=np.uint8)
    masks = np.zeros((len(specs), MOST_THINGS, size, size), dtype=bool)
    for start, rng in canvas.chunks(len(specs), seed):
        chunk = slice(start, start + canvas.CHUNK)
        pictures[chunk], masks[chunk] = _render(specs[chunk], size, rng)
    return pictures, masks


_DIRECTION = {"": (0, 0), "to the left of": (-1, 0), "to the right of": (1, 0), "above": (0, -1), "below": (0, 1)}


def _render(specs: Sequence[SceneSpec], size: int, rng: np.random.Generator) -> tuple[Pixels, Masks]:
    count = len(specs)
    masks = np.zeros((count, MOST_THINGS, size, size), dtype=bool)
    planes = _background(specs, size, rng)
    direction = np.array([_DIRECTION[s.relation] for s in specs], dtype=np.float32)
    single = np.array([len(s.things) == 1 for s in specs])[:, None]
    reach = np.where(single, 0, uniform(rng, 0.42, 0.55, count, 1))
    spread = np.where(single, 0.32, 0.12).astype(np.float32)
    for number, side in enumerate((1, -1, 0)):
        chosen = np.array([i for i, s in enumerate(specs) if len(s.things) > number], dtype=np.intp)
        if not chosen.size:
            break
        centre = direction * reach * side + uniform(rng, -1, 1, count, 2) * spread
        if number == 2:  # the third thing keeps out of the line of the first two
            centre = direction[:, ::-1] * np.where(rng.random((count, 1)) < 0.5, 0.66, -0.66).astype(np.float32)
        things = [specs[i].things[number] for i in chosen]
        shrink = np.where(single, 1, 0.72).astype(np.float32)[chosen]
        planes[chosen], inside = _place(planes[chosen], things, centre[chosen], shrink, size, rng)
        masks[chosen] &= ~inside[:, None]  # later things lie on top
        masks[chosen, number] = inside
    light = uniform(rng, 0.86, 1.08, count, 1, 1, 1)
    planes = canvas.soften(planes * light, uniform(rng, 0, 0.4, count, 1, 1, 1), size)
    return canvas.develop(planes, rng), masks


def _background(specs: Sequence[SceneSpec], size: int, rng: np.random.Generator) -> Floats:
    count = len(specs)
    names = [s.background for s in specs]
    colour = np.array([BACKGROUNDS[name] for name in names], dtype=np.float32) + uniform(rng, -10, 10, count, 3)
    _, y = canvas.grid(size)
    shade = y * uniform(rng, -0.05, 0.05, count, 1, 1)
    smooth, fine = canvas.noise(rng, count, size, 0.3, 1.5), canvas.noise(rng, count, size, 3.0, 9.0)
    rough = {"sand": (0.02, 0.06), "grass": (0.06, 0.11), "sky": (0.0, 0.0)}
    soft, grainy = np.array([rough.get(name, (0.01, 0.0)) for name in names], dtype=np.float32).T
    shade = 1 + shade + column(soft) * smooth + column(grainy) * fine
    planes = colour[:, :, None, None] * shade[:, None]
    sky = canvas.where(names, "sky")
    clouds = np.clip(smooth[sky] * np.float32(0.4) - np.float32(0.2), 0, 0.7)[:, None]
    planes[sky] += (250 - planes[sky]) * clouds
    return planes


def _place(
    planes: Floats, things: Sequence[Thing], centre: Floats, shrink: Floats, size: int, rng: np.random.Generator
) -> tuple[Floats, Masks]:
    """Lays one thing with a soft shadow on each picture; also where it covers more than half of a pixel."""
    count = len(things)
    x, y = canvas.grid(size)
    low = np.array([0.26 if t.size == "small" else 0.46 for t in things], dtype=np.float32)[:, None]
    radius = (low * shrink * uniform(rng, 0.9, 1.18, count, 1))[:, :, None]
    u, v = canvas.rotate(
        (x - centre[:, 0, None, None]) / radius,
        (y - centre[:, 1, None, None]) / radius,
        uniform(rng, -0.3, 0.3, count, 1, 1),
    )
    edge = np.empty_like(u)
    shapes = [t.shape for t in things]
    for shape, distance in OUTLINES.items():
        chosen = canvas.where(shapes, shape)
        if chosen.size:
            edge[chosen] = distance(u[chosen], v[chosen])
    edge = edge * radius
    colour = np.array([COLOURS[t.colour] for t in things], dtype=np.float32) + uniform(rng, -16, 16, count, 3)
    shadow = np.float32(0.3) * np.exp(-np.maximum(edge, 0) * 12)
    gloss = 1 - np.float32(0.16) * (u + v) * np.float32(0.5)
    inside = coverage(edge, size)
    planes = planes * (1 - shadow)[:, None]
    planes = planes + (colour[:, :, None, None] * gloss[:, None] - planes) * inside[:, None]
    return planes, inside > 0.5


def _circle(u: Floats, v: Floats) -> Floats:
    return length(u, v) - np.float32(0.9)


def _square(u: Floats, v: Floats) -> Floats:
    return np.maximum(np.abs(u), np.abs(v)) - np.float32(0.78)


def _triangle(u: Floats, v: Floats) -> Floats:
    return np.maximum(np.abs(u) * np.float32(0.874) - v * np.float32(0.485), v) - np.float32(0.5)


def _star(u: Floats, v: Floats) -> Floats:
    turn = np.float32(2 * np.pi / 5)
    angle = np.abs((np.arctan2(u, -v) + turn / 2) % turn - turn / 2)
    away = length(u, v)
    return away * np.cos(angle) * np.float32(0.62) + away * np.sin(angle) * np.float32(0.78) - np.float32(0.6)


def _cross(u: Floats, v: Floats) -> Floats:
    a, b = np.abs(u), np.abs(v)
    arm = np.float32(0.28)
    return np.minimum(np.maximum(a - np.float32(0.9), b - arm), np.maximum(b - np.float32(0.9), a - arm))


def _ring(u: Floats, v: Floats) -> Floats:
    return np.abs(length(u, v) - np.float32(0.7)) - np.float32(0.21)


def _heart(u: Floats, v: Floats) -> Floats:
    a, up = np.abs(u), -v
    bump = length(a - np.float32(0.42), up - np.float32(0.34)) - np.float32(0.47)
    tip = np.maximum((a - up) * np.float32(0.7071) - np.float32(0.53), up - np.float32(0.36))
    return np.minimum(bump, np.maximum(tip, a - np.float32(0.88)))


def _crescent(u: Floats, v: Floats) -> Floats:
    return np.maximum(length(u, v) - np.float32(0.9), np.float32(0.74) - length(u - np.float32(0.44), v))


OUTLINES: dict[str, Callable[[Floats, Floats], Floats]] = dict(
    zip(SHAPES, (_circle, _square, _triangle, _star, _cross, _ring, _heart, _crescent), strict=True)
)
