"""The sample data sets as folders on disk."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from PIL import Image

from engines.errors import DataError
from engines.miniworld import blood, fabric, samples

FEW = {"train": 2, "val": 1, "test": 3}


def read_rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metadata.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("write", "classes"), [(samples.write_blood_smear, blood.CELLS), (samples.write_fabric, fabric.DEFECTS)]
)
def test_sample_is_an_image_folder_with_metadata(tmp_path: Path, write, classes) -> None:  # type: ignore[no-untyped-def]
    seen: list[tuple[int, int]] = []
    folder = write(tmp_path / "set", FEW, size=48, progress=lambda done, total: seen.append((done, total)))
    rows = read_rows(folder)
    assert len(rows) == 6 * len(classes)
    assert seen[-1] == (len(rows), len(rows))
    assert list(rows[0]) == ["file_name", "label", "split", "domain", "group"]
    for row in rows:
        assert row["file_name"].startswith(f"{row['split']}/{row['label']}/")
        assert Image.open(folder / row["file_name"]).size == (48, 48)
    for split, count in FEW.items():
        for name in classes:
            assert len(list((folder / split / name).glob("*.png"))) == count
    described = json.loads((folder / "classes.json").read_text("utf-8"))
    assert list(described) == list(classes)
    assert all(1 <= len(sentences) <= 2 for sentences in described.values())
    assert "SYNTHETIC" in (folder / "README.txt").read_text("utf-8")


def test_slides_keep_to_one_split_and_one_stain(tmp_path: Path) -> None:
    rows = read_rows(samples.write_blood_smear(tmp_path / "set", {"train": 6, "test": 6}, size=16))
    assert {row["domain"] for row in rows} == set(blood.STAINS)
    for group in {row["group"] for row in rows}:
        mine = [row for row in rows if row["group"] == group]
        assert len({row["split"] for row in mine}) == 1
        assert len({row["domain"] for row in mine}) == 1


def test_same_seed_writes_the_same_pictures(tmp_path: Path) -> None:
    first = samples.write_blood_smear(tmp_path / "a", {"train": 1}, seed=4, size=32)
    again = samples.write_blood_smear(tmp_path / "b", {"train": 1}, seed=4, size=32)
    other = samples.write_blood_smear(tmp_path / "c", {"train": 1}, seed=5, size=32)
    name = read_rows(first)[3]["file_name"]
    pixels = [Image.open(folder / name).tobytes() for folder in (first, again, other)]
    assert pixels[0] == pixels[1]
    assert pixels[0] != pixels[2]


def test_descriptions_do_not_give_the_name_away() -> None:
    for name in blood.UNNAMED:
        assert not any(name in sentence for sentence in samples.BLOOD_DESCRIPTIONS[name])


def test_a_full_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(DataError, match="not empty"):
        samples.write_blood_smear(tmp_path, FEW)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_file_in_the_way_is_told_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError) as caught:
        samples.write_fabric(tmp_path / "file" / "set", FEW)
    assert caught.value.remedy
