"""Folders of domains (sites, scanners, styles), each with one sub-folder per class."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from engines.data.base import ImportOptions, LeftOut, Reader, Reading, Record, check_class_count
from engines.data.benchmark_layouts import damaged, read_lines
from engines.data.benchmarks import DOMAIN_SETS, DomainSet
from engines.data.listing import Entry, ignored, list_files
from engines.data.names import clean
from engines.data.readers.table import locate
from engines.data.tables import split_name
from engines.data.trees import OUTSIDE_SPLITS, infer_layout, is_beside, is_candidate, reason_against
from engines.errors import DataError

A_DOMAIN = re.compile(
    r"(site|hospital|clinic|cent(re|er)|lab(oratory)?|scanner|vendor|device|camera|stain|style|domain|location)"
    r"[ _-]?\w+",
    re.IGNORECASE,
)
"""Names by which a folder tells that it is a domain and not a class."""
UNKNOWN = DomainSet("")
NO_CLASS = "not in a folder of a class inside a folder of a domain"


class DomainReader(Reader):
    """`<domain>/<class>/images`, as Office-Home, PACS and DomainNet are stored: the outer folder becomes the domain.

    Found by itself for data sets that are known, and where the outer folders are called after sites, scanners,
    stains or domains (`site_a`, `scanner 2`). `train`, `val` and `test` folders may lie between domain and class.
    """

    name = "domains"
    title = "Folder with one sub-folder per domain (site, scanner, style), each with one per class"
    rank = 42

    def accepts(self, source: Path) -> bool:
        return source.is_dir() and _recognise(_unwrapped(source)) is not None

    def read(self, source: Path, options: ImportOptions) -> Reading:
        root = _unwrapped(source)
        known, domains = _recognise(root) or UNKNOWN, _sub_folders(root)
        if len(_shared_classes(root, domains)) < 2:
            raise DataError(
                f"“{source.name}” is not a folder of domains: its sub-folders do not hold the same class folders.",
                "It must hold one folder per domain, and each of these one folder per class, called alike in all.",
            )
        lists = _find_lists(root, known, domains)
        reading = _listed(root, lists) if lists else _walked(root, known)
        reading.name = known.title
        return reading


def _unwrapped(source: Path) -> Path:
    """The folder itself, or the one that it is wrapped around."""
    for _ in range(3):
        inside = _sub_folders(source)
        if len(inside) != 1:
            break
        source /= inside[0]
    return source


def _recognise(root: Path) -> DomainSet | None:
    """The data set of domains that a folder is, as far as the names in it tell."""
    folders = _sub_folders(root)
    plain = {_plain(name) for name in folders}
    named = UNKNOWN if all(map(A_DOMAIN.fullmatch, folders)) else None
    for known in DOMAIN_SETS:
        if plain <= set(known.domains) and all((root / mark).is_file() for mark in known.marks):
            named = known
            break
    # The names come first: there may be a thousand folders, and looking into all of them takes a while.
    return named if len(folders) > 1 and named and len(_shared_classes(root, folders)) > 1 else None


def _plain(folder: str) -> str:
    return "".join(filter(str.isalnum, folder.lower()))


def _sub_folders(folder: Path) -> list[str]:
    """Names of the folders in a folder, sorted; none where it cannot be opened. Folders of split lists do not count."""
    try:
        with os.scandir(folder) as found:
            names = [item.name for item in found if item.is_dir() and not ignored(item.name)]
    except OSError:
        return []
    return sorted(name for name in names if not name.lower().startswith("splits"))


def _shared_classes(root: Path, domains: list[str]) -> set[str]:
    """Folders that lie in every domain; below `train` and `test` folders where all there are are such."""
    inside = [set(_sub_folders(root / domain)) for domain in domains]
    if inside and all(names and all(map(split_name, names)) for names in inside):
        inside = [
            {name for part in parts for name in _sub_folders(root / domain / part)}
            for domain, parts in zip(domains, inside, strict=True)
        ]
    return set.intersection(*inside) if inside else set()


def _walked(root: Path, known: DomainSet) -> Reading:
    entries, left_out = list_files(root)
    images = [entry for entry in entries if is_candidate(entry)]
    others = [entry for entry in entries if not is_candidate(entry) and not is_beside(entry)]
    aside = {Path(mark).name for mark in known.marks}
    refused = [*left_out, *(LeftOut(e.name, reason_against(e)) for e in others if e.parts[-1] not in aside)]
    layout = infer_layout([entry.parts[1:] for entry in images if len(entry.parts) > 1])
    check_class_count(len({layout.place(entry.parts[1:])[1] for entry in images}))

    def record(entry: Entry) -> Record | LeftOut:
        split, label = layout.place(entry.parts[1:])
        if not label:
            return LeftOut(entry.name, OUTSIDE_SPLITS if split == "" else NO_CLASS)
        domain = known.domains.get(_plain(entry.parts[0]), entry.parts[0])
        return Record(entry.name, entry.handle, label, split, domain)

    def records() -> Iterator[Record | LeftOut]:
        yield from refused
        yield from map(record, images)

    return Reading(records(), len(images) + len(refused))


def _find_lists(root: Path, known: DomainSet, domains: list[str]) -> dict[tuple[str, str], Path]:
    """(domain, split) to the list of its images, where every domain has one for training and one for testing."""
    names = [known.domains[_plain(domain)] for domain in domains if _plain(domain) in known.domains]
    for pattern in known.lists:
        lists = {
            (name, split): root / pattern.format(domain=name, split=split)
            for name in names
            for split in ("train", "test")
        }
        there = {key: path for key, path in lists.items() if path.is_file()}
        if there and len(there) == 2 * len({name for name, _ in there}):
            return there
    return {}


def _listed(root: Path, lists: dict[tuple[str, str], Path]) -> Reading:
    """What lists of `path label` say, whose class names are the second folder of each path."""
    labels: dict[str, int] = {}
    records: list[Record | LeftOut] = []
    for (domain, split), file in lists.items():
        for number, line in enumerate(read_lines(file, root), 1):
            path, _, label = line.rpartition(" ")
            parts = path.split("/")
            if len(parts) < 3 or not label.isdecimal():
                raise damaged(file.name, f"line {number} is not a path and a label")
            labels.setdefault(clean(parts[1]), int(label))
            place = locate(path, root.resolve())
            records.append(place if isinstance(place, LeftOut) else Record(path, place, clean(parts[1]), split, domain))
    return Reading(records, len(records), sorted(labels, key=lambda name: (labels[name], name)), keep_duplicates=True)
