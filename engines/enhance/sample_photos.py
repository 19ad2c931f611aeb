"""Photos for whoever has no backlit one at hand: well-lit pictures put into their own shadow. No torch."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from engines.enhance.backlit import HELD_OUT_PICTURES, photo_pairs, rendered_pairs
from engines.enhance.groups import NOT_KEPT, Group, new_group
from engines.errors import DataError
from engines.store import Workspace

SHOWING = ("cat", "cup")
"""What `HELD_OUT_PICTURES` show."""
SIDE, SEED = 400, 3
RENDERED = 2


def sample_group(workspace: Workspace) -> Group:
    """A new group of four: two photos that the shipped enhancer was not trained on, and two drawn scenes.

    Raises:
        DataError: the disk is full.
    """
    pictures = {}
    with suppress(DataError):  # other distributions of scikit-image come without pictures
        photos = photo_pairs(HELD_OUT_PICTURES, 1, SIDE, SEED).backlit
        pictures = dict(zip(SHOWING, photos, strict=True))
    scenes = rendered_pairs(RENDERED, SIDE, SEED + 1).backlit
    pictures |= {f"scene {number}": scene for number, scene in enumerate(scenes, 1)}
    try:
        with TemporaryDirectory() as scratch:
            files = [Path(scratch) / f"sample {name}.png" for name in pictures]
            for file, pixels in zip(files, pictures.values(), strict=True):
                Image.fromarray(pixels).save(file)
            return new_group(workspace, files, copy=True)
    except OSError as error:
        raise DataError(NOT_KEPT, "Free some space and try again.", str(error)) from error
