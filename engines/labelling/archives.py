"""ZIP files of labels and images: packed for a download, unpacked for an import; never in memory as a whole."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from engines.data.images import DICOM_SUFFIXES, SUFFIXES
from engines.data.listing import ignored
from engines.data.names import clean, file_name
from engines.data.readers.zip_file import open_zip, reason_against, refuse_bombs
from engines.errors import DataError

PIECE = 1 << 20
"""Bytes between two looks at whether somebody has cancelled."""
_PACKED = {*SUFFIXES, ".zip"} - {".bmp", ".tif", ".tiff"}
Progress = Callable[[float, str], object]


def pack(folder: Path, target: Path, inside: str, progress: Progress, check_cancelled: Callable[[], object]) -> None:
    """Write all files of `folder` to the ZIP file `target`, below one folder called `inside`.

    Raises:
        OSError: the disk is full.
    """
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    total, done = sum(file.stat().st_size for file in files) or 1, 0
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            member = zipfile.ZipInfo.from_file(
                file, f"{inside}/{file.relative_to(folder).as_posix()}", strict_timestamps=False
            )
            member.compress_type = zipfile.ZIP_STORED if file.suffix.lower() in _PACKED else zipfile.ZIP_DEFLATED
            with file.open("rb") as source, archive.open(member, "w") as written:
                while piece := source.read(PIECE):
                    check_cancelled()
                    progress(done / total, f"{done / 1e6:,.0f} of {total / 1e6:,.0f} MB packed")
                    written.write(piece)
                    done += len(piece)


@contextmanager
def unpacked(place: Path, check_cancelled: Callable[[], object]) -> Iterator[Path]:
    """`place` itself; of a ZIP file a folder with what is in it, which is gone after the block.

    A folder around everything is left out; so are links, and what would lie outside.

    Raises:
        DataError: the ZIP file is damaged, protected, or made to fill the disk.
        OSError: the disk is full.
    """
    if place.suffix.lower() != ".zip" or not place.is_file():
        yield place
        return
    with tempfile.TemporaryDirectory(prefix="promptloupe-") as scratch, open_zip(place) as archive:
        root = Path(scratch) / file_name(place.stem)
        root.mkdir()
        members = [each for each in archive.infolist() if not each.is_dir()]
        refuse_bombs(place, members)
        for member in members:
            name = member.filename.replace("\\", "/")
            parts = PurePosixPath(name).parts
            if parts and not any(map(ignored, parts)) and not reason_against(member, name, parts):
                check_cancelled()
                _unpack(archive, member, root.joinpath(*parts), place)
        yield _inner(root)


def _unpack(archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path, place: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        source = archive.open(member)
        with source, target.open("wb") as written:
            shutil.copyfileobj(source, written, PIECE)
    except OSError:
        raise
    except Exception as error:  # zlib, lzma and zipfile each have errors of their own
        raise DataError(
            f"“{clean(place.name)}” is damaged, or packed in a way that cannot be read.",
            "Copy or download it again.",
            repr(error),
        ) from error


def _inner(folder: Path) -> Path:
    """Without the folders around everything; one with images in it is a class."""
    while len(held := list(folder.iterdir())) == 1 and held[0].is_dir():
        if any(each.suffix.lower() in SUFFIXES | DICOM_SUFFIXES for each in held[0].iterdir()):
            break
        (folder,) = held
    return folder
