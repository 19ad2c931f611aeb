"""How a blood smear is drawn: outlines, nuclei, granules, red cells, stain and scanner.

Light is absorbed as in a real stained smear (Beer-Lambert): every structure adds optical density in its own colour.
Lengths are world units; half the picture's width is about 13 micrometres.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from engines.miniworld import canvas
from engines.miniworld.blood_nuclei import nucleus_edge
from engines.miniworld.canvas import Floats, Pixels, column, coverage, length, uniform

if TYPE_CHECKING:
    from engines.miniworld.blood import BloodSpec


def _density(red: int, green: int, blue: int) -> Floats:
    """Optical density that turns white light into this colour (0..255)."""
    return -np.log(np.array([red, green, blue], dtype=np.float32) / 255)


_CYTOPLASM = {
    "pale pink": _density(236, 208, 222),
    "lilac": _density(214, 186, 220),
    "sky blue": _density(168, 196, 236),
    "grey-blue": _density(186, 190, 214),
    "deep blue": _density(100, 120, 194),
    "greyish pink": _density(212, 178, 190),
    "red": _density(226, 150, 150),
}
_RED_CELL, _NUCLEUS, _PLATELET = _density(228, 158, 158), _density(100, 52, 142), _density(150, 100, 176)
_GRANULES = {
    "coarse orange": _density(222, 104, 62),
    "coarse dark purple": _density(70, 34, 112),
    "platelets": _density(160, 108, 184),
}
_CHROMATIN = {
    "": (0.0, 0.0),
    "pale": (0.62, 0.10),
    "open": (0.74, 0.07),
    "coarse": (0.98, 0.24),
    "dense": (1.08, 0.14),
    "very dense": (1.5, 0.08),
}


@dataclass(frozen=True, slots=True)
class _Stain:
    """How a laboratory's stain and scanner change the picture."""

    background: tuple[int, int, int]
    strength: tuple[float, float]
    mix: tuple[tuple[float, float, float], ...]
    blur: tuple[float, float]
    vignette: float


_STAINS = {
    "May-Grünwald-Giemsa": _Stain((246, 241, 244), (0.92, 1.1), ((1, 0, 0), (0, 1, 0), (0, 0, 1)), (0.0, 0.35), 0.04),
    "pale Wright": _Stain(
        (236, 240, 248), (0.52, 0.7), ((1.0, 0.05, 0), (0.05, 0.92, 0), (0, 0, 0.85)), (0.1, 0.6), 0.06
    ),
    "brownish scanner": _Stain(
        (226, 208, 180), (1.1, 1.4), ((0.85, 0.1, 0.1), (0.1, 0.9, 0.1), (0.1, 0.5, 0.9)), (0.3, 1.0), 0.22
    ),
}


def draw(specs: Sequence[BloodSpec], size: int, rng: np.random.Generator) -> Pixels:
    """Draws one chunk of smears, [N, size, size, 3] uint8."""
    count = len(specs)
    x, y = canvas.grid(size)
    zoom = uniform(rng, 0.88, 1.16, count, 1, 1)
    radius = column([s.radius for s in specs])
    centre_x, centre_y = uniform(rng, -0.14, 0.14, count, 1, 1), uniform(rng, -0.14, 0.14, count, 1, 1)
    warp_x, warp_y = (canvas.noise(rng, count, size, 0.4, 1.6) * np.float32(0.016) for _ in range(2))
    local_x, local_y = canvas.rotate(
        (x - centre_x) / zoom + warp_x, (y - centre_y) / zoom + warp_y, uniform(rng, 0, 2 * np.pi, count, 1, 1)
    )
    stretch = uniform(rng, 0.94, 1.07, count, 1, 1)
    local_x, local_y = local_x * stretch, local_y / stretch

    outline = _outline(specs, local_x, local_y, radius, rng)
    cell = coverage(outline, size, 0.03)
    edge, offset_x = nucleus_edge(specs, local_x, local_y, radius, rng)
    nucleus = coverage(edge, size, 0.03)
    texture = canvas.noise(rng, count, size, 1.5, 6.0)

    layers = np.empty((count, 4, size, size), dtype=np.float32)
    layers[:, 0] = _red_cells(specs, zoom, size, rng) * (1 - coverage(outline - 0.03, size, 0.05))
    layers[:, 1] = _cytoplasm(specs, local_x, local_y, outline, texture, radius, offset_x) * cell * (1 - nucleus)
    layers[:, 2] = _chromatin(specs, local_x, local_y, texture, radius, size, rng) * nucleus
    layers[:, 3] = _granules(specs, (centre_x, centre_y), zoom, radius, size, rng)
    colours = np.stack(
        [np.stack([_RED_CELL, _CYTOPLASM[s.cytoplasm], _NUCLEUS, _GRANULES.get(s.granules, _PLATELET)]) for s in specs]
    )
    colours = colours * uniform(rng, 0.85, 1.17, count, 4, 1) * uniform(rng, 0.93, 1.08, count, 4, 3)
    return _develop(specs, layers, colours, size, rng)


