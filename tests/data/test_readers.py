"""Every way of storing a data set: what comes in is what lies there."""

from __future__ import annotations

import json
import os
import random
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select

from engines.data import ImportReport, available_readers, find_reader, load_image
from engines.data.readers.medmnist import class_names
from engines.store import Dataset, LabelClass, Sample, Workspace

Picture = Callable[..., bytes]
Tree = Callable[..., Path]
BringIn = Callable[..., ImportReport]
Samples = Callable[[int], list[Sample]]


@pytest.fixture
def labels(workspace: Workspace) -> Callable[[int], list[str | None]]:
    """labels(dataset_id) -> class name of each sample, by position."""

    def read(dataset_id: int) -> list[str | None]:
        with workspace.session() as session:
            rows = (
                select(LabelClass.name)
                .select_from(Sample)
                .join(LabelClass, Sample.class_id == LabelClass.id, isouter=True)
                .where(Sample.dataset_id == dataset_id)
                .order_by(Sample.position)
            )
            return list(session.scalars(rows))

    return read


def test_readers_are_found_by_themselves() -> None:
    readers = available_readers()
    assert {"folder", "unlabelled", "zip", "table", "coop-split", "medmnist", "hf-dataset", "dicom"} <= set(readers)
    assert all(reader.title and reader.__doc__ for reader in readers.values())


