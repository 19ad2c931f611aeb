"""Sample data: ready without a network, imported once."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from sklearn import datasets
from sklearn.utils import Bunch
from sqlalchemy import func, select

from engines.data import SAMPLES, import_sample, remove_dataset
from engines.errors import Cancelled, DataError
from engines.miniworld import samples as miniworld
from engines.store import Dataset, Sample, Workspace


@pytest.fixture
def few_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    """The blood smear with two pictures a class, so that drawing takes a moment only."""
    draw = partial(miniworld.write_blood_smear, per_class={"train": 2, "val": 1, "test": 1}, size=32)
    monkeypatch.setattr(miniworld, "write_blood_smear", draw)


@pytest.mark.usefixtures("few_cells")
def test_blood_smear(workspace: Workspace) -> None:
    told: list[float] = []
    report = import_sample(workspace, "blood-smear", lambda fraction, message: told.append(fraction))
    assert len(report.counts) == 14
    assert all(count == {"train": 2, "val": 1, "test": 1} for count in report.counts.values())
    assert told == sorted(told)
    with workspace.session() as session:
        dataset = session.get_one(Dataset, report.dataset_id)
        assert "synthetic" in dataset.name.lower()
        assert "ynthetic" in dataset.description
        assert [c.name for c in dataset.classes][:2] == ["neutrophil", "band neutrophil"]
        assert all(len(c.descriptions) >= 2 for c in dataset.classes)
        found = list(session.scalars(select(Sample).where(Sample.dataset_id == dataset.id)))
    assert len({s.domain for s in found}) > 1
    assert len({s.group for s in found}) > 1
    assert all(s.file.startswith("media/") and workspace.resolve(s.file).is_file() for s in found)


@pytest.mark.usefixtures("few_cells")
def test_a_second_request_imports_nothing(workspace: Workspace) -> None:
    first = import_sample(workspace, "blood-smear")
    assert import_sample(workspace, "blood-smear") == first
    with workspace.session() as session:
        assert session.scalar(select(func.count()).select_from(Dataset)) == 1
    remove_dataset(workspace, first.dataset_id)
    again = import_sample(workspace, "blood-smear")
    assert again.dataset_id != first.dataset_id
    assert again.name == first.name


@pytest.mark.usefixtures("few_cells")
def test_cancelled_while_drawing(workspace: Workspace, assert_empty: Callable[[], None]) -> None:
    def stop() -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        import_sample(workspace, "blood-smear", check_cancelled=stop)
    assert_empty()


def test_digits(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    all_digits = datasets.load_digits()
    some = Bunch(images=all_digits.images[:200], target=all_digits.target[:200])
    monkeypatch.setattr(datasets, "load_digits", lambda: some)
    report = import_sample(workspace, "digits")
    assert list(report.counts) == ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    assert report.imported == 200
    assert all(set(count) == {"train", "val", "test"} for count in report.counts.values())


@pytest.fixture
def textile(tmp_path: Path, picture: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package of the same shape as conformal-clip-data, which the tests do not download."""
    package = tmp_path / "packages" / "conformal_clip_data"
    for number, kind in enumerate(("nominal", "local", "global")):
        (package / kind).mkdir(parents=True)
        for copy in range(10):
            (package / kind / f"{copy}.jpg").write_bytes(picture(10 * number + copy, (20, 20), "JPEG"))
    (package / "__init__.py").write_text(
        "from pathlib import Path\n\ndef textile_simulated_root():\n    return Path(__file__).parent\n"
    )
    monkeypatch.syspath_prepend(str(package.parent))
    monkeypatch.delitem(sys.modules, "conformal_clip_data", raising=False)
    yield
    sys.modules.pop("conformal_clip_data", None)


@pytest.mark.usefixtures("textile")
def test_textile(workspace: Workspace) -> None:
    report = import_sample(workspace, "textile")
    assert report.counts == {c: {"train": 5, "val": 2, "test": 3} for c in ("global", "local", "nominal")}
    with workspace.session() as session:
        classes = session.get_one(Dataset, report.dataset_id).classes
        assert all(c.descriptions for c in classes)


def test_textile_without_its_package(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, assert_empty: Callable[[], None]
) -> None:
    monkeypatch.setitem(sys.modules, "conformal_clip_data", None)
    with pytest.raises(DataError, match=r"conformal-clip-data, which is not installed.*promptloupe\[samples\]"):
        import_sample(workspace, "textile")
    assert_empty()


def test_no_such_sample(workspace: Workspace) -> None:
    with pytest.raises(DataError, match=r"no sample data set called “cats”\. There are: blood-smear, textile, digits"):
        import_sample(workspace, "cats")
    assert all(sample.title and sample.description.endswith(".") for sample in SAMPLES.values())
