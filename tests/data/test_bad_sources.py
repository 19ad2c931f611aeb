"""Sources that cannot be imported at all: each gets a clear sentence, and nothing is left in the workspace."""

from __future__ import annotations

import json
import os
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from engines.data import ImportReport, ImportRequest, import_dataset
from engines.data import dicom as dicom_pixels
from engines.errors import DataError
from engines.store import Workspace

Picture = Callable[..., bytes]


class Maker:
    """Makes one bad source in `place`; each method returns (source, options)."""

    def __init__(self, place: Path, picture: Picture) -> None:
        self.place, self.picture = place, picture

    def file(self, name: str, content: bytes | str = b"") -> Path:
        path = self.place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def npz(self, name: str = "bloodmnist.npz", **arrays: Any) -> Path:
        usual: dict[str, Any] = {
            "train_images": np.zeros((2, 28, 28, 3), np.uint8),
            "train_labels": np.zeros((2, 1), np.uint8),
        }
        np.savez(self.place / name, **{key: value for key, value in (usual | arrays).items() if value is not None})
        return self.place / name

    def split_file(self, content: Any) -> Path:
        return self.file("split_zhou_Pets.json", json.dumps(content))

    def saved(self, columns: dict[str, list[Any]], name: str = "saved", **state: Any) -> Path:
        """A data set as `datasets.save_to_disk` writes it."""
        import pyarrow as pa

        table = pa.table(columns)
        (self.place / name).mkdir()
        with (
            pa.OSFile(str(self.place / name / "data.arrow"), "wb") as file,
            pa.ipc.new_stream(file, table.schema) as out,
        ):
            out.write_table(table)
        self.file(f"{name}/state.json", json.dumps({"_data_files": [{"filename": "data.arrow"}]} | state))
        return self.place / name

    def cut(self, path: Path, keep: float) -> Path:
        os.truncate(path, int(path.stat().st_size * keep))
        return path


def lying_header(make: Maker) -> Path:
    """An array whose header claims a million images."""
    path = make.npz()
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    images, labels = members["train_images.npy"], members["train_labels.npy"]
    members["train_images.npy"] = images.replace(b"(2, 28, 28, 3), }      ", b"(1000000, 28, 28, 3), }")
    members["train_labels.npy"] = labels.replace(b"(2, 1), }      ", b"(1000000, 1), }")
    assert members["train_images.npy"] != images
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def zipped(make: Maker, files: dict[str, bytes]) -> Path:
    path = make.place / "pets.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def bomb(make: Maker) -> Path:
    """A small file that says it unpacks to 10 GB."""
    path = make.place / "pets.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(20):
            archive.writestr(f"cat/{number}.bmp", bytes(1 << 20))
            archive.filelist[-1].file_size = 512 << 20
    return path


def overlapping(make: Maker) -> Path:
    """Many entries that share one content, as the most compact ZIP bombs have."""
    path = make.place / "pets.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("cat/1.png", make.picture(1, (60, 60)))
        archive.filelist *= 50
    return path


def encrypted(make: Maker) -> Path:
    """A ZIP file whose entries say that they need a password."""
    path = zipped(make, {"cat/1.png": make.picture()})
    data = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + offset] |= 1
    path.write_bytes(data)
    return path


IMAGE = {"bytes": b"x", "path": None}
LABELS = "file_name,label\n"