class TestFolders:
    def test_class_folders(
        self, tree: Tree, bring_in: BringIn, samples: Samples, labels: Any, workspace: Workspace
    ) -> None:
        root = tree({"dog": 3, "cat": 4, "cat/old": 1})
        report = bring_in(root)
        assert (report.reader, report.name, report.imported, report.seen) == ("folder", "pets", 8, 8)
        assert {c: sum(n.values()) for c, n in report.counts.items()} == {"cat": 5, "dog": 3}
        found = samples(report.dataset_id)
        assert [s.position for s in found] == list(range(8))
        assert [s.name for s in found] == sorted(s.name for s in found)
        assert labels(report.dataset_id) == ["cat"] * 5 + ["dog"] * 3
        assert all(Path(s.file).is_absolute() and (s.width, s.height) == (12, 10) for s in found)
        for sample in found:
            assert Path(sample.file).read_bytes() == workspace.resolve(sample.file).read_bytes()

    @pytest.mark.parametrize(
        "names", [("train", "val", "test"), ("Training", "valid", "TEST"), ("train", "dev", "testing")]
    )
    def test_split_folders(self, names: tuple[str, ...], tree: Tree, bring_in: BringIn) -> None:
        report = bring_in(tree({f"{name}/{c}": n for n, name in enumerate(names, 2) for c in ("cat", "dog")}))
        assert report.counts == {c: {"train": 2, "val": 3, "test": 4} for c in ("cat", "dog")}
        assert report.warnings == []

    def test_a_class_may_be_called_test(self, tree: Tree, bring_in: BringIn) -> None:
        assert set(bring_in(tree({"test": 2, "control": 2})).counts) == {"test", "control"}

    def test_a_folder_around_the_classes(self, tree: Tree, bring_in: BringIn) -> None:
        assert set(bring_in(tree({"data/images/cat": 2, "data/images/dog": 2})).counts) == {"cat", "dog"}

    def test_images_without_folders_have_no_label(self, tree: Tree, bring_in: BringIn, samples: Samples) -> None:
        report = bring_in(tree({"": 3}))
        assert report.counts == {"(no label)": {"pool": 3}}
        assert {(s.split, s.class_id) for s in samples(report.dataset_id)} == {("pool", None)}

    def test_sub_folders_that_mean_nothing(self, tree: Tree, bring_in: BringIn) -> None:
        report = bring_in(tree({"monday": 2, "tuesday": 1}), reader="unlabelled")
        assert report.counts == {"(no label)": {"pool": 3}}

    def test_metadata_csv(self, tree: Tree, bring_in: BringIn, samples: Samples, labels: Any) -> None:
        root = tree({"a": 2, "b": 2})
        (root / "metadata.csv").write_text(
            "\ufefffile_name;Label;Split;Site;Patient ID\n"
            "a/000.png;cat;train;north;p1\na/001.png;dog;Test;south;p2\n./b/002.png;cat;validation;;\n",
            "utf-8",
        )
        report = bring_in(root, domain_column="Site")
        found = samples(report.dataset_id)
        assert labels(report.dataset_id) == ["cat", "dog", "cat", "b"]
        assert [(s.split, s.domain, s.group) for s in found] == [
            ("train", "north", "p1"),
            ("test", "south", "p2"),
            ("val", "", ""),
            ("train", "", ""),
        ]

    def test_metadata_jsonl_in_each_split(self, tree: Tree, bring_in: BringIn, labels: Any) -> None:
        root = tree({"train": 2, "test": 1})
        for split, names in (("train", ("000", "001")), ("test", ("002",))):
            rows = [json.dumps({"file_name": f"{name}.png", "label": f"kind {name}"}) for name in names]
            (root / split / "metadata.jsonl").write_text("\n".join(rows))
        report = bring_in(root)
        assert labels(report.dataset_id) == ["kind 002", "kind 000", "kind 001"]
        assert report.counts["kind 002"] == {"test": 1}

    def test_descriptions(self, tree: Tree, bring_in: BringIn, workspace: Workspace) -> None:
        root = tree({"dog": 2, "cat": 2, "ant": 2})
        (root / "classes.json").write_text(json.dumps({"dog": ["it barks"], "cat": ["it purrs", "it scratches"]}))
        report = bring_in(root)
        with workspace.session() as session:
            classes = session.get_one(Dataset, report.dataset_id).classes
            assert [(c.name, c.position, c.descriptions) for c in classes] == [
                ("dog", 0, ["it barks"]),
                ("cat", 1, ["it purrs", "it scratches"]),
                ("ant", 2, []),
            ]

    def test_numbers_are_sorted_as_numbers(self, tree: Tree, bring_in: BringIn) -> None:
        assert list(bring_in(tree({"10": 2, "9": 2, "-1": 2})).counts) == ["-1", "9", "10"]
        assert list(bring_in(tree({"10": 2, "9": 2, "x": 2}, "mixed", 50)).counts) == ["10", "9", "x"]

    def test_every_format_and_ending(self, tmp_path: Path, picture: Picture, bring_in: BringIn) -> None:
        (tmp_path / "cats").mkdir()
        for number, (ending, format) in enumerate(
            [
                ("PNG", "PNG"),
                ("JPG", "JPEG"),
                ("jpeg", "JPEG"),
                ("webp", "WEBP"),
                ("bmp", "BMP"),
                ("tif", "TIFF"),
                ("TIFF", "TIFF"),
            ]
        ):
            (tmp_path / "cats" / f"{number}.{ending}").write_bytes(picture(number, format=format))
        (tmp_path / "cats" / "without-an-ending").write_bytes(picture(50))
        assert bring_in(tmp_path / "cats").imported == 8


