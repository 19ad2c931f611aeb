"""Published data sets that papers on prompt learning are measured on: where their parts lie, and what they are called.

This is a table: a data set is one entry, and nothing else in the program knows its name. Folders and files are those
of the instructions that come with CoOp and BiomedCoOp.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from engines.data.benchmark_layouts import (
    TRAINVAL,
    CarsTables,
    ClassFolders,
    FlowersTables,
    Layout,
    TextLists,
    WordNetFolders,
    scene,
    words_of,
)

PHOTO = "a photo of a {}."


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One data set."""

    title: str
    folder: str
    """Its official name, by which it is known where `images` lies in it."""
    images: str
    """Folder of the images in it, which paths in the split file are relative to; empty for `folder` itself."""
    layout: Layout
    """Where images and classes come from when there is no split file."""
    split: str = ""
    """File of the published split; empty where the publisher's own lists or folders are the split."""
    marks: tuple[str, ...] = ()
    """Files and folders that tell the data set, whatever its folder is called."""
    template: str = PHOTO
    """The sentence of the published zero-shot results; empty where it is not known."""


COOP = (
    Benchmark(
        "ImageNet",
        "imagenet",
        "images",
        # The official validation images are everybody's test images.
        WordNetFolders({"train": "train", "val": "test"}),
        marks=("images/train", "images/val", "classnames.txt"),
    ),
    Benchmark(
        "Caltech101",
        "caltech-101",
        "101_ObjectCategories",
        ClassFolders(
            {"airplanes": "airplane", "Faces": "face", "Leopards": "leopard", "Motorbikes": "motorbike"},
            ignored=("BACKGROUND_Google", "Faces_easy"),
        ),
        "split_zhou_Caltech101.json",
        ("101_ObjectCategories",),
    ),
    Benchmark(
        "OxfordPets",
        "oxford_pets",
        "images",
        TextLists(
            {TRAINVAL: "annotations/trainval.txt", "test": "annotations/test.txt"},
            line=r"(?P<file>(?P<name>.+)_\d+) \d+ \d+ \d+",
            path="{file}.jpg",
            edit=str.lower,
        ),
        "split_zhou_OxfordPets.json",
        ("images", "annotations/trainval.txt"),
        "a photo of a {}, a type of pet.",
    ),
    Benchmark(
        "StanfordCars", "stanford_cars", "", CarsTables(), "split_zhou_StanfordCars.json", ("cars_train", "cars_test")
    ),
    Benchmark(
        "Flowers102",
        "oxford_flowers",
        "jpg",
        FlowersTables(),
        "split_zhou_OxfordFlowers.json",
        ("jpg", "imagelabels.mat"),
        "a photo of a {}, a type of flower.",
    ),
    Benchmark(
        "Food101",
        "food-101",
        "images",
        ClassFolders(),
        "split_zhou_Food101.json",
        ("images", "meta/classes.txt"),
        "a photo of {}, a type of food.",
    ),
    Benchmark(
        "FGVCAircraft",
        "fgvc_aircraft",
        "images",
        TextLists(
            {split: f"images_variant_{split}.txt" for split in ("train", "val", "test")},
            line=r"(?P<file>\S+) (?P<name>.+)",
            path="{file}.jpg",
            edit=str,
            order="variants.txt",
        ),
        marks=("images", "variants.txt"),
        template="a photo of a {}, a type of aircraft.",
    ),
    Benchmark(
        "SUN397",
        "sun397",
        "SUN397",
        TextLists(
            {TRAINVAL: "Training_01.txt", "test": "Testing_01.txt"},
            line=r"/(?P<file>(?P<name>.+)/[^/]+)",
            path="{file}",
            edit=scene,
            order="ClassName.txt",
            order_line=r"/(?P<name>.+)",
        ),
        "split_zhou_SUN397.json",
        ("SUN397", "ClassName.txt"),
    ),
    Benchmark(
        "DTD",
        "dtd",
        "images",
        ClassFolders(),
        "split_zhou_DescribableTextures.json",
        ("images", "imdb", "labels"),
        "{} texture.",
    ),
    Benchmark(
        "EuroSAT",
        "eurosat",
        "2750",
        ClassFolders(
            {
                "AnnualCrop": "Annual Crop Land",
                "Forest": "Forest",
                "HerbaceousVegetation": "Herbaceous Vegetation Land",
                "Highway": "Highway or Road",
                "Industrial": "Industrial Buildings",
                "Pasture": "Pasture Land",
                "PermanentCrop": "Permanent Crop Land",
                "Residential": "Residential Buildings",
                "River": "River",
                "SeaLake": "Sea or Lake",
            }
        ),
        "split_zhou_EuroSAT.json",
        ("2750/AnnualCrop",),
        "a centered satellite photo of {}.",
    ),
    Benchmark(
        "UCF101",
        "ucf101",
        "UCF-101-midframes",
        TextLists(
            {TRAINVAL: "ucfTrainTestlist/trainlist01.txt", "test": "ucfTrainTestlist/testlist01.txt"},
            line=r"(?P<name>\w+)/(?P<file>.+)\.avi( \d+)?",
            path="{name}/{file}.jpg",
            edit=words_of,
            order="ucfTrainTestlist/classInd.txt",
            order_line=r"\d+ (?P<name>\w+)",
        ),
        "split_zhou_UCF101.json",
        ("UCF-101-midframes",),
        "a photo of a person doing {}.",
    ),
)

