"""A small data set of coloured shapes, imported once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engines.data import ImportRequest, import_dataset
from engines.store import Dataset, Workspace

COLOURS = {
    "blue thing": (40, 60, 200),
    "green thing": (40, 170, 60),
    "grey thing": (120, 120, 120),
    "red thing": (200, 40, 40),
}


def draw(colour: tuple[int, int, int], seed: int) -> Image.Image:
    """A noisy disc of `colour` on a light ground."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:48, :48]
    centre, radius = rng.uniform(18, 30, 2), rng.uniform(9, 16)
    disc = ((y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2)[..., None]
    picture = np.where(disc, colour, 225) + rng.normal(0, 12, (48, 48, 3))
    return Image.fromarray(picture.clip(0, 255).astype(np.uint8))


def write_shapes(folder: Path, train: int = 8, test: int = 6) -> Path:
    for c, (name, colour) in enumerate(COLOURS.items()):
        for split, count in (("train", train), ("test", test)):
            place = folder / split / name
            place.mkdir(parents=True, exist_ok=True)
            for i in range(count):
                draw(colour, 1000 * c + 100 * (split == "test") + i).save(place / f"{i}.png")
    return folder


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shapes(tmp_path_factory.mktemp("shapes") / "shapes")


@pytest.fixture(scope="module")
def ws(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    workspace = Workspace.open(tmp_path_factory.mktemp("runs") / "clinic")
    import_dataset(workspace, ImportRequest(source=str(shapes)))
    yield workspace
    workspace.close()


@pytest.fixture(scope="module")
def dataset_id(ws: Workspace) -> int:
    with ws.session() as session:
        return session.query(Dataset).one().id