def _outline(specs: Sequence[BloodSpec], x: Floats, y: Floats, radius: Floats, rng: np.random.Generator) -> Floats:
    """Signed distance of the cell of interest; far outside everywhere for platelets, which are stamps."""
    names = [s.name for s in specs]
    irregular = column([1.0 if s.nucleus == "irregular" else 0.25 for s in specs])
    distance = length(x, y)
    inverse: Floats = np.reciprocal(np.maximum(distance, np.float32(0.02)))
    cos1, sin1 = x * inverse, y * inverse
    cos2, sin2 = cos1 * cos1 - sin1 * sin1, 2 * cos1 * sin1
    wave = (cos2 * cos1 - sin2 * sin1) * np.float32(0.07) + (cos2 * cos2 - sin2 * sin2) * np.float32(0.045)
    outline = distance - radius * (1 + irregular * wave)
    oval = canvas.where(names, "plasma cell")
    if oval.size:
        outline[oval] = length(x[oval] * np.float32(0.84), y[oval] * np.float32(1.12)) - radius[oval]
    sickle = canvas.where(names, "sickle cell")
    if sickle.size:
        r, depth = radius[sickle], uniform(rng, 0.5, 0.78, len(sickle), 1, 1) * radius[sickle]
        bite = length(x[sickle] - depth, y[sickle] * np.float32(0.9)) - r
        outline[sickle] = np.maximum(length(x[sickle] * np.float32(1.1), y[sickle]) - r, -bite)
    outline[canvas.where(names, "platelet clump")] = 9
    return outline


def _cytoplasm(
    specs: Sequence[BloodSpec],
    x: Floats,
    y: Floats,
    outline: Floats,
    texture: Floats,
    radius: Floats,
    offset: Floats,
) -> Floats:
    """Relative density of the cytoplasm: granularity, halo, dark edge, vacuoles, the bull's-eye of target cells."""
    amount = column([{"fine": 0.34, "no": 0.06}.get(s.granules, 0.1) for s in specs])
    density = 1 + amount * texture

    def having(feature: str) -> NDArray[np.intp]:
        return np.array([i for i, s in enumerate(specs) if feature in s.features], dtype=np.intp)

    chosen = having("halo")
    if chosen.size:
        away = length(x[chosen] - offset[chosen] * np.float32(0.1), y[chosen]) / radius[chosen]
        density[chosen] *= 1 - np.float32(0.72) * np.exp(-((away * np.float32(2.6)) ** 2))
    chosen = having("dark edge")
    if chosen.size:
        density[chosen] *= np.float32(0.7) + np.exp(outline[chosen] * np.float32(14)) * np.float32(0.9)
    chosen = having("vacuoles")
    if chosen.size:
        density[chosen] *= 1 - np.float32(0.75) * np.clip((texture[chosen] - np.float32(1.1)) * 3, 0, 1)
    chosen = having("bull's-eye")
    if chosen.size:
        ring = length(x[chosen], y[chosen]) / radius[chosen]
        density[chosen] *= np.float32(1.25) - np.float32(1.05) * np.exp(-(((ring - np.float32(0.56)) * 6) ** 2))
    density[having("crescent")] *= np.float32(1.2)
    return np.maximum(density, 0)


def _chromatin(
    specs: Sequence[BloodSpec],
    x: Floats,
    y: Floats,
    texture: Floats,
    radius: Floats,
    size: int,
    rng: np.random.Generator,
) -> Floats:
    strength, clumps = np.array([_CHROMATIN[s.chromatin] for s in specs], dtype=np.float32).T
    density = column(strength) * (1 + column(clumps) * texture)
    chosen = np.array([i for i, s in enumerate(specs) if "nucleoli" in s.features], dtype=np.intp)
    for _ in range(2):
        if chosen.size:
            spot = uniform(rng, -0.4, 0.4, 2, len(chosen), 1, 1) * radius[chosen]
            edge = length(x[chosen] - spot[0], y[chosen] - spot[1]) - radius[chosen] * np.float32(0.14)
            density[chosen] *= 1 - np.float32(0.5) * coverage(edge, size, 0.04)
    return density


