"""Labels as one ZIP file, out and in; suggestions go out with the log and come back as they were."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any
from unittest.mock import Mock
from uuid import uuid4

import pytest

from engines.errors import Cancelled, DataError
from engines.labelling import Entry, record
from engines.labelling.answers import imported_suggestions
from engines.labelling.archives import pack
from engines.labelling.export import FORMATS, export_labels
from engines.labelling.imports import import_labels
from engines.store import Occasion, Verdict, Workspace
from tests.labelling.pictures import bare_copy, bring_in, classes, labels, samples


@pytest.fixture
def odd(workspace: Workspace, tmp_path: Path) -> int:
    return bring_in(workspace, tmp_path / "in")


def left(workspace: Workspace) -> list[str]:
    return sorted(each.name for each in workspace.folder("exports").iterdir())


def content(root: Path) -> dict[str, str]:
    return {
        file.relative_to(root).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in root.rglob("*")
        if file.is_file()
    }


class TestOut:
    @pytest.mark.parametrize("format", FORMATS)
    def test_the_zip_holds_what_the_folder_holds(self, workspace: Workspace, odd: int, format: Any) -> None:
        told: list[float] = []
        report = export_labels(
            workspace, odd, format, audit=True, archive=True, progress=lambda f, message: told.append(f)
        )
        folder, archive = workspace.resolve(report.path), workspace.resolve(report.archive)
        assert archive.parent == folder.parent
        assert archive.name == f"{folder.name}.zip"
        with zipfile.ZipFile(archive) as opened:
            assert opened.testzip() is None
            held = {name: hashlib.sha256(opened.read(name)).hexdigest() for name in opened.namelist()}
        assert held == {f"{folder.name}/{name}": digest for name, digest in content(folder).items()}
        assert told == sorted(told)
        assert all(0 <= fraction < 1 for fraction in told)
        assert left(workspace) == [folder.name, archive.name]

    def test_a_second_export_overwrites_nothing(self, workspace: Workspace, odd: int) -> None:
        first = export_labels(workspace, odd, "folder", archive=True)
        (workspace.resolve(first.path)).rename(workspace.path / "moved")  # its ZIP file stays
        second = export_labels(workspace, odd, "folder", archive=True)
        assert second.archive != first.archive
        assert export_labels(workspace, odd, "folder").archive == ""

    def test_cancelled_at_any_moment_nothing_is_left(self, workspace: Workspace, odd: int) -> None:
        asked = Mock()
        export_labels(workspace, odd, "coco", archive=True, check_cancelled=asked)
        before = left(workspace)
        assert asked.call_count > 2 * 20  # each image is written, then packed
        for moment in range(0, asked.call_count, 5):
            stop = Mock(side_effect=[*[None] * moment, Cancelled])
            with pytest.raises(Cancelled):
                export_labels(workspace, odd, "coco", archive=True, check_cancelled=stop)
            assert left(workspace) == before

    @pytest.mark.parametrize("what", ["zipfile.ZipFile.open", "pathlib.Path.rename"])
    def test_a_full_disk_leaves_nothing(
        self, workspace: Workspace, odd: int, monkeypatch: pytest.MonkeyPatch, what: str
    ) -> None:
        def full(self: Any, *how: Any, **more: Any) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patched:
            patched.setattr(what, full)
            with pytest.raises(DataError, match="the disk is full"):
                export_labels(workspace, odd, "folder", archive=True)
        assert left(workspace) == []

    def test_a_full_disk_at_the_very_end(self, workspace: Workspace, odd: int, monkeypatch: pytest.MonkeyPatch) -> None:
        rename = Path.rename

        def only_folders(self: Path, target: Path) -> Path:
            if self.is_file():
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return rename(self, target)

        with monkeypatch.context() as patched:
            patched.setattr(Path, "rename", only_folders)
            with pytest.raises(DataError, match="the disk is full"):
                export_labels(workspace, odd, "folder", archive=True)
        assert left(workspace) == []

    def test_a_large_file_is_never_in_memory(self, tmp_path: Path) -> None:
        (tmp_path / "in").mkdir()
        with (tmp_path / "in" / "large.tif").open("wb") as file:
            file.truncate(64 << 20)
        tracemalloc.start()
        pack(tmp_path / "in", tmp_path / "out.zip", "x", lambda *_: None, lambda: None)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 8 << 20


class TestIn:
    @pytest.mark.parametrize("format", FORMATS)
    def test_labels_come_back_from_a_zip(self, workspace: Workspace, odd: int, format: Any) -> None:
        report = export_labels(workspace, odd, format, audit=True, archive=True)
        copy = bare_copy(workspace, odd)
        back = import_labels(workspace, copy, workspace.resolve(report.archive), "labels", "Carla")
        assert (back.added, back.refused, back.unknown_classes) == (20, 0, {})
        assert labels(workspace, copy) == labels(workspace, odd)

    def test_class_folders_in_a_zip(self, workspace: Workspace, odd: int, tmp_path: Path) -> None:
        image = samples(workspace, odd)[0]
        with zipfile.ZipFile(tmp_path / "one.zip", "w") as archive:
            archive.write(workspace.resolve(image.file), "my images/猫/any name.png")
            archive.writestr("__MACOSX/my images/猫/._any name.png", b"x")
        back = import_labels(workspace, odd, tmp_path / "one.zip", "labels", "Carla")
        assert (back.rows, back.added) == (1, 1)
        assert labels(workspace, odd)[image.sha256] == "猫"

    def test_nothing_leads_out_of_the_archive(self, workspace: Workspace, odd: int, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
            archive.writestr("../../evil.csv", "file_name,label\n")
            link = zipfile.ZipInfo("labels.csv")
            link.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(link, "/etc/passwd")
        with pytest.raises(DataError, match="holds no labels"):
            import_labels(workspace, odd, tmp_path / "evil.zip", "labels", "Carla")
        assert not list(tmp_path.parent.rglob("evil.csv"))

    def test_a_damaged_zip_changes_nothing(self, workspace: Workspace, odd: int, tmp_path: Path) -> None:
        report = export_labels(workspace, odd, "folder", archive=True)
        whole = bytearray(workspace.resolve(report.archive).read_bytes())
        before = labels(workspace, odd)
        (tmp_path / "cut.zip").write_bytes(whole[: len(whole) // 2])
        with pytest.raises(DataError, match="its end is missing"):
            import_labels(workspace, odd, tmp_path / "cut.zip", "labels", "Carla")
        whole[200:260] = bytes(60)
        (tmp_path / "bad.zip").write_bytes(whole)
        with pytest.raises(DataError, match="is damaged"):
            import_labels(workspace, odd, tmp_path / "bad.zip", "labels", "Carla")
        assert labels(workspace, odd) == before


def suggest(workspace: Workspace, dataset_id: int, image: int, name: str, source: str, **aids: Any) -> None:
    entry = Entry(
        dataset_id=dataset_id,
        sample_id=image,
        annotator=source,
        verdict=Verdict.SUGGESTION,
        class_id=classes(workspace, dataset_id)[name],
        event=uuid4().hex,
        occasion=Occasion.IMPORT,
        aids=aids,
    )
    record(workspace, entry)


def suggested(workspace: Workspace, dataset_id: int) -> dict[str, list[tuple[str, str, float | None]]]:
    """By the content of the image: source, class and probability."""
    names = {class_id: name for name, class_id in classes(workspace, dataset_id).items()}
    digests = {each.id: each.sha256 for each in samples(workspace, dataset_id)}
    return {
        digests[sample]: sorted((each.source, names[each.class_id], each.probability) for each in told)
        for sample, told in imported_suggestions(workspace, dataset_id).items()
    }


class TestSuggestionsThereAndBack:
    @pytest.fixture
    def told(self, workspace: Workspace, odd: int) -> int:
        images = [each.id for each in samples(workspace, odd)]
        suggest(workspace, odd, images[20], "猫", "model 7", probability=0.1 + 0.2)
        suggest(workspace, odd, images[20], "@dog", "=registry")
        suggest(workspace, odd, images[21], "CON", "model 7", probability=0.5)
        suggest(workspace, odd, images[21], "a/b", "model 7", probability=1.0)
        suggest(workspace, odd, images[0], "@dog", "model 7", probability=0.0)
        return odd

    @pytest.mark.parametrize("format", ["csv", "folder", "hf", "croissant"])
    def test_from_the_log(self, workspace: Workspace, told: int, format: Any) -> None:
        report = export_labels(workspace, told, format, audit=True)
        log = next(workspace.resolve(file) for file in report.files if file.endswith("decisions.csv"))
        copy = bare_copy(workspace, told)
        back = import_labels(workspace, copy, log, "suggestions", "whoever")
        assert (back.added, back.refused) == (4, 0)
        assert suggested(workspace, copy) == suggested(workspace, told)
        again = import_labels(workspace, copy, log, "suggestions", "whoever")
        assert (again.added, again.already) == (0, 4)
        with pytest.raises(DataError, match=r"it holds suggestions, but no table of labels"):
            import_labels(workspace, copy, log, "labels", "whoever")

    @pytest.mark.parametrize("format", FORMATS)
    def test_from_all_of_an_export(self, workspace: Workspace, told: int, format: Any) -> None:
        report = export_labels(workspace, told, format, audit=True, archive=True)
        copy = bare_copy(workspace, told)
        import_labels(workspace, copy, workspace.resolve(report.archive), "suggestions", "labels of before")
        expected = suggested(workspace, told)
        for digest, name in labels(workspace, told).items():
            expected[digest] = sorted([*expected.get(digest, []), ("labels of before", name, None)])
        assert suggested(workspace, copy) == expected
        assert labels(workspace, copy) == {}
        other = bare_copy_named(workspace, told)
        import_labels(workspace, other, workspace.resolve(report.archive), "labels", "labels of before")
        assert suggested(workspace, other) == {}
        assert labels(workspace, other) == labels(workspace, told)


def bare_copy_named(workspace: Workspace, dataset_id: int) -> int:
    from engines.store import Dataset

    with workspace.session() as session:
        session.query(Dataset).filter_by(name=f"copy of {dataset_id}").update({"name": uuid4().hex})
    return bare_copy(workspace, dataset_id)