IMAGENET_SHIFTS = (
    Benchmark(
        "ImageNetV2",
        "imagenetv2",
        "imagenetv2-matched-frequency-format-val",
        WordNetFolders({"": "test"}, by_place=True),
        marks=("imagenetv2-matched-frequency-format-val",),
    ),
    Benchmark("ImageNet-Sketch", "imagenet-sketch", "images", WordNetFolders({"": "test"})),
    Benchmark("ImageNet-A", "imagenet-adversarial", "imagenet-a", WordNetFolders({"": "test"}), marks=("imagenet-a",)),
    Benchmark("ImageNet-R", "imagenet-rendition", "imagenet-r", WordNetFolders({"": "test"}), marks=("imagenet-r",)),
)
"""Tested on only, with the names in a copy of ImageNet's `classnames.txt`."""

MEDICAL = {
    "BTMRI": ("glioma tumor", "meningioma tumor", "pituitary tumor", "normal brain"),
    "BUSI": ("benign tumor", "malignant tumor", "normal scan"),
    "CHMNIST": (
        *("adipose tissue", "complex stroma", "debris", "empty background", "immune cells"),
        *("normal mucosal glands", "simple stroma", "tumour epithelium"),
    ),
    "COVID_19": ("covid lungs", "lung opacity lungs", "viral pneumonia lungs", "normal lungs"),
    "CTKidney": ("cyst kidney", "kidney stone", "kidney tumor", "normal kidney"),
    "DermaMNIST": (
        *("actinic keratosis", "basal cell carcinoma", "benign keratosis", "dermatofibroma", "melanoma"),
        *("melanocytic nevus", "vascular lesion"),
    ),
    "KneeXray": (
        *("healthy knee", "doubtful osteoarthritis", "minimal osteoarthritis", "moderate osteoarthritis"),
        "severe osteoarthritis",
    ),
    "Kvasir": (
        *("dyed lifted polyps", "dyed resection margins", "esophagitis", "normal cecum", "normal pylorus"),
        *("normal z line", "polyps", "ulcerative colitis"),
    ),
    "LungColon": (
        *("colon adenocarcinoma", "colon benign tissue", "lung adenocarcinoma", "lung benign tissue"),
        "lung squamous cell carcinoma",
    ),
    # Label order as in MedMNIST, which the images are from.
    "OCTMNIST": ("choroidal neovascularization", "diabetic macular edema", "drusen", "normal OCT scan"),
    "RETINA": ("diabetic retinopathy", "glaucoma", "cataract", "normal retina"),
}
"""Classes of BiomedCoOp's data sets in the label order of their split files, whose first half are the base classes."""

BENCHMARKS = (
    *COOP,
    *IMAGENET_SHIFTS,
    *(
        Benchmark(name, name, name, ClassFolders(classes=classes), f"split_{name}.json", template="")
        for name, classes in MEDICAL.items()
    ),
)


@dataclass(frozen=True, slots=True)
class DomainSet:
    """A data set whose outer folders are domains, each with a folder per class in it."""

    title: str
    domains: Mapping[str, str] = field(default_factory=dict)
    """Folder (lower case, letters and digits alone) to the name of the domain."""
    marks: tuple[str, ...] = ()
    """Files that must lie there, where the folders' names alone say too little."""
    lists: tuple[str, ...] = ()
    """Lists of training and test images, `path label` a line: the first of these that exists is used."""


def _plain(*names: str) -> dict[str, str]:
    return {name.replace("_", ""): name for name in names}


DOMAIN_SETS = (
    DomainSet("Office-Home", _plain("art", "clipart", "product", "real_world")),
    DomainSet("PACS", _plain("art_painting", "cartoon", "photo", "sketch")),
    DomainSet(
        "VLCS",
        _plain("caltech", "labelme", "pascal", "sun") | {"voc2007": "pascal", "caltech101": "caltech", "sun09": "sun"},
    ),
    DomainSet("TerraIncognita", _plain("location_38", "location_43", "location_46", "location_100")),
    DomainSet(
        "DomainNet",
        _plain("clipart", "infograph", "painting", "quickdraw", "real", "sketch"),
        lists=("splits_mini/{domain}_{split}.txt", "splits/{domain}_{split}.txt", "{domain}_{split}.txt"),
    ),
    DomainSet(
        "VisDA-2017",
        {"train": "synthetic", "validation": "real"},
        marks=("train/image_list.txt", "validation/image_list.txt"),
    ),
)
