"""Importing: every image is read, checked and hashed once; the data set appears whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from io import BytesIO
from pathlib import Path

from filelock import FileLock, Timeout
from PIL import Image
from sqlalchemy.exc import OperationalError

from engines.data.base import ImportOptions, LeftOut, Reading, Record, find_reader
from engines.data.collecting import Collection, Examined
from engines.data.depth import SUFFIX, encode
from engines.data.images import (
    Undecodable,
    check_size,
    inspect_image,
    read_file,
    shrink,
    to_rgb,
)
from engines.data.names import clean, shorten
from engines.data.report import ImportReport, ImportRequest
from engines.data.slide_tiles import Slides
from engines.data.storing import check_name, imported_before, store
from engines.data.thumbnails import thumbnail_path, write_thumbnail
from engines.errors import DataError
from engines.files import write_whole
from engines.store import Dataset, Workspace, new_id

Progress = Callable[[float, str], object]
"""Called with (fraction done, message)."""

IN_FLIGHT = 8
"""Images held in memory at a time."""
UNFINISHED = ".unfinished"
"""Marks a media folder whose import has not ended."""


def import_dataset(
    workspace: Workspace,
    request: ImportRequest,
    progress: Progress = lambda fraction, message: None,
    check_cancelled: Callable[[], object] = lambda: None,
    token: str | None = None,
) -> ImportReport:
    """Import a data set. Until the very end nothing of it is visible, and whatever ends the import leaves nothing.

    Args:
        progress: called with the fraction done and a message, a few times a second.
        check_cancelled: called for every image; may raise to end the import.
        token: an import that is repeated with the same token after it had succeeded returns its report again.

    Raises:
        DataError: the source cannot be read, holds no usable image, or the workspace's disk is full.
    """
    token = token or new_id()
    with workspace.session() as session:
        if report := imported_before(session, token):
            return report
        if request.name is not None:
            check_name(session, request.name)
    source = existing(request.source)
    reader = find_reader(source, request.reader)
    progress(0.0, "Looking at the files")
    reading = reader.read(source, request.options)
    name = request.name or reading.name or (source.stem if source.is_file() else source.name)
    dataset = Dataset(name=clean(name) or "Images", reader=reader.name, source="" if reading.private else str(source))
    return import_reading(workspace, reading, dataset, request.options, progress, check_cancelled, token)


def existing(source: str) -> Path:
    """The file or folder that a person named.

    Raises:
        DataError: it does not exist, cannot be reached, or is an address on the network.
    """
    text = source.strip()
    if text.lower().startswith(("http://", "https://", "s3://", "gs://", "ftp://")):
        raise DataError("Images are imported from this machine only.", "Download them first, then choose the folder.")
    try:
        path = Path(text).expanduser()
        found = bool(text) and path.exists()
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(f"“{clean(text)[:200]}” cannot be opened.", "Check its name.", str(error)) from error
    if not found:
        raise DataError(f"“{clean(text)[:200]}” does not exist on this machine.", "Check its spelling.")
    return path.resolve()


def import_reading(
    workspace: Workspace,
    reading: Reading,
    dataset: Dataset,
    options: ImportOptions,
    progress: Progress,
    check_cancelled: Callable[[], object],
    token: str,
) -> ImportReport:
    """Import what a reader found as `dataset` (a row that is not in the data base yet). Raises as `import_dataset`."""
    started = time.monotonic()
    with _alone(workspace, progress, check_cancelled), _whole_or_nothing(workspace, token) as thumbnails:
        collection = Collection(reading, options)
        examine = Examiner(workspace, token, options, thumbnails)
        slides, told = Slides(reading, options, check_cancelled), 0.0
        with closing(_examined(slides.records(), examine)) as results:
            for number, result in enumerate(results, 1):
                check_cancelled()
                collection.add(result)
                if time.monotonic() - told > 0.2:
                    told = time.monotonic()
                    of = "" if slides.slides else f" of {max(reading.total, number):,}"
                    progress(0.95 * slides.fraction(number), f"{number:,}{of} images")
        collection.finish()
        progress(0.96, "Writing the data set")
        check_cancelled()
        return store(workspace, collection, dataset, token, started)


@contextmanager
def _alone(workspace: Workspace, progress: Progress, check_cancelled: Callable[[], object]) -> Iterator[None]:
    """One import at a time in a workspace, so that what a killed one left can be told from one that runs."""
    lock = FileLock(workspace.folder("media") / ".import.lock")
    while True:
        try:
            lock.acquire(timeout=0.2)
            break
        except Timeout:
            progress(0.0, "Waiting for another import to end")
            check_cancelled()
    try:
        clear_unfinished(workspace)
        yield
    finally:
        lock.release()


def clear_unfinished(workspace: Workspace) -> None:
    """Remove the copies that a killed import left in the workspace. Only to be called while no import runs."""
    for mark in workspace.folder("media").glob(f"*/{UNFINISHED}"):
        if _finished(workspace, mark.parent.name):
            mark.unlink(missing_ok=True)
        else:
            shutil.rmtree(mark.parent, ignore_errors=True)


def _finished(workspace: Workspace, token: str) -> bool:
    with workspace.session() as session:
        return imported_before(session, token) is not None


@contextmanager
def _whole_or_nothing(workspace: Workspace, token: str) -> Iterator[list[Path]]:
    """Removes copies and thumbnails (those added to the list) when the block raises, and tells of full disks."""
    media = workspace.folder("media") / token
    thumbnails: list[Path] = []
    try:
        media.mkdir(parents=True, exist_ok=True)
        (media / UNFINISHED).touch()
        yield thumbnails
    except BaseException as error:
        if not _finished(workspace, token):
            shutil.rmtree(media, ignore_errors=True)
            for thumbnail in thumbnails:
                thumbnail.unlink(missing_ok=True)
        if told := disk_trouble(error):
            raise told from error
        raise
    (media / UNFINISHED).unlink(missing_ok=True)
    if not any(media.iterdir()):
        media.rmdir()


def disk_trouble(error: BaseException) -> DataError | None:
    """The error to tell a person where `error` means that the workspace could not be written."""
    full = isinstance(error, OperationalError) and "full" in str(error.orig).lower()
    if full or (isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)):
        return DataError(
            "The disk of the workspace is full, so nothing was imported.", "Free some space, then import again."
        )
    if isinstance(error, OSError):
        return DataError(
            "The workspace cannot be written, so nothing was imported.",
            "Check the disk, and that you may write to the workspace’s folder.",
            str(error),
        )
    return None


class Examiner:
    """Decodes, hashes and keeps one image; called from several threads."""

    def __init__(self, workspace: Workspace, token: str, options: ImportOptions, thumbnails: list[Path]) -> None:
        self.workspace = workspace
        self.token = token
        self.options = options
        self.thumbnails = thumbnails

    def __call__(self, record: Record) -> Examined | LeftOut:
        try:
            return self._pixels(record, record.source) if isinstance(record.source, Image.Image) else self._file(record)
        except Undecodable as error:
            return LeftOut(shorten(record.name, 500), error.reason)

    def _file(self, record: Record) -> Examined:
        source = record.source
        data = read_file(source) if isinstance(source, Path) else bytes(source)  # type: ignore[arg-type]
        found = inspect_image(data, self.options.max_pixels)
        sha256 = hashlib.sha256(data).hexdigest()
        self._thumbnail(found.thumbnail, sha256)
        if isinstance(source, Path) and not self.options.copy_images:
            file = str(source)
        else:
            file = self._keep(data, sha256, found.suffix)
        return Examined(record, sha256, found.width, found.height, file, found.pages)

    def _pixels(self, record: Record, image: Image.Image) -> Examined:
        check_size(image.width, image.height, self.options.max_pixels)
        shape = f"{image.mode} {image.width} {image.height} ".encode()
        sha256 = hashlib.sha256(shape + image.tobytes() + (record.depth.content() if record.depth else b"")).hexdigest()
        self._thumbnail(shrink(to_rgb(image)), sha256)
        if record.depth:
            self._keep(encode(record.depth), sha256, SUFFIX)
        buffer = BytesIO()
        image.save(buffer, "PNG", compress_level=1)
        return Examined(record, sha256, image.width, image.height, self._keep(buffer.getvalue(), sha256, ".png"), 1)

    def _thumbnail(self, image: Image.Image, sha256: str) -> None:
        path = thumbnail_path(self.workspace, sha256)
        if write_thumbnail(image, path):
            self.thumbnails.append(path)

    def _keep(self, data: bytes, sha256: str, suffix: str) -> str:
        """Copy an image into the workspace; returns its path in it."""
        file = f"media/{self.token}/{sha256[:2]}/{sha256}{suffix}"
        place = self.workspace.path / file
        if not place.exists():
            write_whole(place, data, durable=False)
        return file


def _examined(records: Iterable[Record | LeftOut], examine: Examiner) -> Generator[Examined | LeftOut, None, None]:
    """What became of each record, in order, decoded by a few threads ahead of the caller."""
    waiting: deque[Future[Examined | LeftOut] | LeftOut] = deque()
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        try:
            for record in records:
                waiting.append(record if isinstance(record, LeftOut) else pool.submit(examine, record))
                if len(waiting) >= IN_FLIGHT:
                    yield _result(waiting.popleft())
            while waiting:
                yield _result(waiting.popleft())
        finally:
            pool.shutdown(cancel_futures=True)


def _result(one: Future[Examined | LeftOut] | LeftOut) -> Examined | LeftOut:
    return one if isinstance(one, LeftOut) else one.result()