class TestNames:
    ODD = (
        "läuse & flöhe",
        "猫",
        "🐈‍⬛ cat",
        "<script>alert(1)</script>".replace("/", "∕"),
        '"quoted"',
        "a'b; --",
        " padded ",
    )

    def test_odd_class_names_stay_text(self, tree: Tree, bring_in: BringIn) -> None:
        report = bring_in(tree(dict.fromkeys(self.ODD, 2)))
        assert set(report.counts) == {name.strip() for name in self.ODD}

    def test_one_way_to_write_an_umlaut(self, tmp_path: Path, picture: Picture, bring_in: BringIn) -> None:
        rows = ["file_name,label"]
        for number, label in enumerate(("Lu\u0308se", "L\u00fcse", "L\u00fc\u202ese", " L\u00fcse\t", "tab\there")):
            (tmp_path / f"{number}.png").write_bytes(picture(number))
            rows.append(f"{number}.png,{label}")
        (tmp_path / "t.csv").write_text("\n".join(rows), "utf-8")
        report = bring_in(tmp_path / "t.csv")
        assert {c: sum(n.values()) for c, n in report.counts.items()} == {"Lüse": 4, "tab here": 1}

    def test_slashes_and_markup_in_a_table(self, tmp_path: Path, picture: Picture, bring_in: BringIn) -> None:
        (tmp_path / "a.png").write_bytes(picture(1))
        (tmp_path / "b.png").write_bytes(picture(2))
        (tmp_path / "t.csv").write_text("file_name,label\na.png,../../etc\nb.png,<b>x</b>\n")
        assert set(bring_in(tmp_path / "t.csv").counts) == {"../../etc", "<b>x</b>"}

    def test_long_names_are_shortened_and_stay_different(
        self, tmp_path: Path, picture: Picture, bring_in: BringIn, samples: Samples
    ) -> None:
        folder = tmp_path / "/".join(["long" * 40] * 5)
        folder.mkdir(parents=True)
        for number in range(2):
            (folder / f"{number}.png").write_bytes(picture(number))
        rows = [f"{folder}/{number}.png,cat,{'g' * 300}{number}" for number in range(2)]
        (tmp_path / "t.csv").write_text("file_name,label,group\n" + "\n".join(rows))
        found = samples(bring_in(tmp_path / "t.csv").dataset_id)
        assert len({s.name for s in found}) == 2
        assert len({s.group for s in found}) == 2
        assert all(len(s.name) == 500 and len(s.group) == 200 for s in found)


class TestTables:
    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("t.csv", "image_path,class\n{0},cat\n{1},dog\n"),
            ("t.csv", "Path;Diagnosis\r\n{0};cat\r\n{1};dog\r\n"),
            ("t.csv", 'file_name,label\n"{0}","cat"\n\n"{1}","dog"\n'),
            ("t.tsv", "file\tlabel\n{0}\tcat\n{1}\tdog\n"),
            ("t.jsonl", '{{"file_name": "{0}", "label": "cat"}}\n{{"file_name": "{1}", "label": "dog"}}\n'),
        ],
    )
    def test_columns_and_delimiters(self, name: str, text: str, tree: Tree, bring_in: BringIn, labels: Any) -> None:
        root = tree({"images": 2})
        (root / name).write_text(text.format("images/000.png", "images/001.png"))
        report = bring_in(root / name)
        assert labels(report.dataset_id) == ["cat", "dog"]
        assert report.reader == "table"

    @pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
    def test_encodings(self, encoding: str, tree: Tree, bring_in: BringIn, labels: Any) -> None:
        root = tree({"": 1})
        (root / "t.csv").write_text("file_name,label\n000.png,Käfer\n", encoding)
        assert labels(bring_in(root / "t.csv").dataset_id) == ["Käfer"]

    def test_endings_may_be_left_out_and_places_absolute(self, tree: Tree, bring_in: BringIn, labels: Any) -> None:
        root = tree({"a": 1, "b": 1})
        (root / "t.csv").write_text(f"image_id,dx\na/000,mel\n{root}/b/001.png,nv\n")
        assert labels(bring_in(root / "t.csv").dataset_id) == ["mel", "nv"]

    def test_options_name_the_columns(self, tree: Tree, bring_in: BringIn, samples: Samples) -> None:
        root = tree({"deep/images": 2})
        (root / "t.csv").write_text("where,what,file_name\n000.png,cat,x\n001.png,dog,y\n")
        report = bring_in(root / "t.csv", path_column="where", label_column="what", images_folder="deep/images")
        assert report.imported == 2

    def test_parquet(self, tree: Tree, bring_in: BringIn, labels: Any, samples: Samples) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        root = tree({"": 3})
        columns = {"file_name": [f"{n:03d}.png" for n in range(3)], "label": [1.0, 2.0, None], "fold": ["train"] * 3}
        parquet.write_table(pa.table(columns), root / "t.parquet")
        report = bring_in(root / "t.parquet")
        assert labels(report.dataset_id) == ["1", "2", None]

    def test_parquet_with_the_images_inside(
        self, tmp_path: Path, picture: Picture, bring_in: BringIn, labels: Any
    ) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        cells = [{"bytes": picture(n), "path": f"{n}.png"} for n in range(3)]
        described = {
            "info": {"features": {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["b", "a"]}}}
        }
        table = pa.table({"image": cells, "label": [1, 0, 1]})
        parquet.write_table(
            table.replace_schema_metadata({"huggingface": json.dumps(described)}), tmp_path / "t.parquet"
        )
        report = bring_in(tmp_path / "t.parquet")
        assert labels(report.dataset_id) == ["a", "b", "a"]
        assert list(report.counts) == ["b", "a"]


