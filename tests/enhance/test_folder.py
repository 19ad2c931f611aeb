"""A folder of photos: one bad photo does not stop the rest, and a run that was stopped goes on."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from engines.enhance.folder import Enhanced, enhance_photos
from engines.errors import ConfigError, DataError

RECIPE = {"method": "double", "strength": 1.0}


def double(pixels: np.ndarray) -> np.ndarray:
    return np.minimum(2 * pixels, 1).astype(np.float32)


@pytest.fixture
def sources(tmp_path: Path) -> list[Path]:
    (tmp_path / "in").mkdir()
    names = ["a.png", "a.bmp", "bad.jpg", "deep.tif", "z.png"]
    for name in ("a.png", "a.bmp", "z.png"):
        Image.new("RGB", (12, 12), (50, 60, 70)).save(tmp_path / "in" / name)
    (tmp_path / "in" / "bad.jpg").write_text("no photo")
    tifffile.imwrite(tmp_path / "in" / "deep.tif", np.full((12, 12), 10_000, np.uint16))
    return [tmp_path / "in" / name for name in names]


def run(sources: list[Path], folder: Path, **options: bool) -> list[Enhanced]:
    return list(enhance_photos(sources, folder, double, RECIPE, **options))


def test_all_but_the_bad_ones(sources: list[Path], tmp_path: Path) -> None:
    found = run(sources, tmp_path / "out")
    assert [e.output.name if e.output else "" for e in found] == ["a.png", "a_.png", "", "", "z.png"]
    assert "not a PNG" in found[2].problem
    assert "16 bits" in found[3].problem
    with Image.open(tmp_path / "out" / "a.png") as picture:
        assert picture.getpixel((0, 0)) == (100, 120, 140)
    card = json.loads((tmp_path / "out" / "a.json").read_text())
    assert (card["source"], card["recipe"], card["output"]) == ("a.png", RECIPE, "a.png")
    assert card["after"]["luminance"] == pytest.approx(2 * card["before"]["luminance"], rel=1e-5)
    (deep,) = run(sources[3:4], tmp_path / "out", deep_allowed=True)
    assert deep.output is not None
    assert tifffile.imread(deep.output).max() == 20_000


def test_goes_on_and_never_overwrites(sources: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(sources[:1], out)
    stamp = (out / "a.png").stat().st_mtime_ns
    again = run(sources, out)
    assert again[0].output == out / "a.png"
    assert (out / "a.png").stat().st_mtime_ns == stamp
    other = list(enhance_photos(sources[:1], out, double, RECIPE | {"strength": 0.5}))
    assert "no file is overwritten" in other[0].problem
    assert (out / "a.png").stat().st_mtime_ns == stamp
    with pytest.raises(ConfigError, match="where the originals are"):
        run(sources, tmp_path / "in")


def test_full_disk_stops_and_keeps_what_is_done(
    sources: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = enhance_photos(sources, tmp_path / "out", double, RECIPE)
    next(running)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(DataError, match="disk is full"):
            next(running)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.json", "a.png"]
