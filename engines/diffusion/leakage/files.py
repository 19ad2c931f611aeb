"""Files of a study, each written whole or not at all. Torch-free."""

from __future__ import annotations

import io
import json
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo


def write_text(file: Path, text: str) -> None:
    _put(file, text.encode())


def write_json(file: Path, value: Any) -> None:
    write_text(file, json.dumps(value, ensure_ascii=False))


def save_picture(picture: Image.Image, file: Path, about: Mapping[str, str] | None = None) -> None:
    """A PNG, with text in its metadata."""
    info, stream = PngInfo(), io.BytesIO()
    for name, value in (about or {}).items():
        info.add_itxt(name, value)
    picture.save(stream, "PNG", pnginfo=info)
    _put(file, stream.getvalue())


def save_array(file: Path, values: NDArray[Any]) -> None:
    stream = io.BytesIO()
    np.savez_compressed(stream, values=values)
    _put(file, stream.getvalue())


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


def _put(file: Path, content: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f"{file.name}.{uuid.uuid4().hex}.part")
    try:
        part.write_bytes(content)
        os.replace(part, file)
    finally:
        part.unlink(missing_ok=True)
