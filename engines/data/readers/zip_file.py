"""A ZIP file of a class folder tree. Nothing is unpacked by name: images are copied under their content's hash."""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from engines.data.base import ImportOptions, LeftOut, Reader, Reading, Record
from engines.data.images import EMPTY, MAX_BYTES, TOO_MANY_BYTES, Undecodable
from engines.data.listing import Entry, ignored
from engines.data.names import is_text
from engines.data.trees import read_tree
from engines.errors import DataError

MOST_ENTRIES = 2_000_000
WORST_RATIO = 200
"""Unpacked size over packed size beyond which a large archive is taken for a trap (photographs reach 1.1)."""
HARMLESS = 256 << 20
"""Bytes up to which the ratio does not matter: flat drawings pack very well."""

LEADS_OUT = "a path that leads out of the archive"
LINK = "a link"
ENCRYPTED = "protected by a password"
DAMAGED_ENTRY = "damaged inside the archive"
UNKNOWN_PACKING = "packed in a way that cannot be read"
BAD_NAME = "its name is not valid text"


class ZipReader(Reader):
    """A ZIP file with one folder per class inside; its images are copied into the workspace."""

    name = "zip"
    title = "ZIP file of class folders"
    rank = 20

    def accepts(self, source: Path) -> bool:
        return (
            source.is_file()
            and source.suffix.lower() != ".npz"
            and (source.suffix.lower() == ".zip" or zipfile.is_zipfile(source))
        )

    def read(self, source: Path, options: ImportOptions) -> Reading:
        archive = open_zip(source)
        entries, left_out = _list_members(archive)
        refuse_bombs(source, [entry.handle for entry in entries])
        reading = read_tree(
            entries, left_out, lambda entry: _read_member(archive, entry.handle), options, wrapper=source.stem
        )
        reading.records = _closing(archive, reading.records)  # type: ignore[arg-type]
        return reading


def open_zip(source: Path) -> zipfile.ZipFile:
    """
    Raises:
        DataError: not a ZIP file, cut off, or with absurdly many entries.
    """
    try:
        archive = zipfile.ZipFile(source)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError) as error:
        raise DataError(
            f"“{source.name}” cannot be opened: it is not a ZIP file, or its end is missing.",
            "Copy or download it again.",
            str(error),
        ) from error
    if len(archive.infolist()) > MOST_ENTRIES:
        raise DataError(f"“{source.name}” holds more than {MOST_ENTRIES:,} files.", "Split it into several.")
    return archive


def refuse_bombs(source: Path, members: list[zipfile.ZipInfo]) -> None:
    """
    Raises:
        DataError: the archive claims to unpack to far more than it could honestly hold.
    """
    packed, unpacked = sum(m.compress_size for m in members), sum(m.file_size for m in members)
    if packed > source.stat().st_size or unpacked > max(HARMLESS, WORST_RATIO * max(packed, 1)):
        raise DataError(
            f"“{source.name}” was refused: it would unpack to {unpacked / 1e9:,.1f} GB, far more than"
            " such a file honestly holds.",
            "It may be made to fill the disk. Ask where it comes from, or unpack it yourself and import the folder.",
        )


def _list_members(archive: zipfile.ZipFile) -> tuple[list[Entry], list[LeftOut]]:
    entries: list[Entry] = []
    left_out: list[LeftOut] = []
    for member in archive.infolist():
        name = member.filename.replace("\\", "/")
        parts = PurePosixPath(name).parts
        if member.is_dir() or not parts or any(ignored(part) for part in parts if part not in (".", "..")):
            continue
        shown = name.encode("utf-8", "replace").decode()
        if reason := reason_against(member, name, parts):
            left_out.append(LeftOut(shown, reason))
        else:
            entries.append(Entry(parts, member))
    entries.sort(key=lambda entry: entry.parts)
    return entries, left_out


def reason_against(member: zipfile.ZipInfo, name: str, parts: tuple[str, ...]) -> str:
    """Why a member (its name with slashes, and that name's parts) must not be unpacked; empty where it may be."""
    if name.startswith("/") or ".." in parts or ":" in parts[0]:
        return LEADS_OUT
    if stat.S_ISLNK(member.external_attr >> 16):
        return LINK
    if member.flag_bits & 0x1:
        return ENCRYPTED
    if member.file_size > MAX_BYTES:
        return TOO_MANY_BYTES
    return "" if is_text(name) else BAD_NAME


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """
    Raises:
        Undecodable: the member is empty, damaged or packed in an unknown way.
    """
    try:
        data = archive.read(member)
    except NotImplementedError as error:
        raise Undecodable(UNKNOWN_PACKING, str(error)) from error
    except RuntimeError as error:
        raise Undecodable(ENCRYPTED, str(error)) from error
    except Exception as error:  # zlib, lzma and zipfile each have errors of their own
        raise Undecodable(DAMAGED_ENTRY, repr(error)) from error
    if not data:
        raise Undecodable(EMPTY)
    return data


def _closing(archive: zipfile.ZipFile, records: Iterator[Record | LeftOut]) -> Iterator[Record | LeftOut]:
    with archive:
        yield from records