BAD: dict[str, tuple[Callable[[Maker], Any], str]] = {
    # nothing that could be read
    "missing": (lambda m: m.place / "nowhere", "“.*nowhere” does not exist"),
    "nothing": (lambda m: "", "does not exist"),
    "blank": (lambda m: "   ", "does not exist"),
    "address": (lambda m: "https://example.org/cats.zip", "from this machine only"),
    "nul in the name": (lambda m: "cats\0dogs", "does not exist|cannot be opened"),
    "endless name": (lambda m: "x" * 5000, "cannot be opened|does not exist"),
    "one image": (lambda m: m.file("a.png", m.picture()), "not a kind of file that can be imported"),
    "unknown ending": (lambda m: m.file("a.xyz", "cats"), "not a kind of file .*Folder with one sub-folder per class"),
    "tar archive": (lambda m: m.file("a.tar.gz", "cats"), "archive that cannot be read.*ZIP"),
    "spreadsheet": (lambda m: m.file("a.xlsx", "cats"), "not a kind of file"),
    # folders
    "empty folder": (lambda m: m.place, "holds no images"),
    "folder of texts": (lambda m: m.file("cat/a.txt", "x").parents[1], "1 × not a PNG, JPEG"),
    "folder of damaged images": (lambda m: m.file("cat/a.png", b"\x89PNG\r\n\x1a\n").parents[1], "1 × damaged"),
    "folder of empty images": (lambda m: m.file("cat/a.png").parents[1], r"1 × empty \(0 bytes\)"),
    "folder of folders": (lambda m: m.file("a/b/c/.hidden").parents[3], "holds no images"),
    # tables
    "no class column": (
        lambda m: m.file("t.csv", "file_name,colour\na.png,red\n"),
        "no column that is known to hold classes; its columns are: “file_name”, “colour”.*label_column",
    ),
    "no file column": (lambda m: m.file("t.csv", "colour,label\nred,cat\n"), "hold file names.*path_column"),
    "named column is missing": (
        lambda m: (m.file("t.csv", LABELS), {"label_column": "kind"}),
        "no column “kind”. It has: “file_name”, “label”",
    ),
    "empty table": (lambda m: m.file("t.csv"), "cannot be read: empty"),
    "blank table": (lambda m: m.file("t.csv", "\n\n"), "its columns are: none"),
    "table without rows": (lambda m: m.file("t.csv", LABELS), "holds no images"),
    "binary table": (lambda m: m.file("t.csv", bytes(range(256)) * 20), "damaged or not what its ending says"),
    "all files missing": (
        lambda m: m.file("t.csv", LABELS + "a.png,cat\nb.png,dog\n"),
        "2 × the file does not exist.*images_folder",
    ),
    "images folder is missing": (
        lambda m: (m.file("t.csv", LABELS + "a.png,cat\n"), {"images_folder": "pictures"}),
        "“pictures”, does not exist",
    ),
    "10,001 classes in a table": (
        lambda m: m.file("t.csv", LABELS + "".join(f"a.png,c{n}\n" for n in range(10_001))),
        "more than 10,000 classes",
    ),
    "endless cell": (lambda m: m.file("t.csv", LABELS + f"a.png,{'x' * 2_000_000}\n"), "damaged or not"),
    "broken lines": (lambda m: m.file("t.jsonl", '{"file_name": "a.png"}\n{"file'), "damaged or not"),
    "lines of lists": (lambda m: m.file("t.jsonl", "[1]\n"), "damaged or not"),
    "broken parquet": (lambda m: m.file("t.parquet", "PAR1 nonsense PAR1"), "damaged or no Parquet file"),
    "window without a width": (
        lambda m: (m.file("a/1.dcm", bytes(128) + b"DICM").parents[1], {"window_center": 40.0}),
        "needs a centre and a width",
    ),
    # ZIP files
    "not a zip": (lambda m: m.file("pets.zip", "hello"), "not a ZIP file, or its end is missing"),
    "cut zip": (lambda m: m.cut(zipped(m, {"cat/1.png": m.picture(size=(99, 99))}), 0.6), "its end is missing"),
    "empty zip": (lambda m: zipped(m, {}), "holds no images"),
    "zip of a zip": (lambda m: zipped(m, {"cats.zip": b"PK"}), "an archive inside the source"),
    "zip bomb": (bomb, "was refused: it would unpack"),
    "overlapping entries": (overlapping, "was refused: it would unpack"),
    "password": (encrypted, "1 × protected by a password"),
    "10,001 class folders": (
        lambda m: zipped(m, {f"c{n}/a.png": b"" for n in range(10_001)}),
        "more than 10,000 classes",
    ),
    "zip slip only": (lambda m: zipped(m, {"../../evil.png": m.picture()}), "a path that leads out of the archive"),
    # MedMNIST
    "npz that is no zip": (lambda m: m.file("bloodmnist.npz", "x"), "not a ZIP file"),
    "npz of something else": (
        lambda m: m.npz(train_images=None, train_labels=None, weights=np.zeros(3)),
        "holds no train_images",
    ),
    "npz without labels": (lambda m: m.npz(train_labels=None), "holds no train_labels"),
    "npz of objects": (lambda m: m.npz(train_labels=np.array([{}, []], object)), "holds objects"),
    "npz of volumes": (lambda m: m.npz(train_images=np.zeros((2, 28, 28, 28, 1), np.uint8)), "3D sets cannot"),
    "npz of fractions": (lambda m: m.npz(train_images=np.zeros((2, 28, 28))), "holds float64"),
    "npz of 16 bits": (lambda m: m.npz(train_images=np.zeros((2, 28, 28), np.uint16)), "uint16"),
    "npz in column order": (
        lambda m: m.npz(train_images=np.asfortranarray(np.zeros((2, 28, 28), np.uint8))),
        "in column order",
    ),
    "npz of unequal lengths": (lambda m: m.npz(train_labels=np.zeros((3, 1), np.uint8)), "2 images but 3 labels"),
    "npz of no size": (lambda m: m.npz(train_images=np.zeros((2, 0, 28), np.uint8)), "28 × 0 pixels"),
    "npz with two-dimensional nonsense": (lambda m: m.npz(train_labels=np.zeros((2, 1, 1), np.uint8)), "has the shape"),
    "cut npz": (lambda m: m.cut(m.npz(), 0.5), "not a ZIP file, or its end is missing"),
    "lying header": (lying_header, "is cut off: the end of train_"),
    "several labels at once": (
        lambda m: m.npz("chestmnist.npz", train_labels=np.ones((2, 14), np.uint8)),
        "several labels at once.*multi_label",
    ),
    # CoOp's split files
    "broken json": (lambda m: m.file("split_a.json", '{"train": ['), "is not a split file"),
    "other json": (lambda m: m.split_file([1, 2]), "is not a split file"),
    "json without splits": (lambda m: m.split_file({"images": []}), "is not a split file"),
    "short items": (lambda m: m.split_file({"train": [["a.png", 0]]}), "is not a split file"),
    "label as text": (lambda m: m.split_file({"train": [["a.png", "0", "cat"]]}), "is not a split file"),
    "deep json": (lambda m: m.file("split_a.json", "[" * 100_000), "is not a split file"),
    "empty json": (lambda m: m.file("split_a.json"), "cannot be read: empty"),
    "contradiction": (
        lambda m: m.split_file({"train": [["a.png", 0, "cat"]], "test": [["b.png", 0, "dog"]]}),
        "label 0 is both “cat” and “dog”",
    ),
    "images elsewhere": (lambda m: m.split_file({"train": [["a.png", 0, "cat"]]}), "does not exist.*images_folder"),
    # Hugging Face
    "no splits": (lambda m: m.file("dataset_dict.json", "{}").parent, "names no splits"),
    "splits that lead out": (lambda m: m.file("dataset_dict.json", '{"splits": ["../x"]}').parent, "names no splits"),
    "broken description": (lambda m: m.file("state.json", "{").parent, "missing or damaged"),
    "no data files": (lambda m: m.file("state.json", "{}").parent, "names no data files"),
    "files that lead out": (
        lambda m: m.file("state.json", '{"_data_files": [{"filename": "../a.arrow"}]}').parent,
        "names no data files",
    ),
    "missing arrow file": (
        lambda m: m.file("state.json", '{"_data_files": [{"filename": "a.arrow"}]}').parent,
        "“a.arrow” is missing or damaged",
    ),
    "cut arrow file": (
        lambda m: m.cut(m.saved({"image": [IMAGE], "label": [0]}) / "data.arrow", 0.4).parent,
        "damaged",
    ),
    "no images": (lambda m: m.saved({"text": ["a"], "label": [0]}), "no column with images; .*“text”, “label”"),
    "two image columns": (
        lambda m: m.saved({"left": [IMAGE], "right": [IMAGE], "label": [0]}),
        "Several columns hold images.*“left”, “right”.*path_column",
    ),
    "old selection": (
        lambda m: m.saved({"image": [IMAGE]}, _indices_data_files=[{"filename": "i.arrow"}]),
        "flatten_indices",
    ),
    # DICOM
    "no dicom image": (lambda m: m.file("a/1.dcm", "hello").parents[1], "not a DICOM file"),
    "cut dicom": (lambda m: m.file("a/1.dcm", bytes(128) + b"DICM").parents[1], "without an image in it"),
}


