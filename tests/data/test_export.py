"""Exports come back in as they went out; the bin gives back what was put there."""

from __future__ import annotations

import csv
import errno
import os
import random
import zipfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from engines.data import (
    ImportReport,
    draw_few_shot,
    empty_bin,
    export_dataset,
    remove_dataset,
    restore_dataset,
    thumbnail_path,
)
from engines.data.names import file_name, free_name, plain_cell, spreadsheet_safe
from engines.errors import Cancelled, DataError
from engines.store import Annotation, Dataset, LabelClass, Run, Sample, Split, Verdict, Workspace, now

Picture = Callable[..., bytes]
Tree = Callable[..., Path]
BringIn = Callable[..., ImportReport]
Samples = Callable[[int], list[Sample]]

ODD_LABELS = ["=SUM(A1)", "-1", "+cat", "@dog", "a/b", "a_b", "CON", "..", 'läuse, "dicke"', "<b>", "'quoted"]


@pytest.fixture
def odd(tmp_path: Path, picture: Picture, bring_in: BringIn) -> ImportReport:
    """Two images of each class with an odd name, spread over splits, with domains and groups."""
    with (tmp_path / "odd.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file_name", "label", "split", "domain", "group"])
        for number, label in enumerate([label for label in ODD_LABELS for _ in range(2)]):
            name = f"=image {number}.png"
            (tmp_path / name).write_bytes(picture(number))
            writer.writerow([name, label, ["train", "test"][number % 2], f"site {number % 3}", f"-group {number // 2}"])
    return bring_in(tmp_path / "odd.csv")


def content(workspace: Workspace, dataset_id: int) -> set[tuple[Any, ...]]:
    with workspace.session() as session:
        rows = (
            select(Sample.sha256, LabelClass.name, Sample.split, Sample.domain, Sample.group)
            .join(LabelClass, LabelClass.id == Sample.class_id, isouter=True)
            .where(Sample.dataset_id == dataset_id)
        )
        return {tuple(row) for row in session.execute(rows)}


