"""Photos for whoever has none."""

from __future__ import annotations

import errno
import sys

import numpy as np
import pytest
from PIL import Image

from engines.enhance import backlit
from engines.enhance.groups import read_group
from engines.enhance.sample_photos import sample_group
from engines.errors import DataError
from engines.store import Workspace


def test_four_photos_that_are_dark_in_places(workspace: Workspace) -> None:
    group = sample_group(workspace)
    assert [photo.name for photo in group.photos] == [
        f"sample {name}.png" for name in ("cat", "cup", "scene 1", "scene 2")
    ]
    assert read_group(workspace, group.id).photos == group.photos
    for photo in group.photos:
        grey = np.asarray(Image.open(photo).convert("L"))
        assert grey.shape == (400, 400)
        assert np.percentile(grey, 3) < 60
        assert np.percentile(grey, 95) > 120
    again = sample_group(workspace)
    assert again.id != group.id
    assert [photo.read_bytes() for photo in again.photos] == [photo.read_bytes() for photo in group.photos]


def test_pictures_that_this_installation_lacks_are_left_out(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: object) -> backlit.Pairs:
        raise DataError("There is no such picture.", "Install it.")

    monkeypatch.setattr(sys.modules["engines.enhance.sample_photos"], "photo_pairs", missing)
    assert [photo.name for photo in sample_group(workspace).photos] == ["sample scene 1.png", "sample scene 2.png"]


def test_a_full_disk_is_told(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(DataError, match="disk is full"):
        sample_group(workspace)
