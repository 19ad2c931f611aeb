"""A workspace for every test, and small pictures to fill it with."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import func, select

from engines.data import ImportReport, ImportRequest, import_dataset
from engines.store import Dataset, Sample, Workspace


def encode(image: Image.Image, format: str = "PNG", **how: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **how)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def picture() -> Callable[..., bytes]:
    """picture(7) -> an image file that differs from picture(8)."""

    def make(number: int = 0, size: tuple[int, int] = (12, 10), format: str = "PNG", **how: Any) -> bytes:
        pixels = np.random.default_rng(number).integers(0, 255, (size[1], size[0], 3), np.uint8)
        return encode(Image.fromarray(pixels), format, **how)

    return make


@pytest.fixture
def tree(tmp_path: Path, picture: Callable[..., bytes]) -> Callable[..., Path]:
    """tree({"cats": 3, "train/dogs": 2}) -> a folder with so many different pictures in each sub-folder."""

    def make(folders: dict[str, int], name: str = "pets", first: int = 0) -> Path:
        root, number = tmp_path / name, first
        root.mkdir(exist_ok=True)
        for folder, count in folders.items():
            (root / folder).mkdir(parents=True, exist_ok=True)
            for _ in range(count):
                (root / folder / f"{number:03d}.png").write_bytes(picture(number))
                number += 1
        return root

    return make


@pytest.fixture
def bring_in(workspace: Workspace) -> Callable[..., ImportReport]:
    """bring_in(source, label_column="kind") -> report of an import with these options."""

    def run(source: Path, name: str | None = None, reader: str | None = None, **options: Any) -> ImportReport:
        request = ImportRequest(source=str(source), name=name, reader=reader, options=options)  # type: ignore[arg-type]
        return import_dataset(workspace, request)

    return run


@pytest.fixture
def samples(workspace: Workspace) -> Callable[[int], list[Sample]]:
    """samples(dataset_id) -> its samples by position."""

    def read(dataset_id: int) -> list[Sample]:
        with workspace.session() as session:
            rows = select(Sample).where(Sample.dataset_id == dataset_id).order_by(Sample.position)
            return list(session.scalars(rows))

    return read


@pytest.fixture
def assert_empty(workspace: Workspace) -> Callable[[], None]:
    """assert_empty() fails where an import left anything: a data set, an image, a copy or a thumbnail."""

    def check() -> None:
        with workspace.session() as session:
            assert session.scalar(select(func.count()).select_from(Dataset)) == 0
            assert session.scalar(select(func.count()).select_from(Sample)) == 0
        left = [p for name in ("media", "thumbnails") for p in workspace.folder(name).rglob("*") if p.is_file()]
        assert [p.name for p in left if p.name != ".import.lock"] == []
        assert [p.name for p in workspace.folder("media").iterdir() if p.is_dir()] == []

    return check
