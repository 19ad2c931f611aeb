"""Labels from elsewhere: recognised by content, then by name; told row by row what could not be used."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from engines.errors import Cancelled, ConfigError, DataError
from engines.jobs.context import JobContext
from engines.jobs.registry import find_kind
from engines.labelling import check_chain, effective_labels
from engines.labelling.answers import imported_suggestions
from engines.labelling.imports import (
    CONTRADICTION,
    UNKNOWN_CLASS,
    explain,
    import_labels,
)
from engines.labelling.recognise import AMBIGUOUS, NO_NAME, OTHER_CONTENT, UNKNOWN_IMAGE, find_image
from engines.store import Annotation, Occasion, Sample, Verdict, Workspace
from tests.labelling.conftest import Clinic
from tests.labelling.pictures import draw

Table = Callable[..., Path]


@pytest.fixture
def table(tmp_path: Path) -> Table:
    """table([["file", "label"], ["0.png", "a"]]) -> a CSV file."""

    def make(rows: list[list[str]], name: str = "given.csv") -> Path:
        with (tmp_path / name).open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(rows)
        return tmp_path / name

    return make


def labels(clinic: Clinic) -> dict[int, str]:
    """Class of each labelled image, by its number."""
    names = {class_id: name for name, class_id in clinic.classes.items()}
    with clinic.workspace.session() as session:
        found = effective_labels(session, clinic.id)
    return {clinic.samples.index(sample): names.get(class_id, "?") for sample, class_id in found.items()}


def rows(workspace: Workspace) -> list[Annotation]:
    with workspace.session() as session:
        return list(session.scalars(select(Annotation).order_by(Annotation.id)))


def rename(clinic: Clinic, names: dict[int, str]) -> None:
    with clinic.workspace.session() as session:
        for number, name in names.items():
            session.get_one(Sample, clinic.samples[number]).name = name


class TestTables:
    def test_as_labels(self, clinic: Clinic, table: Table) -> None:
        file = table([["file_name", "label"], ["0.png", "a"], ["2.png", "c"], ["3.png", ""]])
        report = import_labels(clinic.workspace, clinic.id, file, "labels", "Anna")
        assert (report.rows, report.added, report.already, report.blank, report.refused) == (3, 2, 0, 1, 0)
        assert labels(clinic) == {0: "a", 2: "c"}
        for row in rows(clinic.workspace):
            assert (row.verdict, row.occasion, row.annotator) == (Verdict.LABEL, Occasion.IMPORT, "Anna")
            assert row.aids == {"file": "given.csv"}
        chain = check_chain(clinic.workspace)
        assert (chain.rows, chain.broken) == (2, None)

    def test_as_suggestions_nothing_counts(self, clinic: Clinic, table: Table) -> None:
        file = table([["file_name", "label"], ["0.png", "a"]])
        assert import_labels(clinic.workspace, clinic.id, file, "suggestions", "model 7").added == 1
        assert labels(clinic) == {}
        assert [row.verdict for row in rows(clinic.workspace)] == [Verdict.SUGGESTION]
        suggested = imported_suggestions(clinic.workspace, clinic.id)
        assert suggested == {clinic.samples[0]: [("model 7", clinic.classes["a"], None)]}

    def test_a_reader_beats_what_was_imported(self, clinic: Clinic, table: Table) -> None:
        clinic.say(0, "b")
        import_labels(clinic.workspace, clinic.id, table([["name", "label"], ["0.png", "a"]]), "labels", "Anna")
        assert labels(clinic) == {0: "b"}

    @pytest.mark.parametrize("as_", ["labels", "suggestions"])
    def test_the_same_file_twice_adds_nothing(self, clinic: Clinic, table: Table, as_: Any) -> None:
        file = table([["name", "label"], *([f"{n}.png", "abc"[n % 3]] for n in range(6))])
        assert import_labels(clinic.workspace, clinic.id, file, as_, "Anna").added == 6
        again = import_labels(clinic.workspace, clinic.id, file, as_, "Anna")
        assert (again.added, again.already) == (0, 6)
        assert len(rows(clinic.workspace)) == 6

    def test_a_changed_file_adds_what_changed(self, clinic: Clinic, table: Table) -> None:
        first = table([["name", "label"], ["0.png", "a"], ["1.png", "b"]])
        import_labels(clinic.workspace, clinic.id, first, "labels", "Anna")
        second = table([["name", "label"], ["0.png", "c"], ["1.png", "b"], ["2.png", "a"]], "second.csv")
        report = import_labels(clinic.workspace, clinic.id, second, "labels", "Anna")
        assert (report.added, report.already) == (2, 1)
        assert labels(clinic) == {0: "c", 1: "b", 2: "a"}
        import_labels(clinic.workspace, clinic.id, first, "labels", "Anna")
        assert labels(clinic) == {0: "a", 1: "b", 2: "a"}

    @pytest.mark.parametrize(
        "head",
        [
            ["FILE_NAME", "Label"], ["Image", "CLASS"], ["path", "diagnosis"], ["Image ID", "dx"], ["name", "y"],
            ["SHA256", "label"], ["Content-Hash", "Category"], ["Filename", "Class Name"],
        ],
    )  # fmt: skip
    def test_columns_are_found(self, clinic: Clinic, table: Table, head: list[str]) -> None:
        name = f"{1:064X}" if head[0].lower() in ("sha256", "content-hash") else "1.png"
        report = import_labels(clinic.workspace, clinic.id, table([head, [name, "b"]]), "labels", "Anna")
        assert report.added == 1
        assert labels(clinic) == {1: "b"}

    def test_a_column_by_name(self, clinic: Clinic, table: Table) -> None:
        file = table([["name", "label", "Second Reader"], ["0.png", "a", "c"]])
        import_labels(clinic.workspace, clinic.id, file, "labels", "Bea", label_column="second reader")
        assert labels(clinic) == {0: "c"}
        with pytest.raises(DataError, match="no column “third”"):
            import_labels(clinic.workspace, clinic.id, file, "labels", "Bea", label_column="third")

    @pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
    def test_spreadsheets_of_all_countries(self, clinic: Clinic, tmp_path: Path, separator: str, encoding: str) -> None:
        rename(clinic, {0: "Läsion.png"})
        text = f"name{separator}label\r\nLäsion.png{separator}a\r\n"
        (tmp_path / "x.csv").write_bytes(text.encode(encoding))
        import_labels(clinic.workspace, clinic.id, tmp_path / "x.csv", "labels", "Anna")
        assert labels(clinic) == {0: "a"}

    def test_json_lines_and_parquet(self, clinic: Clinic, tmp_path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as parquet

        (tmp_path / "x.jsonl").write_text('{"name": "0.png", "label": "a"}\n{"name": "1.png", "label": null}\n')
        assert import_labels(clinic.workspace, clinic.id, tmp_path / "x.jsonl", "labels", "Anna").added == 1
        parquet.write_table(pa.table({"name": ["2.png"], "label": ["b"]}), tmp_path / "x.parquet")
        assert import_labels(clinic.workspace, clinic.id, tmp_path / "x.parquet", "labels", "Anna").added == 1
        assert labels(clinic) == {0: "a", 2: "b"}


class TestRecognising:
    def test_content_beats_name(self, clinic: Clinic, table: Table) -> None:
        given = [["0.png", f"{4:064x}", "a"], ["5.png", "f" * 64, "b"], ["3.png", "md5 of it", "c"]]
        file = table([["name", "sha256", "label"], *given])
        report = import_labels(clinic.workspace, clinic.id, file, "labels", "Anna")
        assert labels(clinic) == {4: "a", 3: "c"}
        assert report.reasons == {OTHER_CONTENT: 1}  # another image that is called alike

    def test_files_beside_the_table_are_looked_at(self, clinic: Clinic, table: Table, tmp_path: Path) -> None:
        draw(tmp_path / "scans/whatever.png", 3)
        digest = hashlib.sha256((tmp_path / "scans/whatever.png").read_bytes()).hexdigest()
        with clinic.workspace.session() as session:
            session.get_one(Sample, clinic.samples[3]).sha256 = digest
        file = table([["name", "label"], ["scans\\whatever.png", "a"]])
        import_labels(clinic.workspace, clinic.id, file, "labels", "Anna")
        assert labels(clinic) == {3: "a"}

    def test_the_same_content_twice_is_labelled_twice(self, clinic: Clinic, table: Table) -> None:
        with clinic.workspace.session() as session:
            session.get_one(Sample, clinic.samples[3]).sha256 = f"{0:064x}"
        import_labels(clinic.workspace, clinic.id, table([["sha256", "label"], [f"{0:064x}", "a"]]), "labels", "Anna")
        assert labels(clinic) == {0: "a", 3: "a"}

    @pytest.mark.parametrize(
        ("name", "number"),
        [
            ("train/x/0.png", 0), ("x/0.png", 0), ("C:\\data\\train\\x\\0.png", 0), ("/home/me/train/x/0.png", 0),
            ("train/y/0.png", 1), ("y/0", 1), ("other.png", 2), ("somewhere/other.png", 2), ("other", 2),
            ("other.jpeg", 2), ("./other.png", 2), ("image 5, frame 2", 3), ("=evil.png", 4), ("'=evil.png", 4),
        ],
    )  # fmt: skip
    def test_paths(self, clinic: Clinic, table: Table, name: str, number: int) -> None:
        given = ["train/x/0.png", "train/y/0.png", "other.png", "image 5, frame 2", "=evil.png", "z/last.png"]
        rename(clinic, dict(enumerate(given)))
        with clinic.workspace.session() as session:
            for n, sample in enumerate(clinic.samples):
                session.get_one(Sample, sample).file = f"media/ab/{n:064x}.png"
        import_labels(clinic.workspace, clinic.id, table([["name", "label"], [name, "a"]]), "labels", "Anna")
        assert labels(clinic) == {number: "a"}

    @pytest.mark.parametrize("name", ["0.png", "0", "0.jpg"])
    def test_ambiguous_names_are_refused(self, clinic: Clinic, table: Table, name: str) -> None:
        rename(clinic, {0: "train/x/0.png", 1: "train/y/0.png"})
        with clinic.workspace.session() as session:
            for n in (0, 1):
                session.get_one(Sample, clinic.samples[n]).file = f"media/{n}f.png"
        report = import_labels(
            clinic.workspace, clinic.id, table([["name", "label"], [name, "a"], ["2.png", "b"]]), "labels", "Anna"
        )
        assert labels(clinic) == {2: "b"}
        (refused,) = report.refused_rows
        assert (refused.where, refused.image, refused.reason) == ("row 2", name, AMBIGUOUS)

    @pytest.mark.parametrize("name", ["patient 2/0.png", "y/patient 1/0.png", "1.2.840.9", "patient 1/0.png/x"])
    def test_what_lies_elsewhere_is_not_it(self, clinic: Clinic, table: Table, name: str) -> None:
        rename(clinic, {0: "x/patient 1/0.png", 1: "1.2.840.7", 2: "x/patient 1/00.png"})
        with clinic.workspace.session() as session:
            for n, sample in enumerate(clinic.samples):
                session.get_one(Sample, sample).file = f"media/{n}f.png"
        report = import_labels(clinic.workspace, clinic.id, table([["name", "label"], [name, "a"]]), "labels", "Anna")
        assert (report.added, report.reasons) == (0, {UNKNOWN_IMAGE: 1})

    def test_many_images_of_one_name(self, make_clinic: Callable[..., Clinic], table: Table) -> None:
        clinic = make_clinic(images=2000)
        rename(clinic, {n: f"patient {n}/scan/image.png" for n in range(2000)})
        given = [[f"patient {n}/scan/image.png", "a"] for n in range(0, 2000, 50)]
        given += [[f"C:\\all\\patient {n}\\scan\\image.png", "b"] for n in range(1, 2000, 50)]
        report = import_labels(
            clinic.workspace, clinic.id, table([["name", "label"], *given, ["image.png", "c"]]), "labels", "Anna"
        )
        assert report.reasons == {AMBIGUOUS: 1}
        assert labels(clinic) == {n: "a" if n % 50 == 0 else "b" for n in range(2000) if n % 50 < 2}

    def test_one_image_by_whatever_it_is_called(self, clinic: Clinic) -> None:
        rename(clinic, {0: "train/x/0.png", 1: "train/y/0.png"})
        with clinic.workspace.session() as session:
            for n, sample in enumerate(clinic.samples):
                session.get_one(Sample, sample).file = f"media/{n}f.png"
        find = partial(find_image, clinic.workspace, clinic.id)
        assert find("y/0.png") == find("train/y/0") == find(f"{1:064X}") == clinic.samples[1]
        assert find("5.png") == find(" 5 ") == clinic.samples[5]
        number = clinic.samples[3] + 1000
        for text in ("zebra.png", "", "f" * 64, str(number), "0/0.png/"):
            with pytest.raises(DataError):
                find(text)
        with pytest.raises(DataError, match="Give more of its path"):
            find("0.png")

    def test_what_cannot_be_used_is_told(self, clinic: Clinic, table: Table) -> None:
        given = [["no.png", "a"], ["0.png", "zebra"], ["1.png", "a"], ["1.png", "b"], ["", "c"], ["2.png", "b"]]
        report = import_labels(clinic.workspace, clinic.id, table([["name", "label"], *given]), "labels", "Anna")
        assert labels(clinic) == {2: "b"}
        assert report.reasons == {UNKNOWN_IMAGE: 1, UNKNOWN_CLASS: 1, CONTRADICTION: 2, NO_NAME: 1}
        assert (report.refused, len(report.refused_rows)) == (5, 5)
        assert report.unknown_classes == {"zebra": 1}
        told = " ".join(explain(report))
        assert all(reason in told for reason in report.reasons)
        assert "“zebra” (1)" in told

    def test_saying_the_same_twice_is_no_contradiction(self, clinic: Clinic, table: Table) -> None:
        file = table([["name", "label"], ["0.png", "a"], ["0.png", "A"]])
        assert import_labels(clinic.workspace, clinic.id, file, "labels", "Anna").added == 1

    def test_many_refused_rows_are_counted(self, clinic: Clinic, table: Table) -> None:
        file = table([["name", "label"], *([f"x{n}.png", "a"] for n in range(1000))])
        report = import_labels(clinic.workspace, clinic.id, file, "labels", "Anna")
        assert (report.refused, len(report.refused_rows), report.added) == (1000, 200, 0)


class TestClasses:
    def test_unknown_ones_are_made_if_asked(self, clinic: Clinic, table: Table) -> None:
        file = table([["name", "label"], ["0.png", "zebra"], ["1.png", "Zebra "], ["no.png", "gnu"], ["2.png", "a"]])
        report = import_labels(clinic.workspace, clinic.id, file, "labels", "Anna", create_classes=True)
        assert report.created_classes == ["zebra"]  # one of two spellings, and none for an image that is not there
        assert report.added == 3
        with clinic.workspace.session() as session:
            assert len(effective_labels(session, clinic.id)) == 3

    def test_letters_case_counts_where_it_must(self, make_clinic: Callable[..., Clinic], table: Table) -> None:
        clinic = make_clinic(classes="aAb")
        file = table([["name", "label"], ["0.png", "a"], ["1.png", "A"], ["2.png", "B"]])
        import_labels(clinic.workspace, clinic.id, file, "labels", "Anna")
        assert labels(clinic) == {0: "a", 1: "A", 2: "b"}

    def test_too_many(self, clinic: Clinic, table: Table, monkeypatch: Any) -> None:
        monkeypatch.setattr("engines.data.base.MOST_CLASSES", 5)
        file = table([["name", "label"], *([f"{n}.png", f"new {n}"] for n in range(6))])
        with pytest.raises(DataError, match="more than 5 classes"):
            import_labels(clinic.workspace, clinic.id, file, "labels", "Anna", create_classes=True)
        assert rows(clinic.workspace) == []


def coco(**parts: Any) -> dict[str, Any]:
    return {
        "images": [{"id": 1, "file_name": "0.png"}, {"id": "two", "file_name": "deep/1.png"}],
        "categories": [{"id": 5, "name": "a"}, {"id": 6, "name": "b"}],
        "annotations": [{"image_id": 1, "category_id": 5}, {"image_id": "two", "category_id": 6}],
    } | parts


class TestCoco:
    def put(self, tmp_path: Path, document: Any) -> Path:
        (tmp_path / "coco.json").write_text(json.dumps(document), "utf-8")
        return tmp_path / "coco.json"

    def test_labels(self, clinic: Clinic, tmp_path: Path) -> None:
        import_labels(clinic.workspace, clinic.id, self.put(tmp_path, coco()), "labels", "Anna")
        assert labels(clinic) == {0: "a", 1: "b"}

    def test_many_boxes_of_one_class_are_one_label(self, clinic: Clinic, tmp_path: Path) -> None:
        boxes = [{"image_id": 1, "category_id": 5, "bbox": [n, n, 2, 2]} for n in range(4)]
        report = import_labels(clinic.workspace, clinic.id, self.put(tmp_path, coco(annotations=boxes)), "labels", "A")
        assert (report.rows, report.added) == (4, 1)

    def test_boxes_of_several_classes_are_refused(self, clinic: Clinic, tmp_path: Path) -> None:
        boxes = [{"image_id": 1, "category_id": c} for c in (5, 6)]
        report = import_labels(clinic.workspace, clinic.id, self.put(tmp_path, coco(annotations=boxes)), "labels", "A")
        assert report.reasons == {CONTRADICTION: 2}

    @pytest.mark.parametrize(
        "bad",
        [
            None, 7, "text", [], {}, {"image_id": 9, "category_id": 5}, {"image_id": 1}, {"category_id": 5},
            {"image_id": 1, "category_id": 99}, {"image_id": [1], "category_id": {}},
        ],
    )  # fmt: skip
    def test_bad_annotations_are_refused_one_by_one(self, clinic: Clinic, tmp_path: Path, bad: Any) -> None:
        document = coco(annotations=[bad, {"image_id": 1, "category_id": 5}])
        report = import_labels(clinic.workspace, clinic.id, self.put(tmp_path, document), "labels", "Anna")
        assert (report.added, report.refused) == (1, 1)
        assert labels(clinic) == {0: "a"}

    @pytest.mark.parametrize(
        "document",
        [
            None, 3, [], {}, {"images": []}, coco(images={}), coco(annotations=None), coco(categories="a"),
            coco(annotations=[]),
        ],
    )  # fmt: skip
    def test_not_coco(self, clinic: Clinic, tmp_path: Path, document: Any) -> None:
        with pytest.raises(DataError):
            import_labels(clinic.workspace, clinic.id, self.put(tmp_path, document), "labels", "Anna")

    def test_odd_lists_do_no_harm(self, clinic: Clinic, tmp_path: Path) -> None:
        document = coco(images=[None, 3, {"id": 1}, {"id": 1, "file_name": "0.png"}], categories=[{}, {"id": 5}])
        report = import_labels(clinic.workspace, clinic.id, self.put(tmp_path, document), "labels", "Anna")
        assert (report.added, report.refused) == (0, 2)


class TestFolders:
    def test_a_folder_per_class(self, clinic: Clinic, tmp_path: Path) -> None:
        for number, place in ((0, "a"), (1, "train/b"), (2, "test/c"), (3, "unlabelled"), (4, "train"), (5, ".")):
            draw(tmp_path / "tree" / place / f"{number}.png", number)
        (tmp_path / "tree/a/notes.txt").write_text("x")
        report = import_labels(clinic.workspace, clinic.id, tmp_path / "tree", "labels", "Anna")
        assert labels(clinic) == {0: "a", 1: "b", 2: "c"}
        assert (report.blank, report.refused) == (1, 2)

    def test_empty(self, clinic: Clinic, tmp_path: Path) -> None:
        (tmp_path / "tree").mkdir()
        with pytest.raises(DataError, match="holds no labels"):
            import_labels(clinic.workspace, clinic.id, tmp_path / "tree", "labels", "Anna")


BAD_FILES: dict[str, bytes | None] = {
    "missing.csv": None,
    "empty.csv": b"",
    "head only.csv": b"name,label\n",
    "no label.csv": b"name,colour\n0.png,a\n",
    "no image.csv": b"label,colour\na,b\n",
    "nul.csv": b"name,label\n0.png,\0\n",
    "picture.csv": bytes(range(256)),
    "not.parquet": b"PAR1 no",
    "not.jsonl": b"{",
    "list.jsonl": b"[1, 2]\n",
    "not.json": b"{",
    "deep.json": b"[" * 100_000,
    "bytes.json": b"\xff\xfe\x00",
    "labels.xlsx": b"PK",
    "labels.zip": b"PK",
    "labels": b"name,label\n0.png,a\n",
    "huge cell.csv": b"name,label\n0.png," + b"a" * 2_000_000 + b"\n",
}


class TestBadInput:
    @pytest.mark.parametrize("name", BAD_FILES)
    def test_files(self, clinic: Clinic, tmp_path: Path, name: str) -> None:
        content = BAD_FILES[name]
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError):
            import_labels(clinic.workspace, clinic.id, tmp_path / name, "labels", "Anna")
        assert rows(clinic.workspace) == []

    @pytest.mark.parametrize("annotator", ["", "  ", "x" * 101, "a\nb", "a\0"])
    def test_readers(self, clinic: Clinic, table: Table, annotator: str) -> None:
        with pytest.raises(DataError):
            import_labels(clinic.workspace, clinic.id, table([["name", "label"], ["0.png", "a"]]), "labels", annotator)

    def test_neither_labels_nor_suggestions(self, clinic: Clinic, table: Table) -> None:
        with pytest.raises(ConfigError, match="Choose suggestions or labels"):
            import_labels(clinic.workspace, clinic.id, table([["name", "label"]]), "truth", "A")  # type: ignore[arg-type]

    def test_no_data_set(self, clinic: Clinic, table: Table) -> None:
        with pytest.raises(DataError, match="no longer exists"):
            import_labels(clinic.workspace, 99, table([["name", "label"], ["0.png", "a"]]), "labels", "Anna")

    def test_cancelled_and_begun_again(self, make_clinic: Callable[..., Clinic], table: Table) -> None:
        clinic = make_clinic(images=500)
        file = table([["name", "label"], *([f"{n}.png", "a"] for n in range(500))])
        calls = iter(range(10**6))

        def stop() -> None:
            if next(calls) > 501:
                raise Cancelled

        with pytest.raises(Cancelled):
            import_labels(clinic.workspace, clinic.id, file, "labels", "Anna", check_cancelled=stop)
        kept = len(rows(clinic.workspace))
        assert 0 < kept < 500
        report = import_labels(clinic.workspace, clinic.id, file, "labels", "Anna")
        assert (report.added, report.already) == (500 - kept, kept)
        assert check_chain(clinic.workspace).broken is None

    @given(st.lists(st.tuples(st.text(max_size=20), st.text(max_size=20), st.text(max_size=70)), max_size=8))
    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_any_cells_are_counted_and_do_no_harm(
        self, clinic: Clinic, tmp_path: Path, cells: list[tuple[str, str, str]]
    ) -> None:
        given = [[cell.encode("utf-8", "replace").decode().replace("\0", "") for cell in row] for row in cells]
        with (tmp_path / "any.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([["name", "label", "sha256"], ["0.png", "a", ""], *given])
        before = len(rows(clinic.workspace))
        report = import_labels(clinic.workspace, clinic.id, tmp_path / "any.csv", "labels", "Anna")
        assert report.rows >= 1
        assert report.blank + report.refused + report.added + report.already <= report.rows
        assert len(rows(clinic.workspace)) - before == report.added
        assert check_chain(clinic.workspace).broken is None


def test_job(clinic: Clinic, table: Table) -> None:
    kind = find_kind("import_labels")
    assert kind.lane == "waited-for"
    file = table([["name", "label"], ["0.png", "new"]])
    payload = {"dataset_id": clinic.id, "file": str(file), "as_": "labels", "create_classes": True}
    result = kind.run(JobContext(clinic.workspace), kind.parse(payload))
    assert (result["added"], result["created_classes"]) == (1, ["new"])
    with pytest.raises(ConfigError):
        kind.parse(payload | {"as_": "truth"})


class TestProbabilities:
    @pytest.mark.parametrize("column", ["probability", "Confidence", "score", "p"])
    def test_a_column_of_them_is_read(self, clinic: Clinic, table: Table, column: str) -> None:
        given = ["0.83", "0,5", "83 %", "", "1", "0", "-0.1", "1.5", "sure", "nan"]
        lines = [[f"{n % 6}.png", "abc"[n % 3], text] for n, text in enumerate(given)][:6]
        file = table([["name", "label", column], *lines])
        report = import_labels(clinic.workspace, clinic.id, file, "suggestions", "model 7")
        assert (report.added, report.unclear, report.refused) == (6, 0, 0)
        found = imported_suggestions(clinic.workspace, clinic.id)
        shares = [found[sample][0].probability for sample in clinic.samples]
        assert shares == [0.83, 0.5, 0.83, None, 1.0, 0.0]

    def test_what_is_no_probability_is_told_and_left_out(self, clinic: Clinic, table: Table) -> None:
        odd = ["-0.1", "1.5", "sure", "nan", "1e999", "120%"]
        file = table([["name", "label", "score"], *([f"{n}.png", "a", text] for n, text in enumerate(odd))])
        report = import_labels(clinic.workspace, clinic.id, file, "suggestions", "model 7")
        assert (report.added, report.unclear, report.refused) == (6, 6, 0)
        assert any("6 rows have a probability that is no number" in line for line in explain(report))
        assert {each[0].probability for each in imported_suggestions(clinic.workspace, clinic.id).values()} == {None}

    def test_coco_has_scores(self, clinic: Clinic, tmp_path: Path) -> None:
        document = {
            "images": [{"id": n, "file_name": f"{n}.png"} for n in range(3)],
            "categories": [{"id": 1, "name": "b"}],
            "annotations": [
                {"id": 1, "image_id": 0, "category_id": 1, "score": 0.25},
                {"id": 2, "image_id": 1, "category_id": 1},
                {"id": 3, "image_id": 2, "category_id": 1, "score": "high"},
            ],
        }
        (tmp_path / "coco.json").write_text(json.dumps(document), "utf-8")
        report = import_labels(clinic.workspace, clinic.id, tmp_path / "coco.json", "suggestions", "model 7")
        assert (report.added, report.unclear) == (3, 1)
        found = imported_suggestions(clinic.workspace, clinic.id)
        assert [found[sample][0].probability for sample in clinic.samples[:3]] == [0.25, None, None]

    def test_another_probability_is_something_new(self, clinic: Clinic, table: Table) -> None:
        def take(text: str) -> int:
            file = table([["name", "label", "probability"], ["0.png", "a", text]])
            return import_labels(clinic.workspace, clinic.id, file, "suggestions", "model 7").added

        assert [take(text) for text in ("0.5", "0.5", "0.75", "", "", "0.5")] == [1, 0, 1, 1, 0, 1]
        assert imported_suggestions(clinic.workspace, clinic.id)[clinic.samples[0]][0].probability == 0.5

    def test_two_sources_may_say_different_things(self, clinic: Clinic, table: Table) -> None:
        for source, name in (("model 7", "a"), ("registry", "b"), ("Model 7 ", "c")):
            file = table([["name", "label"], ["0.png", name]])
            assert import_labels(clinic.workspace, clinic.id, file, "suggestions", source).added == 1
        told = imported_suggestions(clinic.workspace, clinic.id)[clinic.samples[0]]
        assert told == [("model 7", clinic.classes["c"], None), ("registry", clinic.classes["b"], None)]
