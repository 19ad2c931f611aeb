"""Benchmarks of the literature and folders of domains: every layout, made small, and every way to point beside it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat
from sqlalchemy import select

from engines.data import ImportReport, ImportRequest, available_readers, find_reader, import_dataset
from engines.data.benchmarks import BENCHMARKS, COOP, DOMAIN_SETS, MEDICAL, Benchmark
from engines.errors import DataError
from engines.store import LabelClass, Sample, Workspace

BringIn = Callable[..., ImportReport]
Samples = Callable[[int], list[Sample]]
BY_TITLE = {benchmark.title: benchmark for benchmark in BENCHMARKS}


class Builder:
    """Makes data sets below `place`, with a different picture for every file."""

    def __init__(self, place: Path, picture: Callable[..., bytes]) -> None:
        self.place, self.picture, self.count = place, picture, 0

    def images(self, root: Path, *paths: str) -> None:
        for path in paths:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(self.picture(self.count))
            self.count += 1

    def text(self, file: Path, *lines: str) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(lines) + "\n", "utf-8")

    def root(self, benchmark: Benchmark) -> Path:
        root = self.place / benchmark.folder
        (root / benchmark.images).mkdir(parents=True)
        return root

    def with_split(self, benchmark: Benchmark) -> tuple[Path, dict[str, list[Any]]]:
        """Images and a split file whose labels are in another order than the names."""
        root = self.root(benchmark)
        names = {"zebra_fish": 0, "apple pie": 1}
        items = [[f"{name[:5]}/{n}.jpg", label, name] for n in (3, 1, 2) for name, label in names.items()]
        self.images(root / benchmark.images, *(path for path, _, _ in items))
        split = {"train": items[:3], "val": items[3:4], "test": items[4:]}
        (root / benchmark.split).write_text(json.dumps(split))
        return root, split

    def folders(self, benchmark: Benchmark, *names: str, each: int = 10) -> Path:
        root = self.root(benchmark)
        self.images(root / benchmark.images, *(f"{name}/{n}.jpg" for name in names for n in range(each)))
        return root

    def pets(self) -> Path:
        root = self.root(BY_TITLE["OxfordPets"])
        breeds = ["Bengal", "american_bulldog", "Abyssinian"]
        lines = {n: [f"{breed}_{n} 1 1 1" for breed in breeds] for n in range(15)}
        self.text(root / "annotations/trainval.txt", *(line for n in range(10) for line in lines[n]))
        self.text(root / "annotations/test.txt", "#Image CLASS-ID", *(line for n in range(10, 15) for line in lines[n]))
        self.images(root / "images", *(f"{breed}_{n}.jpg" for breed in breeds for n in range(15)))
        return root

    def aircraft(self) -> Path:
        root = self.root(BY_TITLE["FGVCAircraft"])
        self.text(root / "variants.txt", "Spitfire", "F/A-18", "737-200")
        for part, numbers in {"train": (1, 2, 3), "val": (4, 5, 6), "test": (7, 8, 9)}.items():
            names = ("737-200", "Spitfire", "F/A-18")
            self.text(
                root / f"images_variant_{part}.txt",
                *(f"{n:07d} {name}" for n, name in zip(numbers, names, strict=True)),
            )
        self.images(root / "images", *(f"{n:07d}.jpg" for n in range(1, 10)))
        return root

    def sun(self) -> Path:
        root = self.root(BY_TITLE["SUN397"])
        scenes = ["/a/abbey", "/a/apartment_building/outdoor"]
        self.text(root / "ClassName.txt", *scenes)
        self.text(root / "Training_01.txt", *(f"{scene}/sun_{n}.jpg" for scene in scenes for n in range(10)))
        self.text(root / "Testing_01.txt", *(f"{scene}/sun_{n}.jpg" for scene in scenes for n in (10, 11)))
        self.images(root / "SUN397", *(f"{scene[1:]}/sun_{n}.jpg" for scene in scenes for n in range(12)))
        return root

    def ucf(self) -> Path:
        root = self.root(BY_TITLE["UCF101"])
        lists = root / "ucfTrainTestlist"
        self.text(lists / "classInd.txt", "1 YoYo", "2 ApplyEyeMakeup")
        names = {"YoYo": "Yo_Yo", "ApplyEyeMakeup": "Apply_Eye_Makeup"}
        self.text(lists / "trainlist01.txt", *(f"{a}/v_{a}_g{n:02d}_c01.avi 1" for a in names for n in range(10)))
        self.text(lists / "testlist01.txt", *(f"{a}/v_{a}_g{n:02d}_c01.avi" for a in names for n in (10, 11)))
        for action, folder in names.items():
            paths = (f"{folder}/v_{action}_g{n:02d}_c01.jpg" for n in range(12))
            self.images(root / "UCF-101-midframes", *paths)
        return root

    def cars(self) -> Path:
        root = self.root(BY_TITLE["StanfordCars"])
        (root / "devkit").mkdir()
        names = np.array(["Audi TT RS Coupe 2012", "AM General Hummer SUV 2000"], object)
        savemat(root / "devkit/cars_meta.mat", {"class_names": names})
        for folder, file, count in (
            ("cars_train", "devkit/cars_train_annos.mat", 20),
            ("cars_test", "cars_test_annos_withlabels.mat", 6),
        ):
            rows = np.zeros(count, [("class", object), ("fname", object)])
            for n in range(count):
                rows[n] = (1 + n % 2, f"{n:05d}.jpg")
                self.images(root / folder, f"{n:05d}.jpg")
            savemat(root / file, {"annotations": rows})
        return root

    def flowers(self) -> Path:
        root = self.root(BY_TITLE["Flowers102"])
        savemat(root / "imagelabels.mat", {"labels": np.array([[1 + n % 3 for n in range(30)]], np.uint8)})
        (root / "cat_to_name.json").write_text(json.dumps({"3": "canterbury bells", "1": "pink primrose", "2": "rose"}))
        self.images(root / "jpg", *(f"image_{n:05d}.jpg" for n in range(1, 31)))
        return root

    def imagenet(self, title: str) -> Path:
        root = self.root(BY_TITLE[title])
        names = {"n01": "tench", "n02": "missile", "n10": "crane", "n11": "missile"}
        self.text(root / "classnames.txt", *(f"{number} {name}" for number, name in names.items()))
        folders = list(map(str, range(4))) if title == "ImageNetV2" else [*names]
        if title in ("ImageNet-A", "ImageNet-R"):
            folders = ["n10", "n11"]
            self.text(root / BY_TITLE[title].images / "README.txt", "read me")
        for part in ("train", "val") if title == "ImageNet" else ("",):
            self.images(root / BY_TITLE[title].images / part, *(f"{f}/{n}.JPEG" for f in folders for n in range(2)))
        return root


@pytest.fixture
def build(tmp_path: Path, picture: Callable[..., bytes]) -> Builder:
    return Builder(tmp_path / "DATA", picture)


@pytest.fixture
def classes(workspace: Workspace) -> Callable[[int], list[str]]:
    """classes(dataset_id) -> class names in label order."""

    def read(dataset_id: int) -> list[str]:
        with workspace.session() as session:
            rows = select(LabelClass.name).where(LabelClass.dataset_id == dataset_id).order_by(LabelClass.position)
            return list(session.scalars(rows))

    return read


def totals(report: ImportReport) -> dict[str, int]:
    return dict(sum((Counter(splits) for splits in report.counts.values()), Counter()))


def test_the_table_is_complete() -> None:
    assert len(COOP) == 11
    assert len(MEDICAL) == 11
    assert len(BY_TITLE) == len(BENCHMARKS) == 26
    assert len({benchmark.folder.lower() for benchmark in BENCHMARKS}) == 26
    assert all("{}" in benchmark.template for benchmark in BENCHMARKS if benchmark.template)
    assert [b.title for b in COOP if not b.split] == ["ImageNet", "FGVCAircraft"]


@pytest.mark.parametrize("title", [benchmark.title for benchmark in BENCHMARKS if benchmark.split])
@pytest.mark.parametrize("above", [False, True], ids=["folder", "folder above"])
def test_the_published_split_is_used_as_it_is(
    title: str, above: bool, build: Builder, bring_in: BringIn, samples: Samples, classes: Any
) -> None:
    benchmark = BY_TITLE[title]
    root, split = build.with_split(benchmark)
    (root / "split_fewshot").mkdir()
    report = bring_in(root.parent if above else root)
    assert (report.reader, report.name, report.template) == ("benchmark", title, benchmark.template)
    assert classes(report.dataset_id) == ["zebra_fish", "apple pie"]
    expected = [(path, part) for part, items in split.items() for path, _, _ in items]
    assert [(s.name, s.split) for s in samples(report.dataset_id)] == expected
    assert report.warnings == []


FOLDERS = {
    "Caltech101": (
        ("airplanes", "Faces", "accordion", "BACKGROUND_Google", "Faces_easy"),
        ["face", "accordion", "airplane"],
    ),
    "Food101": (("apple_pie", "waffles"), ["apple_pie", "waffles"]),
    "DTD": (("banded", "zigzagged"), ["banded", "zigzagged"]),
    "EuroSAT": (("SeaLake", "AnnualCrop", "River"), ["Annual Crop Land", "River", "Sea or Lake"]),
    **{name: (tuple(c.replace(" ", "_") for c in sorted(given)), list(given)) for name, given in MEDICAL.items()},
}


@pytest.mark.parametrize("title", FOLDERS)
def test_class_folders_without_the_split_file(title: str, build: Builder, bring_in: BringIn, classes: Any) -> None:
    folders, expected = FOLDERS[title]
    report = bring_in(build.folders(BY_TITLE[title], *folders))
    assert report.name == title
    assert classes(report.dataset_id) == expected
    assert all(splits == {"train": 5, "val": 2, "test": 3} for splits in report.counts.values())
    assert f"“{BY_TITLE[title].split}” is missing, so the images were divided anew" in " ".join(report.warnings)
    dropped = {"its folder is not a class of the published data set": 20} if title == "Caltech101" else {}
    assert report.reasons == dropped


LISTS = {
    "OxfordPets": (Builder.pets, ["abyssinian", "american_bulldog", "bengal"], {"train": 24, "val": 6, "test": 15}),
    "FGVCAircraft": (Builder.aircraft, ["Spitfire", "F/A-18", "737-200"], {"train": 3, "val": 3, "test": 3}),
    "SUN397": (Builder.sun, ["abbey", "outdoor apartment_building"], {"train": 16, "val": 4, "test": 4}),
    "UCF101": (Builder.ucf, ["Yo_Yo", "Apply_Eye_Makeup"], {"train": 16, "val": 4, "test": 4}),
    "StanfordCars": (
        Builder.cars,
        ["2012 Audi TT RS Coupe", "2000 AM General Hummer SUV"],
        {"train": 16, "val": 4, "test": 6},
    ),
    "Flowers102": (Builder.flowers, ["pink primrose", "rose", "canterbury bells"], {"train": 15, "val": 6, "test": 9}),
}


@pytest.mark.parametrize("title", LISTS)
def test_the_publishers_lists_without_the_split_file(
    title: str, build: Builder, bring_in: BringIn, classes: Any, samples: Samples
) -> None:
    make, names, sizes = LISTS[title]
    root = make(build)
    report = bring_in(root)
    assert report.name == title
    assert classes(report.dataset_id) == names
    assert totals(report) == sizes
    assert report.reasons == {}
    divided = any("is missing, so the images were divided anew" in warning for warning in report.warnings)
    assert divided == (title != "FGVCAircraft")
    again = bring_in(root, name="again")
    assert [s.split for s in samples(again.dataset_id)] == [s.split for s in samples(report.dataset_id)]


def test_the_publishers_split_is_kept_where_that_is_asked_for(build: Builder, bring_in: BringIn) -> None:
    assert totals(bring_in(build.pets(), split="as-is")) == {"train": 30, "test": 15}


def test_imagenet(build: Builder, bring_in: BringIn, classes: Any) -> None:
    report = bring_in(build.imagenet("ImageNet"))
    assert classes(report.dataset_id) == ["tench", "missile", "crane", "missile (2)"]
    assert all(splits == {"train": 2, "test": 2} for splits in report.counts.values())
    assert report.template == "a photo of a {}."


@pytest.mark.parametrize("title", ["ImageNetV2", "ImageNet-Sketch", "ImageNet-A", "ImageNet-R"])
def test_shifted_imagenets_are_for_testing(title: str, build: Builder, bring_in: BringIn, classes: Any) -> None:
    report = bring_in(build.imagenet(title))
    few = title in ("ImageNet-A", "ImageNet-R")
    # The second missile keeps its number where the first one is not among the classes.
    assert classes(report.dataset_id) == (
        ["crane", "missile (2)"] if few else ["tench", "missile", "crane", "missile (2)"]
    )
    assert totals(report) == {"test": 4 if few else 8}
    assert report.reasons == {}


def test_copies_in_a_published_split_are_kept(build: Builder, bring_in: BringIn) -> None:
    root, split = build.with_split(BY_TITLE["RETINA"])
    first, second = (root / "RETINA" / split["train"][n][0] for n in (0, 2))
    second.write_bytes(first.read_bytes())
    report = bring_in(root)
    assert report.imported == 6
    assert report.warnings == ["Copies of other images, kept because the published split names them: 1."]


def test_labels_that_share_a_name_stay_two_classes(build: Builder, bring_in: BringIn, classes: Any) -> None:
    root, split = build.with_split(BY_TITLE["DTD"])
    for items in split.values():
        for item in items:
            item[2] = "missile"
    (root / BY_TITLE["DTD"].split).write_text(json.dumps(split))
    assert classes(bring_in(root).dataset_id) == ["missile", "missile (2)"]


def test_images_that_the_split_names_and_that_are_not_there(build: Builder, bring_in: BringIn) -> None:
    root, split = build.with_split(BY_TITLE["EuroSAT"])
    (root / "2750" / split["train"][0][0]).unlink()
    report = bring_in(root)
    assert (report.imported, report.reasons) == (5, {"the file does not exist": 1})
    assert report.left_out[0].file == split["train"][0][0]


def test_images_elsewhere(build: Builder, bring_in: BringIn, tmp_path: Path) -> None:
    root, _ = build.with_split(BY_TITLE["DTD"])
    (root / "images").rename(tmp_path / "textures")
    assert bring_in(root, images_folder=str(tmp_path / "textures")).imported == 6


def test_linked_images(build: Builder, bring_in: BringIn, tmp_path: Path) -> None:
    root = build.imagenet("ImageNet")
    for part in ("train", "val"):
        (root / "images" / part).rename(tmp_path / part)
        (root / "images" / part).symlink_to(tmp_path / part)
    assert bring_in(root).imported == 16


def test_an_ordinary_tree_is_not_taken_for_a_benchmark(build: Builder, tmp_path: Path) -> None:
    for number, tree in enumerate(
        [
            ("images/train/cat/1.png", "images/val/cat/2.png"),
            ("2749/1.png", "2750/2.png"),
            ("art/1.png", "clipart/2.png"),
            ("cat/left/1.png", "dog/left/2.png"),
            ("train/cat/1.png", "train/dog/1.png", "validation/cat/2.png", "validation/dog/2.png"),
        ]
    ):
        build.images(tmp_path / f"plain {number}", *tree)
        assert find_reader(tmp_path / f"plain {number}").name == "folder"


# --- pointing beside it, damaged files -------------------------------------------------------------

Bad = Callable[[Builder], Path]


def two_sets(build: Builder) -> Path:
    build.with_split(BY_TITLE["DTD"])
    return build.with_split(BY_TITLE["BUSI"])[0].parent


def without(make: Callable[[Builder], Path], *files: str) -> Bad:
    def damage(build: Builder) -> Path:
        root = make(build)
        for file in files:
            (root / file).unlink()
        return root

    return damage


def written(make: Callable[[Builder], Path], file: str, content: str | bytes) -> Bad:
    def damage(build: Builder) -> Path:
        root = make(build)
        (root / file).write_bytes(content.encode() if isinstance(content, str) else content)
        return root

    return damage


def dtd(build: Builder) -> Path:
    return build.with_split(BY_TITLE["DTD"])[0]


def no_images(build: Builder) -> Path:
    root = dtd(build)
    (root / "images").rename(root / "pictures")
    return root


def all_gone(build: Builder) -> Path:
    root, split = build.with_split(BY_TITLE["OxfordPets"])
    for path in (path for items in split.values() for path, _, _ in items):
        (root / "images" / path).unlink()
    return root


def imagenet(build: Builder) -> Path:
    return build.imagenet("ImageNet")


def a_row_of_text(build: Builder) -> Path:
    root = build.cars()
    savemat(root / "devkit/cars_train_annos.mat", {"annotations": np.array(["x", "y"])})
    return root


SPLIT = "split_zhou_DescribableTextures.json"
BAD: dict[str, tuple[Bad, str]] = {
    "a level too high, several": (two_sets, "“DATA” holds several data sets: “BUSI”, “dtd”.*Choose the folder of one"),
    "a level too low": (
        lambda b: dtd(b) / "images",
        "“images” is a part of DTD.*Choose the folder above, “dtd”.*one sub-folder per class",
    ),
    "a level too low, medical": (
        lambda b: b.folders(BY_TITLE["BUSI"], "benign_tumor") / "BUSI",
        "a part of BUSI.*folder above, “BUSI”",
    ),
    "a level too low, cars": (lambda b: b.cars() / "cars_train", "“cars_train” is a part of StanfordCars"),
    "a level too low, imagenet": (lambda b: imagenet(b) / "images", "“images” is a part of ImageNet"),
    "no folder of images": (no_images, "The images of DTD are missing: there is no folder “images” in “dtd”"),
    "none of the images": (all_gone, "6 × the file does not exist.*Unpack the images of OxfordPets into “oxford_pets”"),
    "broken split file": (written(dtd, SPLIT, '{"train": [['), f"“{SPLIT}” is not a split file"),
    "split file of something else": (written(dtd, SPLIT, '{"images": []}'), "is not a split file"),
    "split file without names": (written(dtd, SPLIT, '{"train": [["a.jpg", 1]]}'), "is not a split file"),
    "empty split file": (written(dtd, SPLIT, b""), "cannot be read: empty"),
    "contradicting split file": (
        written(dtd, SPLIT, '{"train": [["a.jpg", 1, "a"], ["b.jpg", 1, "b"]]}'),
        "label 1 is both “a” and “b”",
    ),
    "no list": (without(Builder.pets, "annotations/test.txt"), "“annotations/test.txt” is missing in “oxford_pets”"),
    "no list of classes": (without(Builder.sun, "Training_01.txt"), "“Training_01.txt” is missing in “sun397”"),
    "a broken list": (
        written(Builder.pets, "annotations/trainval.txt", "Abyssinian_1 1 1 1\nAbyssinian_2"),
        "“annotations/trainval.txt” is damaged: line 2 is not as expected",
    ),
    "a binary list": (written(Builder.ucf, "ucfTrainTestlist/classInd.txt", bytes(range(256))), "is damaged: line 1"),
    "no names of imagenet": (without(imagenet, "classnames.txt"), "“classnames.txt” is missing in “imagenet”"),
    "names of imagenet without names": (
        written(imagenet, "classnames.txt", "n01\nn02"),
        "“classnames.txt” is damaged: each line must be a WordNet number and a name",
    ),
    "other names of imagenet": (written(imagenet, "classnames.txt", "n99 cat"), "16 × not in a folder of a class"),
    "no class table": (without(Builder.cars, "devkit/cars_meta.mat"), "“devkit/cars_meta.mat” is missing"),
    "a table that is none": (written(Builder.cars, "devkit/cars_meta.mat", "hello"), "“cars_meta.mat” is damaged"),
    "an empty table": (written(Builder.flowers, "imagelabels.mat", b""), "“imagelabels.mat” cannot be read: empty"),
    "a table of other things": (a_row_of_text, "each row must hold “fname” and “class”"),
    "no flower names": (without(Builder.flowers, "cat_to_name.json"), "“cat_to_name.json” is missing"),
    "other flower names": (written(Builder.flowers, "cat_to_name.json", '{"1": "rose"}'), "does not name class 2"),
    "flower names as a list": (written(Builder.flowers, "cat_to_name.json", "[1, 2]"), "“cat_to_name.json” is damaged"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_folders_are_told_in_a_sentence(
    case: str, build: Builder, workspace: Workspace, assert_empty: Callable[[], None]
) -> None:
    make, sentence = BAD[case]
    source = make(build)
    assert find_reader(source).name == "benchmark"
    with pytest.raises(DataError, match=f"(?s){sentence}") as caught:
        import_dataset(workspace, ImportRequest(source=str(source)))
    assert caught.value.what[-1] == "."
    assert caught.value.remedy.endswith(".")
    assert_empty()


def test_a_folder_that_is_no_benchmark(tmp_path: Path, bring_in: BringIn) -> None:
    (tmp_path / "cats").mkdir()
    with pytest.raises(DataError, match=r"not the folder of a known benchmark.*caltech-101.*BTMRI"):
        bring_in(tmp_path / "cats", reader="benchmark")


# --- folders of domains ------------------------------------------------------------------------------


def make_domains(build: Builder, root: Path, domains: list[str], between: str = "") -> Path:
    build.images(
        root, *(f"{d}/{between}{c}/{n}.jpg" for d in domains for c in ("Alarm_Clock", "Bike") for n in range(4))
    )
    return root


@pytest.mark.parametrize(
    ("domains", "name", "expected"),
    [
        (["Art", "Clipart", "Product", "Real World"], "Office-Home", {"art", "clipart", "product", "real_world"}),
        (["art_painting", "cartoon", "photo", "sketch"], "PACS", {"art_painting", "cartoon", "photo", "sketch"}),
        (["Caltech101", "LabelMe", "SUN09", "VOC2007"], "VLCS", {"caltech", "labelme", "sun", "pascal"}),
        (["location_38", "location_46"], "TerraIncognita", {"location_38", "location_46"}),
        (["site_a", "site_b", "Hospital 3"], "domains", {"site_a", "site_b", "Hospital 3"}),
    ],
)
@pytest.mark.parametrize("wrapped", [False, True], ids=["bare", "wrapped"])
def test_domains_are_found_by_themselves(
    domains: list[str],
    name: str,
    expected: set[str],
    wrapped: bool,
    build: Builder,
    bring_in: BringIn,
    samples: Samples,
) -> None:
    root = build.place / "domains"
    make_domains(build, root / "inner" if wrapped else root, domains)
    report = bring_in(root)
    assert (report.reader, report.name) == ("domains", name)
    assert set(report.counts) == {"Alarm_Clock", "Bike"}
    assert totals(report)["train"] == 4 * len(domains)
    found = Counter(s.domain for s in samples(report.dataset_id))
    assert found == dict.fromkeys(expected, 8)


def test_splits_inside_domains(build: Builder, bring_in: BringIn, samples: Samples) -> None:
    root = build.place / "scans"
    for part in ("train", "test"):
        make_domains(build, root, ["scanner_a", "scanner_b"], f"{part}/")
    report = bring_in(root)
    assert report.reader == "domains"
    assert all(splits == {"train": 8, "test": 8} for splits in report.counts.values())
    assert {s.domain for s in samples(report.dataset_id)} == {"scanner_a", "scanner_b"}


def test_visda_is_known_by_its_lists(build: Builder, bring_in: BringIn, samples: Samples) -> None:
    root = make_domains(build, build.place / "visda17", ["train", "validation"])
    for part in ("train", "validation"):
        build.text(root / part / "image_list.txt", "Bike/0.jpg 1")
    report = bring_in(root)
    assert report.name == "VisDA-2017"
    assert {s.domain for s in samples(report.dataset_id)} == {"synthetic", "real"}
    assert report.reasons == {}


def test_lists_of_mini_domainnet(build: Builder, bring_in: BringIn, samples: Samples, classes: Any) -> None:
    root = make_domains(build, build.place / "domainnet", ["clipart", "real"])
    for domain in ("clipart", "real"):
        lines = [f"{domain}/{name}/{{}}.jpg {label}" for name, label in (("Bike", 0), ("Alarm_Clock", 1))]
        build.text(root / f"splits_mini/{domain}_train.txt", *(line.format(n) for line in lines for n in (0, 1)))
        build.text(root / f"splits_mini/{domain}_test.txt", *(line.format(n) for line in lines for n in (2, 9)))
    report = bring_in(root)
    assert (report.name, report.imported) == ("DomainNet", 12)
    assert report.reasons == {"the file does not exist": 4}
    assert classes(report.dataset_id) == ["Bike", "Alarm_Clock"]
    assert Counter((s.domain, s.split) for s in samples(report.dataset_id)) == {
        ("clipart", "train"): 4,
        ("clipart", "test"): 2,
        ("real", "train"): 4,
        ("real", "test"): 2,
    }
    build.text(root / "splits_mini/real_test.txt", "real/x.jpg", "../../etc/passwd 3")
    with pytest.raises(DataError, match=r"“real_test\.txt” is damaged: line 1"):
        bring_in(root)


def test_domains_under_other_names_are_read_when_asked_for(build: Builder, bring_in: BringIn, samples: Samples) -> None:
    root = make_domains(build, build.place / "study", ["Aachen", "Bonn"])
    build.images(root, "Aachen/loose.jpg", "very loose.jpg")
    hinted = bring_in(make_domains(build, build.place / "other study", ["Aachen", "Bonn"]))
    assert "hold the same sub-folders (Alarm_Clock, Bike)" in " ".join(hinted.warnings)
    report = bring_in(root, reader="domains")
    assert {s.domain for s in samples(report.dataset_id)} == {"Aachen", "Bonn"}
    assert report.reasons == {"not in a folder of a class inside a folder of a domain": 2}


@pytest.mark.parametrize("tree", [(), ("cat/1.jpg", "dog/2.jpg"), ("a/cat/1.jpg", "b/dog/1.jpg")])
def test_folders_that_are_no_domains(tree: tuple[str, ...], build: Builder, bring_in: BringIn) -> None:
    build.place.mkdir()
    build.images(build.place, *tree)
    with pytest.raises(DataError, match=r"not a folder of domains.*one folder per domain"):
        bring_in(build.place, reader="domains")


def test_the_wrong_reader_for_a_file(tmp_path: Path, bring_in: BringIn) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    for reader in ("benchmark", "domains"):
        with pytest.raises(DataError):
            bring_in(tmp_path / "notes.txt", reader=reader)
    assert {"benchmark", "domains"} <= set(available_readers())
    assert all(len(known.domains) > 1 for known in DOMAIN_SETS)
