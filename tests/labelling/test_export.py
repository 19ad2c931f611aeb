"""Labels go out in five formats, complete and harmless, and come back in as they were."""

from __future__ import annotations

import csv
import errno
import hashlib
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from sqlalchemy import select

from engines.data.names import plain_cell, spreadsheet_safe
from engines.errors import Cancelled, ConfigError, DataError
from engines.jobs.context import JobContext
from engines.jobs.registry import find_kind
from engines.labelling import undo
from engines.labelling.export import FORMATS, LabelExport, export_labels
from engines.labelling.formats.croissant import CONFORMS_TO
from engines.labelling.imports import import_labels
from engines.store import Annotation, Dataset, Sample, SelectionRound, Verdict, Workspace
from tests.labelling.pictures import ODD, READER, bare_copy, bring_in, classes, labels, samples, say

FORMULA = ("=", "+", "-", "@", "\t", "\r")


@pytest.fixture
def odd(workspace: Workspace, tmp_path: Path) -> int:
    """The odd data set, with verdicts of two readers, one undone, one in a round."""
    dataset_id = bring_in(workspace, tmp_path / "in")
    images = [s.id for s in samples(workspace, dataset_id)]
    with workspace.session() as session:
        pick = {"sample": images[20], "why": "=uncertain between A and B"}
        session.add(SelectionRound(id=1, dataset_id=dataset_id, number=4, strategy="badge", budget=1, picks=[pick]))
    say(workspace, dataset_id, images[20], "猫", round_id=1)
    say(workspace, dataset_id, images[0], "@dog")
    say(workspace, dataset_id, images[0], "@dog", "Bö")
    say(workspace, dataset_id, images[1], Verdict.FLAG, comment="=cmd|' /C calc'!A1\nsecond line")
    say(workspace, dataset_id, images[2], Verdict.NOT_GRADABLE)
    say(workspace, dataset_id, images[3], "<b>|x", "Bö")
    undo(workspace, dataset_id, "Bö", "undo-1")
    return dataset_id