class TestZip:
    @pytest.mark.parametrize("wrapper", ["", "pets/", "around/"])
    def test_tree(
        self, wrapper: str, tmp_path: Path, picture: Picture, bring_in: BringIn, samples: Samples, workspace: Workspace
    ) -> None:
        with zipfile.ZipFile(tmp_path / "pets.zip", "w") as archive:
            for number, folder in enumerate(["train/cat", "train/dog", "test/cat", "test/dog"]):
                archive.writestr(f"{wrapper}{folder}/{number}.png", picture(number))
            archive.writestr(f"{wrapper}README.txt", "pets")
        report = bring_in(tmp_path / "pets.zip")
        assert report.counts == {"cat": {"train": 1, "test": 1}, "dog": {"train": 1, "test": 1}}
        (tmp_path / "pets.zip").unlink()
        for number, sample in enumerate(sorted(samples(report.dataset_id), key=lambda s: s.name[-5:])):
            assert sample.file.startswith("media/")
            assert workspace.resolve(sample.file).read_bytes() == picture(number)

    def test_unlabelled_images_in_a_folder_of_the_archives_name(
        self, tmp_path: Path, picture: Picture, bring_in: BringIn
    ) -> None:
        with zipfile.ZipFile(tmp_path / "scans.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("scans/1.png", picture(1))
            archive.writestr("scans/2.png", picture(2))
        assert bring_in(tmp_path / "scans.zip").counts == {"(no label)": {"pool": 2}}

    def test_an_uploaded_file_without_its_ending(self, tmp_path: Path, picture: Picture, bring_in: BringIn) -> None:
        with zipfile.ZipFile(tmp_path / "upload", "w") as archive:
            archive.writestr("cat/1.png", picture(1))
        assert bring_in(tmp_path / "upload").reader == "zip"


class TestCoOp:
    @pytest.fixture
    def split_file(self, tree: Tree) -> Path:
        """Pets as the authors of CoOp store them: images in a folder of their own, splits in an order of their own."""
        root = tree({"images/a": 6, "images/b": 6})
        names = [f"a/{n:03d}.png" for n in range(6)] + [f"b/{n:03d}.png" for n in range(6, 12)]
        items = [[name, int(name[0] == "a"), "alpaca" if name[0] == "a" else "bear"] for name in names]
        random.Random(0).shuffle(items)
        split = {"train": items[:6], "val": items[6:9], "test": items[9:]}
        (root / "split_zhou_Pets.json").write_text(json.dumps(split))
        return root / "split_zhou_Pets.json"

    @pytest.mark.parametrize("whole_folder", [True, False])
    def test_order_labels_and_splits_are_the_files(
        self, whole_folder: bool, split_file: Path, bring_in: BringIn, samples: Samples
    ) -> None:
        report = bring_in(split_file.parent if whole_folder else split_file)
        assert report.reader == "coop-split"
        assert list(report.counts) == ["bear", "alpaca"]
        expected = [
            (path, split) for split, items in json.loads(split_file.read_text()).items() for path, _, _ in items
        ]
        assert [(s.name, s.split) for s in samples(report.dataset_id)] == expected

    def test_images_elsewhere(self, split_file: Path, tmp_path: Path, bring_in: BringIn) -> None:
        moved = tmp_path / "other" / "split_Pets.json"
        moved.parent.mkdir()
        split_file.rename(moved)
        assert bring_in(moved, images_folder=str(split_file.parent / "images")).imported == 12


MEDMNIST = {
    "pathmnist": (9, 3),
    "dermamnist": (7, 3),
    "octmnist": (4, 1),
    "pneumoniamnist": (2, 1),
    "retinamnist": (5, 3),
    "breastmnist": (2, 1),
    "bloodmnist": (8, 3),
    "tissuemnist": (8, 1),
    "organamnist": (11, 1),
    "organcmnist": (11, 1),
    "organsmnist": (11, 1),
}
"""Classes and channels of the single-label sets."""


class TestMedMnist:
    @staticmethod
    def write(path: Path, classes: int, channels: int, size: int, images: int = 3) -> dict[str, np.ndarray]:
        random_numbers = np.random.default_rng(size + classes)
        arrays: dict[str, np.ndarray] = {}
        for split in ("train", "val", "test"):
            shape = (images * classes, size, size) + ((3,) if channels == 3 else ())
            arrays[f"{split}_images"] = random_numbers.integers(0, 256, shape, np.uint8)
            arrays[f"{split}_labels"] = np.arange(images * classes, dtype=np.uint8)[:, None] % classes
        np.savez_compressed(path, **arrays)
        return arrays

    @pytest.mark.parametrize("flag", MEDMNIST)
    def test_all_single_label_sets(self, flag: str, tmp_path: Path, bring_in: BringIn) -> None:
        classes, channels = MEDMNIST[flag]
        self.write(tmp_path / f"{flag}.npz", classes, channels, 28, 1)
        report = bring_in(tmp_path / f"{flag}.npz")
        assert list(report.counts) == class_names(flag)
        assert all(count == {"train": 1, "val": 1, "test": 1} for count in report.counts.values())

    @pytest.mark.parametrize("size", [28, 64, 128, 224])
    @pytest.mark.parametrize(("flag", "channels"), [("bloodmnist", 3), ("pneumoniamnist", 1)])
    def test_pixels_of_all_sizes(
        self,
        size: int,
        flag: str,
        channels: int,
        tmp_path: Path,
        bring_in: BringIn,
        samples: Samples,
        workspace: Workspace,
    ) -> None:
        file = tmp_path / (f"{flag}.npz" if size == 28 else f"{flag}_{size}.npz")
        arrays = self.write(file, 2, channels, size, 1)
        found = samples(bring_in(file).dataset_id)
        assert [(s.split, s.width, s.height) for s in found][::2] == [(s, size, size) for s in ("train", "val", "test")]
        expected = np.concatenate([arrays[f"{split}_images"] for split in ("train", "val", "test")])
        for sample, pixels in zip(found, expected, strict=True):
            image = np.asarray(load_image(workspace.resolve(sample.file)))
            assert np.array_equal(image, pixels if channels == 3 else np.repeat(pixels[..., None], 3, -1))

    def test_chest_with_single_labels(self, tmp_path: Path, bring_in: BringIn) -> None:
        images = np.random.default_rng(0).integers(0, 256, (4, 28, 28), np.uint8)
        marks = np.zeros((4, 14), np.uint8)
        marks[0, 5] = marks[1, 2] = marks[1, 3] = marks[2, 13] = 1
        np.savez(tmp_path / "chestmnist.npz", train_images=images, train_labels=marks)
        report = bring_in(tmp_path / "chestmnist.npz", multi_label="single")
        assert list(report.counts) == ["nodule", "hernia", "no finding"]
        assert report.reasons == {"several labels at once": 1}

    def test_other_sets_of_the_same_shape(self, tmp_path: Path, bring_in: BringIn) -> None:
        images = np.random.default_rng(0).integers(0, 256, (3, 16, 20, 1), np.uint8)
        np.savez(tmp_path / "mine.npz", train_images=images, train_labels=np.array([0, 2, 0]))
        report = bring_in(tmp_path / "mine.npz")
        assert list(report.counts) == ["class 0", "class 2"]
        assert report.warnings[0] == "Classes without images were left out: “class 1”."


class TestHuggingFace:
    def test_dictionary_of_splits(
        self, tmp_path: Path, picture: Picture, bring_in: BringIn, labels: Any, samples: Samples, workspace: Workspace
    ) -> None:
        datasets = pytest.importorskip("datasets")
        features = datasets.Features(
            {
                "img": datasets.Image(),
                "kind": datasets.ClassLabel(names=["dog", "cat"]),
                "patient": datasets.Value("string"),
            }
        )

        def part(first: int, count: int) -> Any:
            rows = [{"bytes": picture(first + n), "path": None} for n in range(count)]
            columns = {"img": rows, "kind": [n % 2 for n in range(count)], "patient": [f"p{n}" for n in range(count)]}
            return datasets.Dataset.from_dict(columns, features=features)

        parts = datasets.DatasetDict({"test": part(0, 2), "train": part(10, 4), "validation": part(20, 2)})
        parts.save_to_disk(tmp_path / "saved", num_shards={"test": 1, "train": 2, "validation": 1})
        report = bring_in(tmp_path / "saved")
        assert report.reader == "hf-dataset"
        assert list(report.counts) == ["dog", "cat"]
        found = samples(report.dataset_id)
        assert [s.split for s in found] == ["train"] * 4 + ["val"] * 2 + ["test"] * 2
        assert labels(report.dataset_id) == ["dog", "cat"] * 4
        assert [s.group for s in found[:4]] == ["p0", "p1", "p2", "p3"]
        assert workspace.resolve(found[0].file).read_bytes() == picture(10)

    def test_one_part_with_labels_as_text(
        self, tmp_path: Path, picture: Picture, bring_in: BringIn, labels: Any
    ) -> None:
        datasets = pytest.importorskip("datasets")
        rows = [{"bytes": picture(n), "path": None} for n in range(2)]
        found = datasets.Dataset.from_dict({"image": rows, "label": ["b", "a"]}).cast_column("image", datasets.Image())
        found.save_to_disk(tmp_path / "saved")
        report = bring_in(tmp_path / "saved", split="as-is")
        assert labels(report.dataset_id) == ["b", "a"]
        assert list(report.counts) == ["a", "b"]


def test_listing_100000_files_needs_no_second_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One directory scan for a folder, no call for a file: that is what keeps a large folder quick."""
    for folder in range(20):
        (tmp_path / f"c{folder}").mkdir()
        for number in range(50):
            (tmp_path / f"c{folder}" / f"{number}.png").touch()
    calls: Counter[str] = Counter()
    for name in ("stat", "lstat", "scandir", "listdir", "readlink"):
        original = getattr(os, name)

        def counted(*arguments: Any, name: str = name, original: Any = original, **more: Any) -> Any:
            calls[name] += 1
            return original(*arguments, **more)

        monkeypatch.setattr(os, name, counted)
    reader = find_reader(tmp_path, "folder")
    calls.clear()
    from engines.data import ImportOptions

    assert reader.read(tmp_path, ImportOptions()).total == 1000
    assert calls["scandir"] == 21
    assert calls["stat"] + calls["lstat"] + calls["listdir"] + calls["readlink"] < 30
