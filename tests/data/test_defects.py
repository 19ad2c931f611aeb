"""Images with marked defects: the layouts that are known, and what is wrong with others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from engines.data import ImportRequest, import_dataset
from engines.data.base import ImportOptions, LeftOut, Record, find_reader
from engines.data.readers.defects import DefectReader
from engines.errors import DataError
from engines.store import Sample, Workspace


def draw(file: Path, seed: int = 0, size: int = 16) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(abs(hash(str(file))) % 2**32 + seed).integers(0, 255, (size, size, 3), np.uint8)
    Image.fromarray(pixels).save(file)
    return file


def mvtec(root: Path, things: tuple[str, ...] = ("bottle", "screw")) -> Path:
    for thing in things:
        place = root / thing
        for i in range(3):
            draw(place / "train" / "good" / f"{i:03}.png")
            draw(place / "test" / "good" / f"{i:03}.png")
            draw(place / "test" / "crack" / f"{i:03}.png")
            draw(place / "ground_truth" / "crack" / f"{i:03}_mask.png")
    return root


def records(source: Path) -> list[Record]:
    return [r for r in DefectReader().read(source, ImportOptions()).records if isinstance(r, Record)]


def left_out(source: Path) -> list[str]:
    return [r.reason for r in DefectReader().read(source, ImportOptions()).records if isinstance(r, LeftOut)]


def test_many_objects(tmp_path: Path) -> None:
    source = mvtec(tmp_path / "mvtec")
    assert find_reader(source).name == "defects"
    found = records(source)
    assert len(found) == 18
    assert {r.domain for r in found} == {"bottle", "screw"}
    damaged = [r for r in found if r.label == "anomalous"]
    assert len(damaged) == 6
    assert {r.split for r in damaged} == {"test"}
    assert all(r.mask and r.mask.name == f"{Path(r.name).stem}_mask.png" for r in damaged)
    assert all(r.mask is None for r in found if r.label == "normal")


def test_one_object(tmp_path: Path) -> None:
    found = records(mvtec(tmp_path / "mvtec") / "bottle")
    assert {r.domain for r in found} == {"bottle"}
    assert len(found) == 9


def test_a_damaged_image_without_a_mask_is_kept_and_told(tmp_path: Path) -> None:
    source = mvtec(tmp_path / "mvtec", ("bottle",))
    (source / "bottle" / "ground_truth" / "crack" / "001_mask.png").unlink()
    reading = DefectReader().read(source, ImportOptions())
    assert sum(isinstance(r, Record) and r.label == "anomalous" for r in reading.records) == 3
    assert reading.warnings == ["Damaged images without a mask, which can be judged as a whole only: 1."]


def test_images_beside_masks(tmp_path: Path) -> None:
    for i in range(4):
        draw(tmp_path / "images" / f"{i}.png")
    draw(tmp_path / "masks" / "1.png")
    draw(tmp_path / "masks" / "2_mask.png")
    draw(tmp_path / "masks" / "9.png")
    assert find_reader(tmp_path).name == "defects"
    assert [r.label for r in records(tmp_path)] == ["normal", "anomalous", "anomalous", "normal"]
    assert DefectReader().read(tmp_path, ImportOptions()).warnings == ["Masks without an image of the same name: 1."]


def test_a_black_mask_marks_nothing(tmp_path: Path) -> None:
    """Many medical data sets have a mask for sound images, too."""
    for i in range(3):
        draw(tmp_path / "images" / f"{i}.png")
    (tmp_path / "masks").mkdir()
    Image.new("L", (16, 16)).save(tmp_path / "masks" / "0.png")
    draw(tmp_path / "masks" / "1.png")
    (tmp_path / "masks" / "2.png").write_bytes(b"no picture")
    found = records(tmp_path)
    assert [r.label for r in found] == ["normal", "anomalous", "anomalous"]
    assert [bool(r.mask) for r in found] == [False, True, True]


def write_meta(root: Path, *rows: Any) -> Path:
    draw(root / "a.png")
    draw(root / "b.png")
    draw(root / "b_mask.png")
    (root / "meta.json").write_text(json.dumps({"train": {}, "test": {"pipe": list(rows)}}))
    return root


def test_meta_json(tmp_path: Path) -> None:
    rows = [
        {"img_path": "a.png", "mask_path": "", "cls_name": "pipe", "specie_name": "good", "anomaly": 0},
        {"img_path": "b.png", "mask_path": "b_mask.png", "cls_name": "pipe", "specie_name": "hole", "anomaly": 1},
    ]
    found = records(write_meta(tmp_path, *rows))
    assert [(r.label, r.domain, r.split) for r in found] == [("normal", "pipe", "test"), ("anomalous", "pipe", "test")]
    assert found[1].mask == (tmp_path / "b_mask.png").resolve()
    assert find_reader(tmp_path).name == "defects"


BAD_ROWS = [
    ({"img_path": "gone.png", "anomaly": 0}, "not in the folder"),
    ({"img_path": "../a.png", "anomaly": 0}, "not in the folder"),
    ({"img_path": "b.png", "mask_path": "gone.png", "anomaly": 1}, "its mask “gone.png” is not in the folder"),
    ({"img_path": "b.png", "mask_path": "/etc/passwd", "anomaly": 1}, "its mask “/etc/passwd” is not in the folder"),
    ({"mask_path": "b_mask.png"}, "a line without img_path"),
    ("a.png", "a line without img_path"),
    (None, "a line without img_path"),
]


@pytest.mark.parametrize(("row", "reason"), BAD_ROWS)
def test_bad_lines_of_meta_json(tmp_path: Path, row: Any, reason: str) -> None:
    (tmp_path / "inner").mkdir()
    draw(tmp_path / "a.png")
    assert left_out(write_meta(tmp_path / "inner", row)) == [reason]


@pytest.mark.parametrize("content", ["", "{", "[]", "3", '{"images": []}', '{"test": []}'])
def test_another_meta_json_is_none_of_this_kind(tmp_path: Path, content: str) -> None:
    (tmp_path / "meta.json").write_text(content)
    assert not DefectReader().accepts(tmp_path)
    with pytest.raises(DataError, match="no images with marked defects"):
        DefectReader().read(tmp_path, ImportOptions())


def test_masks_reach_the_workspace(tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path / "clinic")
    report = import_dataset(workspace, ImportRequest(source=str(mvtec(tmp_path / "mvtec"))))
    assert report.imported == 18
    with workspace.session() as session:
        samples = session.query(Sample).order_by(Sample.position).all()
    marked = [s for s in samples if s.mask]
    assert len(marked) == 6
    assert all(workspace.resolve(s.mask).is_file() for s in marked)
    assert {s.domain for s in samples} == {"bottle", "screw"}
    workspace.close()
