"""Small copies of images, kept by the hash of their content."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from engines.data.images import load_image, shrink
from engines.files import whole_file
from engines.store import Sample, Workspace


def thumbnail_path(workspace: Workspace, sample: Sample | str) -> Path:
    """Where the thumbnail (at most 160 pixels wide and high, JPEG) of a sample, or of a content hash, lies."""
    sha256 = sample if isinstance(sample, str) else sample.sha256
    return workspace.path / "thumbnails" / sha256[:2] / f"{sha256}.jpg"


def write_thumbnail(image: Image.Image, path: Path) -> bool:
    """Write a thumbnail where there is none yet; returns whether it was written."""
    if path.exists():
        return False
    with whole_file(path, durable=False) as file:
        image.save(file, "JPEG", quality=85)  # a tenth of the time that WebP takes
    return True


def ensure_thumbnail(workspace: Workspace, sample: Sample) -> Path:
    """The thumbnail of a sample, made again where it is gone.

    Raises:
        DataError: there is no thumbnail and the image itself cannot be read any more.
    """
    path = thumbnail_path(workspace, sample)
    if not path.exists():
        write_thumbnail(shrink(load_image(workspace.resolve(sample.file))), path)
    return path
