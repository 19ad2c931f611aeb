"""Files of a study, each written whole or not at all. Torch-free."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from engines.files import write_whole


def write_json(file: Path, value: Any) -> None:
    write_whole(file, json.dumps(value, ensure_ascii=False))


def save_picture(picture: Image.Image, file: Path, about: Mapping[str, str] | None = None) -> None:
    """A PNG, with text in its metadata."""
    info, stream = PngInfo(), io.BytesIO()
    for name, value in (about or {}).items():
        info.add_itxt(name, value)
    picture.save(stream, "PNG", pnginfo=info)
    write_whole(file, stream.getvalue())


def save_array(file: Path, values: NDArray[Any]) -> None:
    stream = io.BytesIO()
    np.savez_compressed(stream, values=values)
    write_whole(file, stream.getvalue())


def read_array(file: Path) -> NDArray[Any] | None:
    """None where there is none, or it is damaged."""
    try:
        with np.load(file, allow_pickle=False) as found:
            return np.asarray(found["values"])
    except Exception:  # a damaged archive fails in many ways; each means: it is not there
        return None


def read_json(file: Path) -> dict[str, Any] | None:
    try:
        return dict(json.loads(file.read_text("utf-8")))
    except (OSError, ValueError):
        return None
