"""What inspections found stays in the workspace, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engines.inspection.keeping import keep, kept, key_of
from engines.store import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.open(tmp_path / "work")


def test_an_answer_comes_back_as_it_was(workspace: Workspace) -> None:
    keep(workspace, "shift", "a", {"gap": 0.25, "word": "Fädchen"}, {"moved": np.arange(6.0).reshape(2, 3)})
    found = kept(workspace, "shift", "a")
    assert found is not None
    assert found.values == {"gap": 0.25, "word": "Fädchen"}
    assert np.array_equal(found.arrays["moved"], np.arange(6.0).reshape(2, 3))
    assert kept(workspace, "shift", "b") is None
    assert kept(workspace, "map", "a") is None


@pytest.mark.parametrize("cut", [0, 1, 20, 200])
def test_a_damaged_file_counts_as_none(workspace: Workspace, cut: int) -> None:
    keep(workspace, "shift", "a", {"gap": 1}, {"moved": np.ones(40)})
    file = next(workspace.folder("inspections").rglob("*.npz"))
    file.write_bytes(file.read_bytes()[:cut])
    assert kept(workspace, "shift", "a") is None


def test_a_write_that_fails_leaves_the_earlier_answer(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(workspace, "shift", "a", {"gap": 1})

    def full(number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("engines.files.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        keep(workspace, "shift", "a", {"gap": 2})
    found = kept(workspace, "shift", "a")
    assert found is not None
    assert found.values == {"gap": 1}
    assert len(list(workspace.folder("inspections").rglob("*.*"))) == 1


def test_keys_differ_where_anything_differs() -> None:
    assert key_of("run", 1, {"a": 1, "b": 2}) == key_of("run", 1, {"b": 2, "a": 1})
    assert len({key_of("run", 1), key_of("run", 2), key_of("ruin", 1), key_of("run", "1")}) == 4
