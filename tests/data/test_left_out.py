"""Single files that cannot be used: each becomes a line of the report, and the rest comes in."""

from __future__ import annotations

import io
import json
import os
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from engines.data import ImportReport
from engines.store import Sample, Workspace

Picture = Callable[..., bytes]
BringIn = Callable[..., ImportReport]


def gif() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, "GIF")
    return buffer.getvalue()


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def huge(path: Path, content: bytes) -> None:
    write(path, content)
    os.truncate(path, (1 << 30) + 1)  # a sparse file: takes no room


ODD: dict[str, tuple[Callable[[Path, Picture], Any], str, str]] = {
    "empty": (lambda root, _: write(root / "cat/x.png", b""), "cat/x.png", "empty (0 bytes)"),
    "text": (lambda root, _: write(root / "cat/x.png", b"hi"), "cat/x.png", "not a PNG, JPEG, WebP, BMP or TIFF image"),
    "cut": (
        lambda root, picture: write(root / "cat/x.jpg", picture(90, (40, 40), "JPEG")[:1200]),
        "cat/x.jpg",
        "cut off: the end of the file is missing",
    ),
    "damaged": (
        lambda root, picture: write(root / "cat/x.png", picture(91)[:30]),
        "cat/x.png",
        "damaged: the pixels cannot be decoded",
    ),
    "duplicate": (
        lambda root, picture: write(root / "cat/x.png", picture(0)),
        "cat/x.png",
        "a duplicate: the same content came in already",
    ),
    "duplicate in the test set": (
        lambda root, picture: write(root / "zebra/deep/er/x.png", picture(1)),
        "zebra/deep/er/x.png",
        "a duplicate: the same content came in already",
    ),
    "too many pixels": (
        lambda root, picture: write(root / "cat/x.png", picture(92, (40, 41))),
        "cat/x.png",
        "too large: more than 0.0016 million pixels",
    ),
    "too many bytes": (
        lambda root, picture: huge(root / "cat/x.png", picture(93)),
        "cat/x.png",
        "too large: more than 1 GB",
    ),
    "gif": (lambda root, _: write(root / "cat/x.gif", gif()), "cat/x.gif", "not a PNG, JPEG, WebP, BMP or TIFF image"),
    "disguised gif": (
        lambda root, _: write(root / "cat/x.png", gif()),
        "cat/x.png",
        "not a PNG, JPEG, WebP, BMP or TIFF image",
    ),
    "archive": (
        lambda root, _: write(root / "cat/more.zip", b"PK"),
        "cat/more.zip",
        "an archive inside the source: unpack it first",
    ),
    "dicom": (
        lambda root, _: write(root / "cat/x.dcm", b"DICM"),
        "cat/x.dcm",
        "a DICOM file: import DICOM files as a folder of their own",
    ),
    "link out": (
        lambda root, picture: (
            write(root.parent / "secret.png", picture(94)),
            (root / "cat/x.png").symlink_to("../../secret.png"),
        ),
        "cat/x.png",
        "a link that leads out of the folder",
    ),
    "link to a system file": (
        lambda root, _: (root / "cat/x.png").symlink_to("/etc/passwd"),
        "cat/x.png",
        "a link that leads out of the folder",
    ),
    "linked folder out": (
        lambda root, _: (root / "dogs").symlink_to(root.parent, target_is_directory=True),
        "dogs",
        "a link that leads out of the folder",
    ),
    "folder linked to itself": (
        lambda root, _: (root / "cat/again").symlink_to(root, target_is_directory=True),
        "cat/again",
        "a link to a folder",
    ),
    "broken link": (
        lambda root, _: (root / "cat/x.png").symlink_to("gone.png"),
        "cat/x.png",
        "the file does not exist",
    ),
    "pipe": (lambda root, _: os.mkfifo(root / "cat/x.png"), "cat/x.png", "not a file"),
    "too deep": (
        lambda root, _: (root / "cat" / "/".join("d" * 45)).mkdir(parents=True),
        "cat/" + "/".join("d" * 40),
        "more than 40 folders deep",
    ),
    "listed but missing": (
        lambda root, _: write(root / "metadata.csv", b"file_name,group\ncat/000.png,1\nghost.png,2\n"),
        "ghost.png",
        "listed in the metadata table, but missing",
    ),
    "class name too long": (
        lambda root, _: write(root / "metadata.csv", f"file_name,label\ncat/000.png,{'x' * 201}\n".encode()),
        "cat/000.png",
        "the name of its class is longer than 200 characters",
    ),
    "class name of nothing": (
        lambda root, _: write(root / "metadata.csv", "file_name,label\ncat/000.png,\u202e\u200b\n".encode()),
        "cat/000.png",
        "its class has no name",
    ),
}