@pytest.mark.parametrize("case", BAD)
def test_clear_sentence_and_nothing_left(
    case: str,
    tmp_path: Path,
    picture: Picture,
    workspace: Workspace,
    assert_empty: Callable[[], None],
) -> None:
    make, sentence = BAD[case]
    place = tmp_path / "source"
    place.mkdir()
    made = make(Maker(place, picture))
    source, options = made if isinstance(made, tuple) else (made, {})
    with pytest.raises(DataError, match=f"(?s){sentence}") as caught:
        import_dataset(workspace, ImportRequest(source=str(source), options=options))
    assert caught.value.what[-1] in ".:"
    assert caught.value.remedy.endswith((".", "?"))
    assert "Traceback" not in str(caught.value)
    assert_empty()


def test_a_folder_that_cannot_be_opened(
    tmp_path: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, assert_empty: Callable[[], None]
) -> None:
    (tmp_path / "closed").mkdir()
    allowed = os.scandir

    def scandir(path: str) -> Any:
        if "closed" in str(path):
            raise PermissionError(13, "Permission denied", str(path))
        return allowed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(DataError, match=r"“closed” cannot be opened\. Check that you may read it"):
        import_dataset(workspace, ImportRequest(source=str(tmp_path / "closed"), reader="folder"))
    assert_empty()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("  ", "needs a name"), ("x" * 161, "longer than 160"), ("Pets", "called “Pets” already"), ("pets", "already")],
)
def test_names_that_cannot_be_given(
    name: str, sentence: str, tree: Callable[..., Path], bring_in: Callable[..., ImportReport]
) -> None:
    bring_in(tree({"cat": 2}), name="Pets")
    with pytest.raises(DataError, match=sentence):
        bring_in(tree({"dog": 2}, "others"), name=name)