class TestExport:
    @pytest.mark.parametrize("format", ["folder", "zip"])
    def test_there_and_back(self, format: str, odd: ImportReport, workspace: Workspace, bring_in: BringIn) -> None:
        report = export_dataset(workspace, odd.dataset_id, format)  # type: ignore[arg-type]
        assert (report.images, report.missing) == (22, 0)
        place = workspace.resolve(report.path)
        assert place.parent == workspace.folder("exports")
        back = bring_in(place)
        assert back.reasons == {}
        assert content(workspace, back.dataset_id) == content(workspace, odd.dataset_id)
        assert list(back.counts) == list(odd.counts)

    def test_table(self, odd: ImportReport, workspace: Workspace, bring_in: BringIn) -> None:
        report = export_dataset(workspace, odd.dataset_id, "csv")
        table = workspace.resolve(report.path)
        with table.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == 22
        assert not any(cell[:1] in ("=", "+", "-", "@") for row in rows for cell in row.values())
        assert content(workspace, bring_in(table).dataset_id) == content(workspace, odd.dataset_id)

    def test_folder_is_an_imagefolder(self, odd: ImportReport, workspace: Workspace) -> None:
        place = workspace.resolve(export_dataset(workspace, odd.dataset_id, "folder").path)
        with (place / "metadata.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        assert all((place / row["file_name"]).is_file() for row in rows)
        classes = {p.name for p in (place / "train").iterdir()}
        assert len(classes) == len(ODD_LABELS)
        assert not any(set(name) & set('<>:"/\\|?*') or name in ("..", "CON") for name in classes)

    def test_newest_labels_and_unlabelled_images(self, tree: Tree, bring_in: BringIn, workspace: Workspace) -> None:
        source = bring_in(tree({"train/cat": 2, "train/dog": 1, "train": 1}))
        with workspace.session() as session:
            sample = session.scalars(select(Sample).where(Sample.name.like("train/cat/%"))).first()
            dog = session.scalars(select(LabelClass).where(LabelClass.name == "dog")).one()
            assert sample
            session.add(Annotation(sample_id=sample.id, class_id=dog.id, verdict=Verdict.LABEL, annotator="A"))
        back = bring_in(workspace.resolve(export_dataset(workspace, source.dataset_id, "folder").path))
        assert {c: sum(n.values()) for c, n in back.counts.items()} == {"cat": 1, "dog": 2, "(no label)": 1}

    def test_images_that_are_gone(self, tree: Tree, bring_in: BringIn, workspace: Workspace) -> None:
        root = tree({"cat": 3})
        source = bring_in(root)
        (root / "cat/001.png").unlink()
        report = export_dataset(workspace, source.dataset_id, "zip")
        assert (report.images, report.missing) == (2, 1)
        with zipfile.ZipFile(workspace.resolve(report.path)) as archive:
            assert len(archive.namelist()) == 4

    def test_names_do_not_overwrite(self, odd: ImportReport, workspace: Workspace) -> None:
        paths = [export_dataset(workspace, odd.dataset_id, "csv").path for _ in range(3)]
        assert paths == ["exports/odd.csv", "exports/odd (2).csv", "exports/odd (3).csv"]

    def test_nothing_is_left_of_a_failure(
        self, odd: ImportReport, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def stop() -> None:
            raise Cancelled

        for format in ("folder", "zip"):
            with pytest.raises(Cancelled):
                export_dataset(workspace, odd.dataset_id, format, check_cancelled=stop)  # type: ignore[arg-type]

        def full(*how: Any, **more: Any) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr("shutil.copyfile", full)
        with pytest.raises(DataError, match="could not be written: the disk is full"):
            export_dataset(workspace, odd.dataset_id, "folder")
        assert list(workspace.folder("exports").iterdir()) == []

    def test_no_such_data_set(self, workspace: Workspace) -> None:
        with pytest.raises(DataError, match="no longer exists"):
            export_dataset(workspace, 5)


class TestBin:
    def test_there_and_back(self, tree: Tree, bring_in: BringIn, workspace: Workspace) -> None:
        report = bring_in(tree({"cat": 2}))
        removed = remove_dataset(workspace, report.dataset_id)
        assert removed.deleted_at is not None
        assert remove_dataset(workspace, report.dataset_id).name == removed.name
        other = bring_in(tree({"cat": 2}))
        assert other.name == "pets"
        assert restore_dataset(workspace, report.dataset_id).name == "pets (2)"
        remove_dataset(workspace, other.dataset_id)
        remove_dataset(workspace, report.dataset_id)
        back = restore_dataset(workspace, other.dataset_id)
        assert (back.name, back.deleted_at) == ("pets", None)

    def test_emptied_for_good(
        self, tree: Tree, tmp_path: Path, bring_in: BringIn, samples: Samples, workspace: Workspace
    ) -> None:
        root = tree({"cat": 3, "dog": 3})
        kept = bring_in(tree({"cat": 1}, "kept"))  # shares one image
        doomed = bring_in(root, copy_images=True)
        recent = bring_in(root)
        copies = [workspace.resolve(s.file) for s in samples(doomed.dataset_id)]
        shared = {s.sha256 for s in samples(kept.dataset_id)}
        with workspace.session() as session:
            sample = session.scalars(select(Sample).where(Sample.dataset_id == doomed.dataset_id)).first()
            assert sample
            session.add(Annotation(sample_id=sample.id, class_id=sample.class_id, verdict=Verdict.LABEL, annotator="A"))
            run = Run(name="r", dataset_id=doomed.dataset_id, backbone="b", method="m")
            session.add(run)
        draw_few_shot(workspace, doomed.dataset_id, 1, 1)
        features = workspace.folder("features") / str(doomed.dataset_id)
        features.mkdir()
        for dataset_id, days in ((doomed.dataset_id, 31), (recent.dataset_id, 29)):
            remove_dataset(workspace, dataset_id)
            with workspace.session() as session:
                session.get_one(Dataset, dataset_id).deleted_at = now() - timedelta(days=days)
        assert empty_bin(workspace) == 1
        assert not features.exists()
        assert not any(copy.exists() for copy in copies)
        assert all(file.exists() for file in root.rglob("*.png")), "the source is never touched"
        with workspace.session() as session:
            assert session.get(Dataset, doomed.dataset_id) is None
            for table in (Annotation, Split):
                assert session.scalar(select(func.count()).select_from(table)) == 0
            assert session.get_one(Run, run.id).dataset_id is None
        # The other two still have their thumbnails; only when the last user goes, its thumbnails go.
        remaining = samples(recent.dataset_id)
        assert all(thumbnail_path(workspace, s).exists() for s in remaining)
        assert empty_bin(workspace, older_than_days=0) == 1
        assert {s.sha256 for s in remaining if thumbnail_path(workspace, s).exists()} == shared
        with pytest.raises(DataError, match="no longer in the bin"):
            restore_dataset(workspace, doomed.dataset_id)
        with pytest.raises(DataError, match="no longer exists"):
            remove_dataset(workspace, doomed.dataset_id)


class TestNames:
    @pytest.mark.parametrize(
        ("text", "name"),
        [
            ("cat", "cat"), ("a/b\\c", "a_b_c"), ("..", "unnamed"), ("", "unnamed"), ("con", "_con"),
            ("NUL.txt", "_NUL.txt"), ("a\0b\nc", "a b c"), ("end. ", "end"), ("猫", "猫"),
        ],
    )  # fmt: skip
    def test_file_names(self, text: str, name: str) -> None:
        assert file_name(text) == name

    def test_long_file_names_stay_different(self) -> None:
        names = {file_name("x" * 300 + str(number)) for number in range(5)}
        assert len(names) == 5
        assert max(map(len, names)) <= 80

    def test_free_names(self) -> None:
        assert free_name("Pets", ["pets", "Pets (2)"]) == "Pets (3)"

    @pytest.mark.parametrize("seed", range(20))
    def test_cells_come_back(self, seed: int) -> None:
        draw = random.Random(seed)
        text = "".join(draw.choice("=+-@a1 '") for _ in range(5))
        if not (text[0] == "'" and text[1] in "=+-@"):
            assert plain_cell(spreadsheet_safe(text)) == text
        assert spreadsheet_safe(text)[0] not in "=+-@"