@pytest.mark.parametrize("case", ODD)
def test_odd_files_in_a_folder(case: str, tree: Callable[..., Path], picture: Picture, bring_in: BringIn) -> None:
    place, file, reason = ODD[case]
    root = tree({"cat": 3, "dog": 2})
    place(root, picture)
    report = bring_in(root, max_pixels=1600)
    assert [(one.file, one.reason) for one in report.left_out] == [(file, reason)]
    assert report.reasons == {reason: 1}
    assert report.seen == report.imported + 1


@pytest.mark.skipif(
    os.name == "nt" or os.uname().sysname == "Darwin", reason="needs a file system that allows such names"
)
def test_a_name_that_is_no_text(tree: Callable[..., Path], picture: Picture, bring_in: BringIn) -> None:
    root = tree({"cat": 2})
    with open(os.fsencode(root / "cat") + b"/\xff\xfe.png", "wb") as file:
        file.write(picture(95))
    report = bring_in(root)
    assert report.imported == 2
    assert report.reasons == {"its name is not valid text": 1}


def test_a_folder_inside_that_cannot_be_opened(
    tree: Callable[..., Path], bring_in: BringIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, allowed = tree({"cat": 2, "closed": 2}), os.scandir

    def scandir(path: str) -> Any:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return allowed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    report = bring_in(root)
    assert report.reasons == {"a folder that cannot be opened": 1}
    assert report.counts.keys() == {"cat"}


def test_a_file_that_cannot_be_opened(
    tree: Callable[..., Path], bring_in: BringIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, allowed = tree({"cat": 3}), os.open

    def refuse(path: Any, *arguments: Any, **more: Any) -> int:
        if str(path).endswith("001.png"):
            raise PermissionError(13, "Permission denied")
        return allowed(path, *arguments, **more)

    monkeypatch.setattr(os, "open", refuse)
    report = bring_in(root)
    assert report.reasons == {"the file cannot be opened (no permission, or the disk has a fault)": 1}
    assert report.imported == 2


def test_images_outside_the_split_folders(tree: Callable[..., Path], bring_in: BringIn) -> None:
    report = bring_in(tree({"train/cat": 2, "test/cat": 2, "more/cat": 3, "": 1}))
    assert report.reasons == {"not in a train, val or test folder": 4}
    assert report.imported == 4


def test_a_metadata_table_that_cannot_be_used(tree: Callable[..., Path], bring_in: BringIn) -> None:
    root = tree({"cat": 2, "dog": 2})
    (root / "metadata.csv").write_text("colour\nred\n")
    (root / "metadata.jsonl").write_text("{")
    report = bring_in(root)
    assert report.imported == 4
    assert any("“metadata.csv” was not used: It has no column with file names" in text for text in report.warnings)
    assert any("“metadata.jsonl” was not used" in text for text in report.warnings)


ROWS: dict[str, tuple[str, str]] = {
    "missing": ("ghost.png,cat", "the file does not exist"),
    "leads out": ("../secret.png,cat", "its path leads out of the table’s folder"),
    "leads out in disguise": ("pets/../../secret.png,cat", "its path leads out of the table’s folder"),
    "leads out by a link": ("link.png,cat", "its path leads out of the table’s folder"),
    "no file": (",cat", "the row names no file"),
    "a folder": ("folder,cat", "not a file"),
    "system folder": ("/etc,cat", "not a file"),
    "missing elsewhere": ("/nowhere/x.png,cat", "the file does not exist"),
    "endless": ("x" * 5000 + ",cat", "the row’s file name is not a valid path"),
    "no image": ("t.csv,cat", "not a PNG, JPEG, WebP, BMP or TIFF image"),
}


@pytest.mark.parametrize("case", ROWS)
def test_odd_rows_of_a_table(case: str, tmp_path: Path, picture: Picture, bring_in: BringIn) -> None:
    root = tmp_path / "table"
    write(root / "good.png", picture(1))
    write(tmp_path / "secret.png", picture(2))
    (root / "folder").mkdir()
    (root / "link.png").symlink_to("../secret.png")
    row, reason = ROWS[case]
    (root / "t.csv").write_text(f"file_name,label\ngood.png,cat\n{row}\n")
    report = bring_in(root / "t.csv")
    assert report.reasons == {reason: 1}
    assert report.imported == 1


def test_odd_entries_of_a_zip(tmp_path: Path, picture: Picture, bring_in: BringIn, workspace: Workspace) -> None:
    with zipfile.ZipFile(tmp_path / "pets.zip", "w") as archive:
        archive.writestr("cat/1.png", picture(1))
        archive.writestr("../../evil.png", picture(2))
        archive.writestr("/etc/evil.png", picture(3))
        archive.writestr("C:/evil.png", picture(4))
        archive.writestr("cat\\..\\..\\evil.png", picture(5))
        archive.writestr("cat/broken.png", picture(6, (60, 60)))
        archive.writestr("cat/empty.png", b"")
        archive.writestr("cat/nested.zip", b"PK")
        archive.writestr("__MACOSX/cat/._1.png", b"system rubbish")
        link = zipfile.ZipInfo("cat/link.png")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    data = (tmp_path / "pets.zip").read_bytes()
    content = picture(6, (60, 60))
    (tmp_path / "pets.zip").write_bytes(data.replace(content[100:120], bytes(20)))
    report = bring_in(tmp_path / "pets.zip")
    assert report.imported == 1
    assert report.reasons == {
        "a path that leads out of the archive": 4,
        "damaged inside the archive": 1,
        "empty (0 bytes)": 1,
        "an archive inside the source: unpack it first": 1,
        "a link": 1,
    }
    assert not list(tmp_path.rglob("evil*"))
    assert report.seen == 9


def test_odd_items_of_a_split_file(tmp_path: Path, picture: Picture, bring_in: BringIn) -> None:
    write(tmp_path / "coop/images/1.png", picture(1))
    write(tmp_path / "outside.png", picture(2))
    items = [["1.png", 0, "cat"], ["2.png", 0, "cat"], ["../../outside.png", 1, "dog"], ["", 1, "dog"]]
    (tmp_path / "coop/split_zhou_Pets.json").write_text(json.dumps({"train": items}))
    report = bring_in(tmp_path / "coop")
    assert report.imported == 1
    assert report.reasons == {
        "the file does not exist": 1,
        "its path leads out of the table’s folder": 1,
        "the row’s file name is not a valid path": 1,
    }
    assert "Classes without images were left out: “dog”." in report.warnings


def test_odd_labels_of_an_npz(tmp_path: Path, bring_in: BringIn) -> None:
    images = np.random.default_rng(0).integers(0, 255, (4, 28, 28, 3), np.uint8)
    np.savez(tmp_path / "bloodmnist.npz", train_images=images, train_labels=np.array([0, 7, 8, -1], np.int64))
    report = bring_in(tmp_path / "bloodmnist.npz")
    assert report.reasons == {"its label is not a class number": 2}
    assert list(report.counts) == ["basophil", "platelet"]


def test_odd_rows_of_a_saved_data_set(
    tmp_path: Path, picture: Picture, bring_in: BringIn, samples: Callable[[int], list[Sample]]
) -> None:
    write(tmp_path / "outside.png", picture(7))
    images = [
        {"bytes": picture(1), "path": None},
        None,
        {"bytes": None, "path": str(tmp_path / "outside.png")},
        {"bytes": None, "path": "gone.png"},
        {"bytes": picture(2)[:30], "path": None},
        {"bytes": picture(3), "path": None},
        {"bytes": picture(4), "path": None},
    ]
    table = pa.table({"image": images, "label": [0, 0, 0, 0, 0, -1, 2]})
    (tmp_path / "saved").mkdir()
    with pa.OSFile(str(tmp_path / "saved/a.arrow"), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table)
    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["cat", "dog"]}}
    write(tmp_path / "saved/dataset_info.json", json.dumps({"features": features}).encode())
    write(tmp_path / "saved/state.json", b'{"_data_files": [{"filename": "a.arrow"}]}')
    report = bring_in(tmp_path / "saved")
    assert report.reasons == {
        "empty (0 bytes)": 1,
        "a link that leads out of the folder": 1,
        "the file does not exist": 1,
        "damaged: the pixels cannot be decoded": 1,
        "its label is not a class number": 1,
    }
    assert [sample.split for sample in samples(report.dataset_id)] == ["train", "pool"]


def test_many_are_counted_and_the_first_named(tree: Callable[..., Path], bring_in: BringIn) -> None:
    root = tree({"cat": 2})
    for number in range(600):
        (root / "cat" / f"e{number}.png").touch()
    report = bring_in(root)
    assert report.reasons == {"empty (0 bytes)": 600}
    assert len(report.left_out) == 500
    assert report.seen == 602