def test_readers_and_options_that_do_not_exist(
    tree: Callable[..., Path], bring_in: Callable[..., ImportReport]
) -> None:
    root = tree({"cat": 2})
    with pytest.raises(DataError, match=r"no reader called “word”\. There are: .*folder"):
        bring_in(root, reader="word")
    with pytest.raises(ValidationError, match="colour"):
        bring_in(root, colour="red")
    with pytest.raises(ValidationError, match="max_pixels"):
        bring_in(root, max_pixels=0)


@pytest.mark.parametrize("reader", ["folder", "unlabelled", "zip", "medmnist", "coop-split", "table", "hf-dataset"])
def test_the_wrong_reader_for_a_file(
    reader: str, tmp_path: Path, bring_in: Callable[..., ImportReport], assert_empty: Callable[[], None]
) -> None:
    (tmp_path / "text.txt").write_text("not a data set")
    with pytest.raises(DataError):
        bring_in(tmp_path / "text.txt", reader=reader)
    assert_empty()


def test_dicom_without_pydicom(
    tmp_path: Path, bring_in: Callable[..., ImportReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "1.dcm").write_bytes(bytes(128) + b"DICM")
    dicom_pixels.pydicom.cache_clear()
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(DataError, match=r"needs the package pydicom.*promptloupe\[medical\]"):
        bring_in(tmp_path / "scans")
