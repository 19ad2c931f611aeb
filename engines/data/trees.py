"""Trees of class folders, wherever they lie (a folder, a ZIP file): layout, metadata tables, class descriptions."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from engines.data.base import ImportOptions, LeftOut, Reading, Record, check_class_count
from engines.data.images import DICOM_SUFFIXES, SUFFIXES, UNKNOWN_FORMAT, Undecodable, read_file
from engines.data.listing import Entry
from engines.data.names import clean
from engines.data.slides import SUFFIXES as SLIDE_SUFFIXES
from engines.data.tables import Row, find_columns, read_table, split_name
from engines.errors import DataError

METADATA = {"metadata.csv", "metadata.jsonl", "metadata.parquet"}
DESCRIPTIONS = "classes.json"
BESIDES = ("readme", "license", "licence", "notice")
ARCHIVES = {".zip", ".tar", ".gz", ".tgz", ".7z", ".rar", ".bz2", ".xz"}

NESTED_ARCHIVE = "an archive inside the source: unpack it first"
DICOM_INSIDE = "a DICOM file: import DICOM files as a folder of their own"
OUTSIDE_SPLITS = "not in a train, val or test folder"
LISTED_BUT_MISSING = "listed in the metadata table, but missing"

Fetch = Callable[[Entry], Path | bytes]
"""Where an entry's file lies, or its content. Raises `Undecodable`."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How the folders of a tree are meant."""

    skip: int = 0
    """Folders around everything that mean nothing."""
    splits: bool = False
    """Whether the next level is train, val and test."""

    def place(self, parts: tuple[str, ...]) -> tuple[str | None, str | None]:
        """(split, class name) of a file by its folders; the split is an empty text for a file outside the splits."""
        folders = parts[self.skip : -1]
        if not self.splits:
            return None, (folders[0] if folders else None)
        if not folders or not split_name(folders[0]):
            return "", None
        return split_name(folders[0]), (folders[1] if len(folders) > 1 else None)


def infer_layout(files: Collection[tuple[str, ...]], wrapper: str = "") -> Layout:
    """The layout of a tree with image files at the paths `files`.

    A folder around everything is skipped when class folders lie in it, or when it is called `wrapper`.
    """
    skip = 0
    while True:
        tops = {parts[skip] if len(parts) > skip + 1 else None for parts in files}
        names = {top for top in tops if top is not None}
        if len(tops) != 1 or not names or split_name(next(iter(names))):
            break
        if next(iter(names)) != wrapper and any(len(parts) < skip + 3 for parts in files):
            break
        skip += 1
    meant = {split_name(name) for name in names} - {None}
    all_splits = bool(meant) and all(split_name(name) for name in names)
    return Layout(skip, all_splits or ("train" in meant and len(meant) > 1))


def is_candidate(entry: Entry) -> bool:
    """Whether to try an entry as an image: by its ending, or because it has none."""
    return entry.suffix in SUFFIXES | SLIDE_SUFFIXES or (not entry.suffix and not is_beside(entry))


def is_beside(entry: Entry) -> bool:
    """Files that belong to a data set without being part of it."""
    name = entry.parts[-1].lower()
    return name in METADATA or name == DESCRIPTIONS or name.startswith(BESIDES)


def reason_against(entry: Entry) -> str:
    if entry.suffix in ARCHIVES:
        return NESTED_ARCHIVE
    return DICOM_INSIDE if entry.suffix in DICOM_SUFFIXES else UNKNOWN_FORMAT


def read_tree(
    entries: list[Entry], left_out: list[LeftOut], fetch: Fetch, options: ImportOptions, wrapper: str = ""
) -> Reading:
    """The images of a tree, with labels from its folders or from `metadata.csv`, `.jsonl` or `.parquet` beside them.

    Args:
        entries: all files, sorted by path.
        left_out: what the listing did not follow; reported first.
        fetch: finds the content of an entry.
        wrapper: name of a folder around everything that means nothing.
    """
    images = [entry for entry in entries if is_candidate(entry)]
    others = [entry for entry in entries if not is_candidate(entry) and not is_beside(entry)]
    refused = [*left_out, *(LeftOut(entry.name, reason_against(entry)) for entry in others)]
    layout = infer_layout([entry.parts for entry in images], wrapper)
    warnings: list[str] = []
    metadata = _read_metadata(entries, fetch, options, warnings)
    known = {entry.name for entry in images} | {one.file for one in refused}
    refused += [LeftOut(name, LISTED_BUT_MISSING) for name in metadata if name not in known]
    check_class_count(len({layout.place(entry.parts)[1] for entry in images if entry.name not in metadata}))
    descriptions = _read_descriptions(entries, layout, fetch)

    def records() -> Iterator[Record | LeftOut]:
        yield from refused
        for entry in images:
            yield _record(entry, layout, metadata.get(entry.name), fetch)

    return Reading(records(), len(images) + len(refused), list(descriptions), descriptions, warnings)


def _record(entry: Entry, layout: Layout, row: dict[str, str | None] | None, fetch: Fetch) -> Record | LeftOut:
    split, label = layout.place(entry.parts)
    if split == "" and row is None:
        return LeftOut(entry.name, OUTSIDE_SPLITS)
    about = row or {}
    try:
        source = fetch(entry)
    except Undecodable as error:
        return LeftOut(entry.name, error.reason)
    return Record(
        name=entry.name,
        source=source,
        label=about.get("label", label),
        split=about.get("split") or split or None,
        domain=about.get("domain") or "",
        group=about.get("group") or "",
    )


def _content(entry: Entry, fetch: Fetch) -> bytes:
    found = fetch(entry)
    return read_file(found) if isinstance(found, Path) else found


def _read_metadata(
    entries: Iterable[Entry], fetch: Fetch, options: ImportOptions, warnings: list[str]
) -> dict[str, dict[str, str | None]]:
    """What metadata tables say of each file (by its path in the tree)."""
    found: dict[str, dict[str, str | None]] = {}
    for entry in entries:
        if entry.parts[-1].lower() not in METADATA:
            continue
        try:
            names, rows = read_table(_content(entry, fetch), entry.suffix, entry.name)
            columns = find_columns(names, options)
            if not columns.path:
                raise DataError("It has no column with file names, such as “file_name”.")
            for row in rows:
                if path := row.get(columns.path):
                    place = posixpath.normpath("/".join((*entry.parts[:-1], path.replace("\\", "/"))))
                    found[place] = describe_row(row, columns.label, columns.split, columns.domain, columns.group)
        except (DataError, Undecodable) as error:
            warnings.append(f"The table “{clean(entry.name)}” was not used: {error}")
    return found


def describe_row(row: Row, label: str, split: str, domain: str, group: str) -> dict[str, str | None]:
    """The parts of a table's row that say something about its image; `label` only where there is such a column."""
    about: dict[str, str | None] = {"split": split_name(row.get(split, ""))}
    if label:
        about["label"] = row.get(label) or None
    return about | {"domain": row.get(domain, ""), "group": row.get(group, "")}


def _read_descriptions(entries: list[Entry], layout: Layout, fetch: Fetch) -> dict[str, list[str]]:
    """`classes.json` at the top of the tree: class names in label order, each with sentences that describe it."""
    for entry in entries:
        if entry.parts[layout.skip :] == (DESCRIPTIONS,):
            try:
                found = json.loads(_content(entry, fetch))
                return {clean(name): [str(one) for one in sentences] for name, sentences in found.items()}
            except (Undecodable, ValueError, AttributeError, TypeError, RecursionError):
                return {}
    return {}