def table(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8-sig", newline="") as opened:
        return list(csv.DictReader(opened))


def harmless(file: Path) -> bool:
    with file.open(encoding="utf-8-sig", newline="") as opened:
        return not any(cell.startswith(FORMULA) for row in csv.reader(opened) for cell in row)


def expected(workspace: Workspace, dataset_id: int) -> dict[str, str]:
    return labels(workspace, dataset_id)


def place(workspace: Workspace, report: LabelExport) -> Path:
    return workspace.resolve(report.path)


class TestTable:
    def test_one_row_an_image(self, workspace: Workspace, odd: int) -> None:
        report = export_labels(workspace, odd, "csv")
        assert report.files == [f"{report.path}/labels.csv"]
        assert (report.images, report.labelled, report.missing, report.decisions) == (23, 20, 0, None)
        file = workspace.resolve(report.files[0])
        rows = {row["sha256"]: row for row in table(file)}
        assert {sha: plain_cell(row["label"]) for sha, row in rows.items() if row["label"]} == expected(workspace, odd)
        first, flagged, ungradable, undone = (rows[s.sha256] for s in samples(workspace, odd)[:4])
        assert (first[f"reader: {READER}"], first["reader: Bö"], first["decided_by"]) == ("'@dog", "'@dog", "readers")
        assert flagged[f"reader: {READER}"] == "(flag)"
        assert (ungradable["label"], ungradable[f"reader: {READER}"]) == ("", "(not gradable)")
        assert (undone["reader: Bö"], undone["decided_by"]) == ("", "given")
        assert harmless(file)
        assert Path(first["file"]).is_file()

    def test_disputed_images_say_so(self, workspace: Workspace, odd: int) -> None:
        image = samples(workspace, odd)[21]
        say(workspace, odd, image.id, "猫")
        say(workspace, odd, image.id, "CON", "Bö")
        rows = table(workspace.resolve(export_labels(workspace, odd, "csv").files[0]))
        disputed = [row for row in rows if row["disputed"]]
        assert [row["sha256"] for row in disputed] == [image.sha256]
        assert disputed[0]["label"] == ""

    def test_audit_is_one_row_a_decision(self, workspace: Workspace, odd: int) -> None:
        report = export_labels(workspace, odd, "csv", audit=True)
        assert report.decisions == 7
        file = workspace.resolve(report.files[1])
        assert harmless(file)
        rows = table(file)
        assert [row["verdict"] for row in rows] == ["label", "label", "label", "flag", "not_gradable", "label", "undo"]
        assert rows[6]["refers_to"] == rows[5]["decision"]
        first = rows[0]
        assert (first["round"], first["strategy"], first["why"]) == ("4", "badge", "'=uncertain between A and B")
        assert plain_cell(first["reader"]) == READER
        assert (first["seconds"], json.loads(first["aids"])) == ("1.5", {"blind": True})
        assert first["time"].endswith("+00:00")
        assert plain_cell(rows[3]["comment"]).endswith("\nsecond line")
        with workspace.session() as session:
            stored = session.scalars(select(Annotation).order_by(Annotation.id)).all()
        assert [row["chain"] for row in rows] == [row.chain for row in stored]
        assert [int(row["decision"]) for row in rows] == [row.id for row in stored]

    def test_nothing_labelled(self, workspace: Workspace, odd: int) -> None:
        empty = bare_copy(workspace, odd)
        assert export_labels(workspace, empty, "csv", audit=True).labelled == 0
        for format in FORMATS[1:]:
            with pytest.raises(DataError, match="No image has a label yet"):
                export_labels(workspace, empty, format)  # type: ignore[arg-type]

    def test_no_images(self, workspace: Workspace) -> None:
        with workspace.session() as session:
            session.add(Dataset(id=9, name="empty", reader="folder"))
        assert table(workspace.resolve(export_labels(workspace, 9, "csv", audit=True).files[0])) == []

    @given(st.lists(st.text(min_size=1, max_size=30), min_size=1, max_size=5, unique=True), st.text(max_size=60))
    @settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_any_name_is_harmless_and_comes_back(self, workspace: Workspace, names: list[str], comment: str) -> None:
        from engines.labelling.content import Content, Picture
        from engines.labelling.formats import csv as writer

        folder = workspace.folder("exports")
        names = [name.encode("utf-8", "replace").decode() for name in names]
        comment = comment.encode("utf-8", "replace").decode()
        pictures = [
            Picture(n, n, name, Path(f"{n}.png"), "", 1, 1, "pool", comment, name, name, "given", False, {name: name})
            for n, name in enumerate(names)
        ]
        writer.write(folder, Content("n", "", names, names, pictures, None))
        assert harmless(folder / "labels.csv")
        back = table(folder / "labels.csv")
        assert [row["label"] for row in back] == [spreadsheet_safe(name) for name in names]
        assert [row["domain"] for row in back] == [spreadsheet_safe(comment)] * len(names)


class TestPictures:
    @pytest.mark.parametrize("audit", [False, True])
    def test_folders(self, workspace: Workspace, odd: int, audit: bool) -> None:
        report = export_labels(workspace, odd, "folder", audit)
        root = place(workspace, report)
        assert (report.images, report.labelled) == (20, 20)
        rows = table(root / "metadata.csv")
        assert {row["sha256"]: plain_cell(row["label"]) for row in rows} == expected(workspace, odd)
        for row in rows:
            file = root / row["file_name"]
            assert hashlib.sha256(file.read_bytes()).hexdigest() == row["sha256"]
            assert file.parts[-3] in ("train", "test")
        assert {folder.name for folder in root.iterdir()} == {"train", "test", "metadata.csv"} | (
            {"decisions.csv"} if audit else set()
        )
        names = {folder.name for split in ("train", "test") for folder in (root / split).iterdir()}
        assert not any(set(name) & set('<>:"/\\|?*') or name == "CON" for name in names)

    @pytest.mark.parametrize("audit", [False, True])
    def test_coco(self, workspace: Workspace, odd: int, audit: bool) -> None:
        report = export_labels(workspace, odd, "coco", audit)
        root = place(workspace, report)
        document = json.loads((root / "annotations.json").read_text("utf-8"))
        category = {each["id"]: each["name"] for each in document["categories"]}
        assert [category[number] for number in sorted(category)] == list(classes(workspace, odd))
        image = {each["id"]: each for each in document["images"]}
        assert len(image) == len(document["images"]) == len(document["annotations"]) == 20
        found = {image[a["image_id"]]["sha256"]: category[a["category_id"]] for a in document["annotations"]}
        assert found == expected(workspace, odd)
        for each in image.values():
            with Image.open(root / "images" / each["file_name"]) as opened:
                assert opened.size == (each["width"], each["height"])
        text = (root / "annotations.json").read_text("utf-8")
        assert (READER.replace('"', '\\"') in text) is audit
        assert ("decisions" in document) is audit
        if audit:
            assert len(document["decisions"]) == report.decisions == 7
            assert {"Bö": "@dog", READER: "@dog"} in [a["readers"] for a in document["annotations"]]

    def test_hugging_face_opens_it(self, workspace: Workspace, odd: int, tmp_path: Path, monkeypatch: Any) -> None:
        datasets = pytest.importorskip("datasets")
        monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
        root = place(workspace, export_labels(workspace, odd, "hf", audit=True))
        opened = datasets.load_dataset("imagefolder", data_dir=str(root), cache_dir=str(tmp_path / "cache"))
        found = {row["sha256"]: plain_cell(row["label"]) for split in opened.values() for row in split}
        assert found == expected(workspace, odd)
        pixels = {s.sha256: np.asarray(Image.open(s.file)) for s in samples(workspace, odd)}
        for split, name in (("train", "train"), ("test", "test")):
            for row in opened[split]:
                assert row["part"] == name or row["sha256"] == samples(workspace, odd)[20].sha256
                assert np.array_equal(np.asarray(row["image"]), pixels[row["sha256"]])

    def test_card_is_text(self, workspace: Workspace, odd: int) -> None:
        card = (place(workspace, export_labels(workspace, odd, "hf", audit=True)) / "README.md").read_text("utf-8")
        assert card.startswith("---\npretty_name: ")
        assert "<b>" not in card.split("---\n", 2)[2]
        rows = [line for line in card.splitlines() if line.startswith("| ")]
        assert len(rows) == len(ODD) + 2
        assert all(line.replace("\\|", "").count("|") == 4 for line in rows)

    def test_medical_files_become_pictures(self, workspace: Workspace, odd: int, tmp_path: Path) -> None:
        pytest.importorskip("pydicom")
        from tests.data.test_dicom import SECRETS, noise, put, scan

        put(tmp_path / "scan.dcm", scan(noise(1)))
        first = samples(workspace, odd)[0]
        with workspace.session() as session:
            session.get_one(Sample, first.id).file = str(tmp_path / "scan.dcm")
        for format in ("folder", "coco", "hf"):
            root = place(workspace, export_labels(workspace, odd, format))  # type: ignore[arg-type]
            written = [f for f in root.rglob("*") if f.is_file()]
            assert not [f for f in written if f.suffix == ".dcm"]
            assert not [f for f in written for secret in SECRETS if secret.encode() in f.read_bytes()]
            assert len([f for f in written if f.suffix == ".png"]) == 20

    def test_images_that_are_gone(self, workspace: Workspace, odd: int, tmp_path: Path) -> None:
        Path(samples(workspace, odd)[0].file).unlink()
        for format in FORMATS[1:]:
            report = export_labels(workspace, odd, format)  # type: ignore[arg-type]
            assert (report.images, report.missing, report.labelled) == (19, 1, 20)
        assert export_labels(workspace, odd, "csv").images == 23


def check_croissant(root: Path) -> dict[str, Any]:
    """The document, after checking the rules of Croissant 1.0 that a machine can check.

    Every @id is unique and every reference resolves; files are there, with their SHA-256; columns that fields extract
    are in the table; what a file set includes is in its archive.
    """
    document: dict[str, Any] = json.loads((root / "croissant.json").read_text("utf-8"))
    assert document["conformsTo"] == CONFORMS_TO
    assert document["@type"] == "sc:Dataset"
    assert {"@context", "name", "description", "license", "url", "creator", "datePublished"} <= set(document)
    context = document["@context"]
    assert (context["@vocab"], context["cr"]) == ("https://schema.org/", "http://mlcommons.org/croissant/")
    nodes: dict[str, dict[str, Any]] = {}

    def collect(value: Any, inside: str = "") -> None:
        if isinstance(value, list):
            for each in value:
                collect(each, inside)
        elif isinstance(value, dict) and inside not in ("@context", "data"):
            if "@id" in value and "@type" in value:
                assert value["@id"] not in nodes
                nodes[value["@id"]] = value
            for key, each in value.items():
                collect(each, key)

    collect(document)
    kinds = {"fileObject": "cr:FileObject", "fileSet": "cr:FileSet", "field": "cr:Field"}

    def resolve(source: dict[str, Any]) -> None:
        (kind,) = set(source) & set(kinds)
        target = nodes[source[kind]["@id"]]
        assert target["@type"] == kinds[kind]
        column = source.get("extract", {}).get("column")
        if column:
            with (root / target["contentUrl"]).open(encoding="utf-8", newline="") as file:
                assert column in next(csv.reader(file))

    for node in nodes.values():
        if node["@type"] == "cr:FileObject":
            file = root / node["contentUrl"]
            assert hashlib.sha256(file.read_bytes()).hexdigest() == node["sha256"]
            assert int(node["contentSize"].removesuffix(" B")) == file.stat().st_size
        if node["@type"] == "cr:FileSet":
            archive = nodes[node["containedIn"]["@id"]]
            with zipfile.ZipFile(root / archive["contentUrl"]) as opened:
                held = [Path(name) for name in opened.namelist()]
            assert held
            assert all(any(name.match(pattern) for pattern in node["includes"]) for name in held)
        if node["@type"] == "cr:Field":
            assert node["dataType"].startswith("sc:")
            for key in ("source", "references"):
                if key in node:
                    resolve(node[key])
        if node["@type"] == "cr:RecordSet":
            fields = {field["@id"] for field in node["field"]}
            assert all(name.startswith(f"{node['@id']}/") for name in fields)
            assert all(set(row) <= fields for row in node.get("data", []))
            if "key" in node:
                assert node["key"]["@id"] in fields
    return document


class TestCroissant:
    @pytest.mark.parametrize("audit", [False, True])
    def test_valid_by_its_own_rules(self, workspace: Workspace, odd: int, audit: bool) -> None:
        root = place(workspace, export_labels(workspace, odd, "croissant", audit))
        document = check_croissant(root)
        names = {each["@id"] for each in document["recordSet"]}
        assert names == {"classes", "labels"} | ({"decisions"} if audit else set())
        (listed,) = (each["data"] for each in document["recordSet"] if each["@id"] == "classes")
        assert [row["classes/name"] for row in listed] == list(classes(workspace, odd))
        assert (READER in json.dumps(document, ensure_ascii=False)) is audit
        rows = table(root / "labels.csv")
        assert {row["sha256"]: plain_cell(row["label"]) for row in rows} == expected(workspace, odd)
        with zipfile.ZipFile(root / "images.zip") as opened:
            content = {name: hashlib.sha256(opened.read(name)).hexdigest() for name in opened.namelist()}
        assert {row["file_name"]: row["sha256"] for row in rows} == content
        assert {each.name for each in root.iterdir()} == {"croissant.json", "labels.csv", "images.zip"} | (
            {"decisions.csv"} if audit else set()
        )

    def test_the_check_notices(self, workspace: Workspace, odd: int) -> None:
        root = place(workspace, export_labels(workspace, odd, "croissant"))
        text = (root / "croissant.json").read_text("utf-8")
        for good, bad in (
            ('"column": "label"', '"column": "labels"'),
            ('"@id": "labels.csv"\n', '"@id": "label.csv"\n'),
            ('"sha256": "', '"sha256": "0'),
            ("croissant/1.0", "croissant/0.8"),
        ):
            assert good in text
            (root / "croissant.json").write_text(text.replace(good, bad, 1), "utf-8")
            with pytest.raises((AssertionError, KeyError)):
                check_croissant(root)


class TestThereAndBack:
    @pytest.mark.parametrize("with_classes", [True, False])
    @pytest.mark.parametrize("format", ["csv", "folder", "coco", "hf"])
    def test_labels_come_back(self, workspace: Workspace, odd: int, format: str, with_classes: bool) -> None:
        report = export_labels(workspace, odd, format, audit=True)  # type: ignore[arg-type]
        file = {"csv": "labels.csv", "coco": "annotations.json"}.get(format, "")
        copy = bare_copy(workspace, odd, with_classes)
        back = import_labels(
            workspace, copy, place(workspace, report) / file, "labels", "Carla", create_classes=not with_classes
        )
        assert back.added == 20
        assert (back.refused, back.unknown_classes) == (0, {})
        assert labels(workspace, copy) == expected(workspace, odd)
        assert len(back.created_classes) == (0 if with_classes else len(set(expected(workspace, odd).values())))


class TestSafely:
    def test_never_over_another(self, workspace: Workspace, odd: int) -> None:
        paths = [export_labels(workspace, odd, "csv").path for _ in range(3)]
        assert len(set(paths)) == 3
        assert paths[1] == f"{paths[0]} (2)"
        assert not any(set(Path(path).name) & set('<>:"/\\|?*') for path in paths)

    def test_nothing_is_left_of_a_failure(self, workspace: Workspace, odd: int, monkeypatch: Any) -> None:
        def stop() -> None:
            raise Cancelled

        for format in FORMATS[1:]:
            with pytest.raises(Cancelled):
                export_labels(workspace, odd, format, check_cancelled=stop)  # type: ignore[arg-type]

        def full(*how: Any, **more: Any) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patched:
            patched.setattr("shutil.copyfile", full)
            for format in FORMATS[1:]:
                with pytest.raises(DataError, match="the disk is full"):
                    export_labels(workspace, odd, format)  # type: ignore[arg-type]
        with monkeypatch.context() as patched:
            patched.setattr(Path, "open", full)
            with pytest.raises(DataError, match="the disk is full"):
                export_labels(workspace, odd, "csv")
        assert list(workspace.folder("exports").iterdir()) == []

    def test_nothing_changes(self, workspace: Workspace, odd: int) -> None:
        def rows() -> list[Any]:
            with workspace.session() as session:
                return [(row.id, row.chain) for row in session.scalars(select(Annotation).order_by(Annotation.id))]

        before = rows()
        for format in FORMATS:
            export_labels(workspace, odd, format, audit=True)  # type: ignore[arg-type]
        assert rows() == before

    @pytest.mark.parametrize("format", ["pdf", "", "CSV", "../csv", "tables", "__init__"])
    def test_no_such_format(self, workspace: Workspace, odd: int, format: str) -> None:
        with pytest.raises(ConfigError, match="no export format"):
            export_labels(workspace, odd, format)  # type: ignore[arg-type]

    def test_no_such_data_set(self, workspace: Workspace) -> None:
        with pytest.raises(DataError, match="no longer exists"):
            export_labels(workspace, 5)

    def test_job(self, workspace: Workspace, odd: int) -> None:
        kind = find_kind("export_labels")
        assert kind.lane == "waited-for"
        result = kind.run(JobContext(workspace), kind.parse({"dataset_id": odd, "format": "coco", "audit": True}))
        assert workspace.resolve(result["files"][0]).is_file()
        with pytest.raises(ConfigError):
            kind.parse({"dataset_id": odd, "format": "pdf"})


def test_progress_is_told(workspace: Workspace, odd: int) -> None:
    told: list[float] = []
    note: Callable[[float, str], object] = lambda fraction, message: told.append(fraction)  # noqa: E731
    export_labels(workspace, odd, "folder", progress=note)
    assert told == sorted(told)
    assert len(told) == 20
    assert all(0 <= fraction < 1 for fraction in told)