def _granules(
    specs: Sequence[BloodSpec],
    centre: tuple[Floats, Floats],
    zoom: Floats,
    radius: Floats,
    size: int,
    rng: np.random.Generator,
) -> Floats:
    """Coarse granules inside the cell, or the platelets of a clump: small grainy bodies of uneven shape."""
    number = {"coarse orange": 120, "coarse dark purple": 46, "platelets": 17}
    extent = {"coarse orange": 0.038, "coarse dark purple": 0.05, "platelets": 0.085}
    counts = np.array([number.get(s.granules, 0) for s in specs])
    owner = np.repeat(np.arange(len(specs)), counts)
    if not owner.size:
        return np.zeros((len(specs), size, size), dtype=np.float32)
    far = np.sqrt(rng.random(owner.size, dtype=np.float32)) * np.float32(0.93)
    angle = uniform(rng, 0, 2 * np.pi, owner.size)
    scale = (radius * zoom)[owner, 0, 0]
    x = centre[0][owner, 0, 0] + far * scale * np.cos(angle)
    y = centre[1][owner, 0, 0] + far * scale * np.sin(angle)
    own = np.array([extent.get(s.granules, 0) for s in specs], dtype=np.float32)[owner]
    own = (own * zoom[owner, 0, 0] * uniform(rng, 0.72, 1.25, owner.size))[:, None, None]
    oval = uniform(rng, 0.82, 1.22, owner.size)[:, None, None]
    depth = uniform(rng, 0.6, 1.1, owner.size)[:, None, None]

    def disc(dx: Floats, dy: Floats) -> Floats:
        return coverage(length(dx * oval, dy / oval) - own, size, 0.03) * depth

    return np.minimum(canvas.stamp(len(specs), size, owner, x, y, float(own.max()) * 1.22 + 0.03, disc), 1.3)


def _red_cells(specs: Sequence[BloodSpec], zoom: Floats, size: int, rng: np.random.Generator) -> Floats:
    """Red cells on a jittered hexagonal lattice, thin in the middle (biconcave), thinned out by the crowding."""
    count = len(specs)
    rows, columns = np.mgrid[-3:4, -3:4].reshape(2, -1)
    sites = rows.size
    keep = {"sparse": 0.22, "scattered": 0.5, "crowded": 0.85}
    present = rng.random((count, sites)) < np.array([keep[s.crowding] for s in specs])[:, None]
    pitch = np.float32(0.56)
    x = (
        (columns + 0.5 * (rows % 2)) * pitch
        + uniform(rng, -0.14, 0.14, count, sites)
        + uniform(rng, -0.3, 0.3, count, 1)
    )
    y = rows * pitch * np.float32(0.87) + uniform(rng, -0.14, 0.14, count, sites) + uniform(rng, -0.3, 0.3, count, 1)
    x, y = x * zoom[:, :, 0], y * zoom[:, :, 0]
    present &= (np.abs(x) < 1.35) & (np.abs(y) < 1.35)
    owner, site = np.nonzero(present)
    if not owner.size:
        return np.zeros((count, size, size), dtype=np.float32)
    own = (uniform(rng, 0.25, 0.3, owner.size) * zoom[owner, 0, 0])[:, None, None]
    flat = uniform(rng, 0.9, 1.1, owner.size)[:, None, None]
    pallor = uniform(rng, 0.5, 0.85, owner.size)[:, None, None]

    def disc(dx: Floats, dy: Floats) -> Floats:
        away = length(dx * flat, dy / flat)
        return coverage(away - own, size, 0.04) * (1 - pallor * np.exp(-((away / own * np.float32(1.9)) ** 2)))

    reach = float(own.max()) * 1.12 + 0.03
    return canvas.stamp(
        count, size, owner, x[owner, site].astype(np.float32), y[owner, site].astype(np.float32), reach, disc
    )


def _develop(
    specs: Sequence[BloodSpec], layers: Floats, colours: Floats, size: int, rng: np.random.Generator
) -> Pixels:
    """From densities to light: stain, scanner, focus, grain."""
    count = len(specs)
    stains = [_STAINS[s.stain] for s in specs]
    strength = np.array([s.strength for s in stains], dtype=np.float32)
    blur = np.array([s.blur for s in stains], dtype=np.float32)
    mix = np.array([s.mix for s in stains], dtype=np.float32)
    draw = rng.random((count, 2), dtype=np.float32)
    gain = strength[:, 0] + (strength[:, 1] - strength[:, 0]) * draw[:, 0]
    colours = np.matmul(colours, mix) * gain[:, None, None]
    density = np.matmul(colours.transpose(0, 2, 1), layers.reshape(count, 4, -1)).reshape(count, 3, size, size)
    light = np.array([s.background for s in stains], dtype=np.float32) * uniform(rng, 0.96, 1.03, count, 3)
    x, y = canvas.grid(size)
    fall = 1 - column([s.vignette for s in stains]) * ((x * x + y * y) * np.float32(0.5))
    planes = np.exp(-density) * light[:, :, None, None] * fall[:, None]
    amount = (blur[:, 0] + (blur[:, 1] - blur[:, 0]) * draw[:, 1])[:, None, None, None]
    return canvas.develop(canvas.soften(planes, amount, size), rng)
