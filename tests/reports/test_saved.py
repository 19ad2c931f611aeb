"""Comparisons are kept under a name, and come back from the bin."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engines.errors import ConfigError
from engines.reports import saved
from engines.store import Workspace


@pytest.fixture
def ws(tmp_path: Path) -> Iterator[Workspace]:
    workspace = Workspace.open(tmp_path / "clinic")
    yield workspace
    workspace.close()


def test_a_comparison_is_kept_newest_first(ws: Workspace) -> None:
    assert saved.comparisons(ws) == []
    first = saved.save(ws, "  Tumour \n board ", "cells", ["a", "b", "a"])
    assert (first.name, first.results) == ("Tumour board", ["a", "b"])
    second = saved.save(ws, "May", "cells", ["c"])
    assert {each.id for each in saved.comparisons(ws)} == {first.id, second.id}
    assert saved.find(ws, first.id) == first


def test_the_same_name_takes_the_place_of_the_older_one(ws: Workspace) -> None:
    old = saved.save(ws, "May", "cells", ["a"])
    new = saved.save(ws, "MAY", "cells", ["b"])
    assert [each.id for each in saved.comparisons(ws)] == [new.id]
    saved.restore(ws, old.id)
    assert {each.id for each in saved.comparisons(ws)} == {old.id, new.id}


def test_deleting_is_moving_to_the_bin_for_thirty_days(ws: Workspace) -> None:
    made = saved.save(ws, "May", "cells", ["a"])
    saved.delete(ws, made.id)
    saved.delete(ws, made.id)
    assert saved.comparisons(ws) == []
    with pytest.raises(ConfigError, match="no longer there"):
        saved.find(ws, made.id)
    saved.restore(ws, made.id)
    assert saved.comparisons(ws) == [made]
    saved.delete(ws, made.id)
    file = ws.folder("bin") / saved.FOLDER / f"{made.id}.json"
    long_ago = time.time() - 31 * 24 * 3600
    os.utime(file, (long_ago, long_ago))
    saved.delete(ws, "another")
    with pytest.raises(ConfigError, match="no longer in the bin"):
        saved.restore(ws, made.id)


@pytest.mark.parametrize("name", ["", "   ", "x" * 121])
def test_a_name_is_needed(ws: Workspace, name: str) -> None:
    with pytest.raises(ConfigError, match="needs a name"):
        saved.save(ws, name, "cells", ["a"])


@pytest.mark.parametrize("results", [[], ["a", "b", "c", "d", "e", "f", "g"]])
def test_one_to_six_results_are_kept(ws: Workspace, results: list[str]) -> None:
    with pytest.raises(ConfigError, match="between one and 6"):
        saved.save(ws, "May", "cells", results)


def test_an_id_from_the_browser_reaches_no_other_file(ws: Workspace) -> None:
    (ws.path / "precious.json").write_text("{}")
    for evil in ("../precious", "..", "/etc/passwd", "*"):
        saved.delete(ws, evil)
        with pytest.raises(ConfigError):
            saved.restore(ws, evil)
    assert (ws.path / "precious.json").exists()


def test_a_damaged_file_hides_no_other(ws: Workspace) -> None:
    made = saved.save(ws, "May", "cells", ["a"])
    (ws.path / saved.FOLDER / "0123456789ab.json").write_text("{")
    assert saved.comparisons(ws) == [made]
