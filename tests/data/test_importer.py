"""An import is whole or not at all; what it keeps is the same on every machine."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from sqlalchemy import func, select
from sqlalchemy.exc import OperationalError

from engines.data import ImportReport, ImportRequest, ensure_thumbnail, import_dataset, importer, thumbnail_path
from engines.errors import Cancelled, DataError
from engines.files import write_whole
from engines.store import Dataset, Sample, Workspace

Picture = Callable[..., bytes]
Tree = Callable[..., Path]
BringIn = Callable[..., ImportReport]
Samples = Callable[[int], list[Sample]]


def pack(tree: Path, target: Path) -> Path:
    """The tree as a ZIP file, whose images are copied into the workspace."""
    with zipfile.ZipFile(target, "w") as archive:
        for file in sorted(tree.rglob("*.png")):
            archive.write(file, file.relative_to(tree))
    return target


def fingerprint(workspace: Workspace, report: ImportReport) -> str:
    with workspace.session() as session:
        return session.get_one(Dataset, report.dataset_id).fingerprint


class TestWhatIsKept:
    def test_row_and_report(self, tree: Tree, bring_in: BringIn, workspace: Workspace) -> None:
        root = tree({"train/cat": 3, "test/dog": 2})
        report = bring_in(root, name="  My\tpets ")
        with workspace.session() as session:
            dataset = session.get_one(Dataset, report.dataset_id)
            assert (dataset.name, dataset.size, dataset.reader) == ("My pets", 5, "folder")
            assert dataset.source == str(root)
            assert ImportReport.model_validate(dataset.report) == report
            assert [c.name for c in dataset.classes] == ["cat", "dog"]
        assert report.counts == {"cat": {"train": 3}, "dog": {"test": 2}}

    def test_thumbnails(
        self, tmp_path: Path, picture: Picture, bring_in: BringIn, samples: Samples, workspace: Workspace
    ) -> None:
        (tmp_path / "cats/cat").mkdir(parents=True)
        (tmp_path / "cats/cat/wide.png").write_bytes(picture(1, (400, 100)))
        (tmp_path / "cats/cat/small.png").write_bytes(picture(2, (30, 20)))
        small, wide = samples(bring_in(tmp_path / "cats").dataset_id)
        for sample, size in ((small, (30, 20)), (wide, (160, 40))):
            with Image.open(thumbnail_path(workspace, sample)) as thumbnail:
                assert thumbnail.size == size
        thumbnail_path(workspace, wide).unlink()
        assert ensure_thumbnail(workspace, wide) == thumbnail_path(workspace, wide)
        assert thumbnail_path(workspace, wide).exists()

    def test_copies_survive_the_source(
        self, tree: Tree, bring_in: BringIn, samples: Samples, workspace: Workspace
    ) -> None:
        root = tree({"cat": 2})
        content = {p.read_bytes() for p in root.rglob("*.png")}
        found = samples(bring_in(root, copy_images=True).dataset_id)
        shutil.rmtree(root)
        assert {workspace.resolve(s.file).read_bytes() for s in found} == content

    def test_names_that_are_taken_get_a_number(self, tree: Tree, bring_in: BringIn) -> None:
        root = tree({"cat": 2})
        assert [bring_in(root).name for _ in range(3)] == ["pets", "pets (2)", "pets (3)"]

    def test_a_repeated_job_does_not_import_twice(self, tree: Tree, workspace: Workspace) -> None:
        request = ImportRequest(source=str(tree({"cat": 2})))
        first = import_dataset(workspace, request, token="abcdefabcdef")
        assert import_dataset(workspace, request, token="abcdefabcdef") == first
        with workspace.session() as session:
            assert session.scalar(select(func.count()).select_from(Dataset)) == 1

    def test_progress(self, tree: Tree, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = iter(range(10_000))
        monkeypatch.setattr(importer.time, "monotonic", lambda: float(next(clock)))
        told: list[tuple[float, str]] = []
        import_dataset(workspace, ImportRequest(source=str(tree({"cat": 5}))), lambda *how: told.append(how))
        assert [fraction for fraction, _ in told] == sorted(fraction for fraction, _ in told)
        assert (0.95 * 3 / 5, "3 of 5 images") in told


class TestFingerprint:
    def test_equal_for_equal_content(self, tree: Tree, tmp_path: Path, bring_in: BringIn, workspace: Workspace) -> None:
        root = tree({"cat": 8, "dog": 7})
        first = fingerprint(workspace, bring_in(root))
        (tmp_path / "elsewhere").mkdir()
        for number, file in enumerate(sorted(root.rglob("*.png"), reverse=True)):
            target = tmp_path / "elsewhere" / file.parent.name / f"z{number}.png"
            target.parent.mkdir(exist_ok=True)
            shutil.copy(file, target)
        assert fingerprint(workspace, bring_in(tmp_path / "elsewhere")) == first
        assert fingerprint(workspace, bring_in(pack(root, tmp_path / "p.zip"))) == first

    def test_differs_by_image_label_and_split(self, tree: Tree, bring_in: BringIn, workspace: Workspace) -> None:
        root = tree({"cat": 4, "dog": 4})
        found = {fingerprint(workspace, bring_in(root)), fingerprint(workspace, bring_in(root, split="as-is"))}
        (root / "cat/000.png").rename(root / "dog/000.png")
        found.add(fingerprint(workspace, bring_in(root, split="as-is")))
        (root / "dog/000.png").unlink()
        found.add(fingerprint(workspace, bring_in(root, split="as-is")))
        assert len(found) == 4


class TestSplits:
    def test_half_a_fifth_and_the_rest(self, tree: Tree, bring_in: BringIn) -> None:
        report = bring_in(tree({"cat": 20, "dog": 10}))
        assert report.counts == {
            "cat": {"train": 10, "val": 4, "test": 6},
            "dog": {"train": 5, "val": 2, "test": 3},
        }
        assert "50% for training, 20% for validation, 30% for testing" in report.warnings[0]

    def test_as_is(self, tree: Tree, bring_in: BringIn) -> None:
        assert bring_in(tree({"cat": 5}), split="as-is").counts == {"cat": {"train": 5}}

    def test_own_validation_images_stay(self, tree: Tree, bring_in: BringIn) -> None:
        report = bring_in(tree({"train/cat": 10, "val/cat": 3}))
        assert report.counts == {"cat": {"train": 7, "val": 3, "test": 3}}

    def test_groups_stay_together(self, tree: Tree, bring_in: BringIn, samples: Samples) -> None:
        root = tree({"cat": 30, "dog": 30})
        rows = [f"{p.relative_to(root)},patient {int(p.stem) % 10}" for p in sorted(root.rglob("*.png"))]
        (root / "metadata.csv").write_text("file_name,group\n" + "\n".join(rows))
        report = bring_in(root)
        splits: dict[str, set[str]] = {}
        for sample in samples(report.dataset_id):
            splits.setdefault(sample.group, set()).add(sample.split)
        assert all(len(found) == 1 for found in splits.values())
        assert report.counts["cat"] == {"train": 15, "val": 6, "test": 9}


class TestWarnings:
    def test_single_images_and_imbalance(self, tree: Tree, bring_in: BringIn) -> None:
        text = "\n".join(bring_in(tree({"cat": 20, "dog": 1})).warnings)
        assert "Classes with a single image, which cannot be both trained and tested: “dog”." in text
        assert "“cat” has 20 images, “dog” 1" in text

    def test_duplicates_with_other_labels(self, tree: Tree, bring_in: BringIn) -> None:
        root = tree({"cat": 3, "dog": 3})
        shutil.copy(root / "cat/000.png", root / "dog/again.png")
        report = bring_in(root)
        assert report.reasons == {"a duplicate: the same content came in already": 1}
        assert any("another label than their first copy, which was kept: 1 (“cat / dog”)" in w for w in report.warnings)
        kept = bring_in(root, keep_duplicates=True)
        assert (kept.imported, kept.reasons) == (7, {})

    def test_torn_groups(self, tree: Tree, bring_in: BringIn) -> None:
        root = tree({"train/cat": 2, "test/cat": 2})
        rows = [f"{p.relative_to(root)},p" for p in sorted(root.rglob("*.png"))]
        (root / "metadata.csv").write_text("file_name,patient\n" + "\n".join(rows))
        assert "Groups with images in more than one split: 1." in " ".join(bring_in(root).warnings)

    def test_classes_without_test_images(self, tree: Tree, bring_in: BringIn) -> None:
        report = bring_in(tree({"train/cat": 2, "train/dog": 2, "test/cat": 2, "test/ant": 2}))
        assert "Classes without training images: “ant”." in report.warnings
        assert "Classes without test images: “dog”." in report.warnings

    def test_pages(self, tmp_path: Path, bring_in: BringIn) -> None:
        (tmp_path / "cat").mkdir()
        pages = [Image.new("L", (9, 9), shade) for shade in (10, 20)]
        pages[0].save(tmp_path / "cat/a.tif", save_all=True, append_images=pages[1:])
        assert "TIFF files with several pages, of which the first was used: 1." in bring_in(tmp_path / "cat").warnings


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    files=st.lists(
        st.tuples(
            st.sampled_from(["a", "b", "c/deep", ""]), st.sampled_from([0, 1, 2, 3, "empty", "text", "cut", ".txt"])
        ),
        max_size=12,
    )
)
def test_counts_add_up(
    files: list[tuple[str, Any]], tmp_path_factory: pytest.TempPathFactory, picture: Picture, bring_in: BringIn
) -> None:
    root = tmp_path_factory.mktemp("mixed")
    broken = {"empty": b"", "text": b"text", "cut": picture(9)[:40], ".txt": b"note"}
    for number, (folder, kind) in enumerate(files):
        (root / folder).mkdir(parents=True, exist_ok=True)
        ending = ".txt" if kind == ".txt" else ".png"
        (root / folder / f"{number}{ending}").write_bytes(broken[kind] if isinstance(kind, str) else picture(kind))
    different = len({kind for _, kind in files if isinstance(kind, int)})
    if not different:
        with pytest.raises(DataError):
            bring_in(root)
        return
    report = bring_in(root)
    assert report.seen == len(files) == report.imported + sum(report.reasons.values())
    assert report.imported == different == sum(sum(count.values()) for count in report.counts.values())
    assert Counter(one.reason for one in report.left_out) == report.reasons


class TestNothingHalf:
    """Whatever ends an import in the middle, nothing of it is left."""

    def test_cancelled(
        self, tree: Tree, tmp_path: Path, workspace: Workspace, assert_empty: Callable[[], None]
    ) -> None:
        source = pack(tree({"cat": 20, "dog": 20}), tmp_path / "pets.zip")
        asked = iter([False] * 25 + [True])

        def check() -> None:
            if next(asked):
                assert any(workspace.folder("media").rglob("*.png")), "it should have begun to copy"
                raise Cancelled

        with pytest.raises(Cancelled):
            import_dataset(workspace, ImportRequest(source=str(source)), check_cancelled=check)
        assert_empty()

    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
    def test_disk_full_while_copying(
        self,
        number: int,
        tree: Tree,
        tmp_path: Path,
        bring_in: BringIn,
        assert_empty: Callable[[], None],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        source = pack(tree({"cat": 10}), tmp_path / "pets.zip")
        written = iter(range(100))

        def write(path: Path, data: bytes, *, durable: bool) -> None:
            if next(written) == 5:
                raise OSError(number, os.strerror(number))
            write_whole(path, data, durable=durable)

        monkeypatch.setattr("engines.data.importer.write_whole", write)
        with pytest.raises(
            DataError, match=r"disk of the workspace is full, so nothing was imported\. Free some space"
        ):
            bring_in(source)
        assert_empty()

    def test_disk_full_while_drawing_thumbnails(
        self, tree: Tree, bring_in: BringIn, assert_empty: Callable[[], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        saved, save = iter(range(100)), Image.Image.save

        def fail(image: Image.Image, *how: Any, **more: Any) -> None:
            if next(saved) == 3:
                raise OSError(errno.ENOSPC, "No space left on device")
            save(image, *how, **more)

        root = tree({"cat": 6})
        monkeypatch.setattr(Image.Image, "save", fail)
        with pytest.raises(DataError, match="disk of the workspace is full"):
            bring_in(root)
        assert_empty()

    def test_disk_full_in_the_data_base(
        self, tree: Tree, bring_in: BringIn, assert_empty: Callable[[], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*how: Any) -> None:
            raise OperationalError("INSERT", {}, Exception("database or disk is full"))

        root = tree({"cat": 6})
        monkeypatch.setattr("engines.data.storing._write_samples", full)
        with pytest.raises(DataError, match="disk of the workspace is full"):
            bring_in(root)
        assert_empty()

    def test_a_workspace_that_cannot_be_written(
        self, tree: Tree, bring_in: BringIn, assert_empty: Callable[[], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def closed(*how: Any, **more: Any) -> None:
            raise OSError(errno.EROFS, "Read-only file system")

        root = tree({"cat": 6})
        monkeypatch.setattr(Image.Image, "save", closed)
        with pytest.raises(DataError, match="cannot be written, so nothing was imported"):
            bring_in(root)
        assert_empty()

    def test_thumbnails_of_others_stay(self, tree: Tree, bring_in: BringIn, workspace: Workspace) -> None:
        root = tree({"cat": 3})
        bring_in(root)
        before = sorted(workspace.folder("thumbnails").rglob("*.jpg"))
        for file in root.rglob("*.png"):
            shutil.copy(file, root / f"copy-{file.name}")

        def stop() -> None:
            raise Cancelled

        with pytest.raises(Cancelled):
            import_dataset(workspace, ImportRequest(source=str(root)), check_cancelled=stop)
        assert sorted(workspace.folder("thumbnails").rglob("*.jpg")) == before


KILLED = """
import sys, time
from engines.data import ImportRequest, import_dataset
from engines.store import Workspace
workspace = Workspace.open(sys.argv[1])
request = ImportRequest(source=sys.argv[2])
import_dataset(workspace, request, check_cancelled=lambda: time.sleep(0.02), token="abababababab")
"""


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
def test_kill_in_the_middle(
    tree: Tree, tmp_path: Path, workspace: Workspace, bring_in: BringIn, samples: Samples
) -> None:
    source = pack(tree({"cat": 60, "dog": 60}), tmp_path / "pets.zip")
    undisturbed = fingerprint(workspace, bring_in(source))
    command = [sys.executable, "-c", KILLED, str(workspace.path), str(source)]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[2])
    media = workspace.folder("media") / "abababababab"
    deadline = time.monotonic() + 60
    while len(list(media.rglob("*.png"))) < 20:
        assert process.poll() is None, "the import ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with workspace.session() as session:
        assert session.scalar(select(func.count()).select_from(Dataset)) == 1
        assert session.scalar(select(func.count()).select_from(Sample)) == 120
    assert media.exists()
    again = bring_in(source)
    assert not media.exists(), "the next import clears what the killed one left"
    assert fingerprint(workspace, again) == undisturbed
    assert all(workspace.resolve(s.file).is_file() for s in samples(again.dataset_id))
    # And the killed job itself begins anew.
    request = ImportRequest(source=str(source))
    restarted = import_dataset(workspace, request, token="abababababab")
    assert fingerprint(workspace, restarted) == undisturbed
    assert len(list(media.rglob("*.png"))) == 120


def test_killed_after_the_last_row(
    tree: Tree, tmp_path: Path, bring_in: BringIn, workspace: Workspace, samples: Samples
) -> None:
    """The mark of an unfinished import that had in fact finished protects nothing and removes nothing."""
    source = pack(tree({"cat": 4}), tmp_path / "pets.zip")
    report = bring_in(source)
    mark = workspace.folder("media") / report.token / importer.UNFINISHED
    mark.touch()
    bring_in(source)
    assert not mark.exists()
    assert all(workspace.resolve(s.file).is_file() for s in samples(report.dataset_id))


def test_one_import_at_a_time(tree: Tree, workspace: Workspace) -> None:
    request, told = ImportRequest(source=str(tree({"cat": 2}))), threading.Event()

    def progress(fraction: float, message: str) -> None:
        if message == "Waiting for another import to end":
            told.set()

    lock = FileLock(workspace.folder("media") / ".import.lock")
    with lock:
        waiting = threading.Thread(target=import_dataset, args=(workspace, request, progress))
        waiting.start()
        assert told.wait(20)
        with workspace.session() as session:
            assert session.scalar(select(func.count()).select_from(Dataset)) == 0
    waiting.join(20)
    with workspace.session() as session:
        assert session.scalar(select(func.count()).select_from(Dataset)) == 1


def test_waiting_can_be_cancelled(tree: Tree, workspace: Workspace, assert_empty: Callable[[], None]) -> None:
    def stop() -> None:
        raise Cancelled

    with FileLock(workspace.folder("media") / ".import.lock"), pytest.raises(Cancelled):
        import_dataset(workspace, ImportRequest(source=str(tree({"cat": 2}))), check_cancelled=stop)
    assert_empty()
