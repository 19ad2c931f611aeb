"""Sentences that describe classes: read from files, matched to classes, added, replaced, undone, written out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engines.data import (
    DescriptionReport,
    import_descriptions,
    read_descriptions,
    set_descriptions,
    write_descriptions,
)
from engines.data.descriptions import tidy
from engines.errors import DataError
from engines.store import Dataset, LabelClass, Workspace, now

NAMES = ("benign tumor", "Malignant_Tumor", "normal scan")
Kept = Callable[[], dict[str, list[str]]]


@pytest.fixture
def dataset(workspace: Workspace) -> int:
    """Three classes, the first of which is described."""
    with workspace.session() as session:
        added = Dataset(name="BUSI", reader="folder")
        added.classes = [LabelClass(position=n, name=name) for n, name in enumerate(NAMES)]
        added.classes[0].descriptions = ["smooth edges"]
        session.add(added)
        session.flush()
        return added.id


@pytest.fixture
def kept(workspace: Workspace, dataset: int) -> Kept:
    """kept() -> class to sentences, as stored."""

    def read() -> dict[str, list[str]]:
        with workspace.session() as session:
            return {each.name: list(each.descriptions) for each in session.get_one(Dataset, dataset).classes}

    return read


@pytest.fixture
def take(workspace: Workspace, dataset: int, tmp_path: Path) -> Callable[..., DescriptionReport]:
    """take({"benign tumor": ["round"]}) -> report of the import of a JSON file with this content."""

    def run(content: Any, replace: bool = False) -> DescriptionReport:
        file = tmp_path / "sentences.json"
        file.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
        return import_descriptions(workspace, dataset, read_descriptions(file), replace)

    return run


def test_sentences_come_behind_those_there_are(take: Callable[..., DescriptionReport], kept: Kept) -> None:
    report = take({"benign tumor": ["round", "smooth  edges", "round"], "normal scan": ["nothing", ""]})
    assert kept() == {
        "benign tumor": ["smooth edges", "round"],
        "Malignant_Tumor": [],
        "normal scan": ["nothing"],
    }
    assert report.added == {"benign tumor": 1, "normal scan": 1}
    assert report.repeated == 2
    assert report.lines() == [
        "2 sentences for 2 classes came in.",
        "2 sentences came more than once and count once.",
        "Still without a description: “Malignant_Tumor”.",
    ]


@pytest.mark.parametrize("name", ["malignant tumor", "MALIGNANT_TUMOR", " malignant-tumor ", "Malignant  Tumor\u200b"])
def test_blanks_underscores_and_capitals_do_not_matter(
    name: str, take: Callable[..., DescriptionReport], kept: Kept
) -> None:
    assert take({name: ["spiky"]}).unknown == {}
    assert kept()["Malignant_Tumor"] == ["spiky"]


def test_replacing_touches_only_classes_that_the_file_names(
    take: Callable[..., DescriptionReport], kept: Kept, workspace: Workspace, dataset: int
) -> None:
    take({"normal scan": ["nothing to see"]})
    report = take({"benign_tumor": ["oval", "wide"], "Malignant_Tumor": ["spiky"]}, replace=True)
    assert kept() == {
        "benign tumor": ["oval", "wide"],
        "Malignant_Tumor": ["spiky"],
        "normal scan": ["nothing to see"],
    }
    assert report.dropped == {"benign tumor": 1}
    assert "1 former sentence gave way." in report.lines()
    set_descriptions(workspace, dataset, report.before)
    assert kept() == {"benign tumor": ["smooth edges"], "Malignant_Tumor": [], "normal scan": ["nothing to see"]}


def test_replacing_by_an_empty_list_empties_a_class_and_by_unusable_sentences_does_not(
    take: Callable[..., DescriptionReport], kept: Kept
) -> None:
    take({"benign tumor": ["x" * 1001], "normal scan": ["grey"]}, replace=True)
    assert kept()["benign tumor"] == ["smooth edges"]
    report = take({"benign tumor": [], "normal scan": ["grey"]}, replace=True)
    assert kept()["benign tumor"] == []
    assert (report.dropped, report.added, list(report.before)) == ({"benign tumor": 1}, {}, ["benign tumor"])


def test_unknown_classes_are_named_and_the_others_taken(take: Callable[..., DescriptionReport], kept: Kept) -> None:
    report = take({"normal scan": ["grey"], "cyst": ["black", "round"], "<b>cat</b>": ["furry"]})
    assert report.unknown == {"cyst": 2, "<b>cat</b>": 1}
    assert "Not taken, because no class is called so: “cyst”, “<b>cat</b>”." in report.lines()
    assert kept()["normal scan"] == ["grey"]


def test_a_name_that_comes_twice_loses_nothing(take: Callable[..., DescriptionReport], kept: Kept) -> None:
    report = take('{"normal scan": ["grey"], "Normal Scan": ["even"], "normal scan": ["plain"]}')
    assert kept()["normal scan"] == ["grey", "even", "plain"]
    assert report.merged == {"normal scan": ["normal scan", "Normal Scan", "normal scan"]}
    assert "“normal scan” is in the file several times, which was put together" in " ".join(report.lines())


def test_names_that_fit_two_classes(
    workspace: Workspace, dataset: int, take: Callable[..., DescriptionReport], kept: Kept
) -> None:
    with workspace.session() as session:
        session.add(LabelClass(dataset_id=dataset, position=3, name="Normal_scan"))
    report = take({"Normal_scan": ["exactly this one"], "NORMAL SCAN": ["either"]})
    assert kept()["Normal_scan"] == ["exactly this one"]
    assert kept()["normal scan"] == []
    assert report.ambiguous == {"NORMAL SCAN": ["normal scan", "Normal_scan"]}
    assert "“NORMAL SCAN” may mean “normal scan”, “Normal_scan”" in " ".join(report.lines())


def test_too_long_and_too_many(take: Callable[..., DescriptionReport], kept: Kept) -> None:
    report = take({"benign tumor": ["x" * 1001, "y" * 1000, *map(str, range(1005))]})
    assert len(kept()["benign tumor"]) == 1000
    assert report.too_long == {"benign tumor": 8}
    assert report.added == {"benign tumor": 999}
    assert "8 sentences of “benign tumor”" in " ".join(report.lines())


def test_fifty_sentences_a_class_as_biomedcoop_has_them(take: Callable[..., DescriptionReport], kept: Kept) -> None:
    report = take({name.replace("_", " "): [f"view {n} of {name}" for n in range(50)] for name in NAMES})
    assert report.added == dict.fromkeys(NAMES, 50)
    assert report.undescribed == []


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", b"class,description\nnormal scan,grey\nnormal scan,even grain\n"),
        ("t.csv", "\ufeffClass;Description\nnormal scan;grey\nnormal_scan;even grain\n".encode()),
        ("t.tsv", b"label\tsentence\nnormal scan\tgrey\nNormal Scan\teven grain\n"),
        ("t.csv", b"sentence,note,class\ngrey,x,normal scan\neven grain,,normal scan\n,,normal scan\n\n"),
        ("t.CSV", "class,description\nnormal scan,grey\nnormal scan,even grain".encode("utf-16")),
    ],
)
def test_tables(name: str, content: bytes, tmp_path: Path, workspace: Workspace, dataset: int, kept: Kept) -> None:
    (tmp_path / name).write_bytes(content)
    report = import_descriptions(workspace, dataset, read_descriptions(tmp_path / name))
    assert kept()["normal scan"] == ["grey", "even grain"]
    assert report.repeated == 0


def test_sentences_with_commas_and_from_windows(tmp_path: Path) -> None:
    text = 'class,description\ncat,fur, claws, and paws\ncat,"purrs, often"\ncat,"=hyperlink"\nLöwe,Mähne\n'
    (tmp_path / "t.csv").write_bytes(text.encode("cp1252"))
    assert read_descriptions(tmp_path / "t.csv") == [
        ("cat", ["fur, claws, and paws", "purrs, often", "=hyperlink"]),
        ("Löwe", ["Mähne"]),
    ]


def test_what_is_written_can_be_read_again(
    take: Callable[..., DescriptionReport], kept: Kept, workspace: Workspace, dataset: int, tmp_path: Path
) -> None:
    take({"normal scan": ["„grau“, =1+1", "猫 <b>"]})
    earlier = kept()
    assert write_descriptions(workspace, dataset, tmp_path / "out.json") == {
        "benign tumor": 1,
        "Malignant_Tumor": 0,
        "normal scan": 2,
    }
    assert list(json.loads((tmp_path / "out.json").read_text("utf-8"))) == list(NAMES)
    set_descriptions(workspace, dataset, {key: [] for key in NAMES})
    import_descriptions(workspace, dataset, read_descriptions(tmp_path / "out.json"), replace=True)
    assert kept() == earlier
    with pytest.raises(DataError, match=r"“out.json” cannot be written\. Choose another folder"):
        write_descriptions(workspace, dataset, tmp_path / "nowhere" / "out.json")


BAD: dict[str, tuple[str, bytes | str, str]] = {
    "no file": ("missing.json", "", "cannot be read: the file does not exist"),
    "empty": ("a.json", b"", "cannot be read: empty"),
    "python": ("prompts.py", "TEMPLATES = {}", "neither a JSON nor a CSV file.*as JSON, or a table"),
    "no ending": ("prompts", '{"a": ["b"]}', "neither a JSON nor a CSV"),
    "cut json": ("a.json", '{"cat": ["furry"', "not valid JSON.*save the sentences as a table"),
    "deep json": ("a.json", "[" * 100_000, "not valid JSON"),
    "binary json": ("a.json", bytes(range(256)), "not valid"),
    "broken utf-16": ("a.csv", b"\xff\xfea", "not valid text"),
    "a list": ("a.json", '["furry"]', "does not name classes"),
    "a number": ("a.json", "3", "does not name classes"),
    "nested": ("a.json", '{"cat": {"colour": ["grey"]}}', "a list of sentences for “cat”"),
    "numbers": ("a.json", '{"cat": [1, 2]}', "a list of sentences for “cat”"),
    "nothing": ("a.json", '{"cat": null}', "a list of sentences for “cat”"),
    "lists of lists": ("a.json", '{"cat": [["furry"]]}', "a list of sentences for “cat”"),
    "no classes": ("a.json", "{}", "holds no sentences"),
    "empty lists": ("a.json", '{"cat": [], "dog": [""]}', "holds no sentences"),
    "no class column": ("a.csv", "animal,description\ncat,furry", "no column “class”; its columns are: “animal”"),
    "no description column": ("a.csv", "class,colour\ncat,grey", "no column “description”; .*“class”, “colour”"),
    "no header": ("a.csv", "cat,furry\ndog,loyal", "no column “class”; its columns are: “cat”, “furry”"),
    "only blanks": ("a.csv", " \n\n", "no column “class”; its columns are: "),
    "only a header": ("a.csv", "class,description\n", "holds no sentences"),
    "no name": ("a.csv", "class,description\n,furry", "Row 2 of “a.csv” names no class"),
    "too many cells": ("a.csv", "description,class\nfur, claws,cat", "Row 2 of “a.csv” has more cells"),
    "nul": ("a.csv", "class,description\ncat,\0", "The table “a.csv” is damaged"),
    "endless cell": ("a.csv", 'class,description\ncat,"' + "x" * 2_000_000, "The table “a.csv” is damaged"),
    "none of the classes": ("a.json", '{"cat": ["furry"]}', "None of the names.*names “cat”.*“Malignant_Tumor”"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_told_in_a_sentence_and_change_nothing(
    case: str, tmp_path: Path, workspace: Workspace, dataset: int, kept: Kept
) -> None:
    name, content, sentence = BAD[case]
    earlier = kept()
    if case != "no file":
        (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(DataError, match=f"(?s){sentence}") as caught:
        import_descriptions(workspace, dataset, read_descriptions(tmp_path / name), replace=True)
    assert caught.value.what[-1] == "."
    assert caught.value.remedy[-1] in ".}"
    assert kept() == earlier


def test_a_data_set_that_is_gone(workspace: Workspace, dataset: int, tmp_path: Path) -> None:
    with workspace.session() as session:
        session.get_one(Dataset, dataset).deleted_at = now()
    for number in (dataset, 999):
        with pytest.raises(DataError, match="no longer exists"):
            import_descriptions(workspace, number, [("normal scan", ["grey"])])
        with pytest.raises(DataError, match="no longer exists"):
            write_descriptions(workspace, number, tmp_path / "a.json")
        with pytest.raises(DataError, match="no longer exists"):
            set_descriptions(workspace, number, {})


def test_typed_sentences() -> None:
    assert tidy([" a  nucleus ", "", "a nucleus", "blue\u202e"]) == ["a nucleus", "blue"]
    with pytest.raises(DataError, match=r"longer than 1,000 characters: “xxx"):
        tidy(["x" * 1001])
    with pytest.raises(DataError, match=r"may have 1,000 sentences; these are 1,001"):
        tidy(map(str, range(1001)))
