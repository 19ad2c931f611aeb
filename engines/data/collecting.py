"""What an import has found so far: rows, classes, duplicates, and what to warn of."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace

from engines.data.base import ImportOptions, LeftOut, Reading, Record, check_class_count
from engines.data.names import class_order, clean, shorten
from engines.data.report import LeftOutList
from engines.data.splitting import SHARES, SHARES_WITHOUT_VAL, assign_splits
from engines.errors import DataError

LONGEST_CLASS = 200
UNBALANCED = 20

DUPLICATE = "a duplicate: the same content came in already"
NAMELESS_CLASS = "its class has no name"
LONG_CLASS = f"the name of its class is longer than {LONGEST_CLASS} characters"


@dataclass(frozen=True, slots=True)
class Examined:
    """An image that can be used."""

    record: Record
    sha256: str
    width: int
    height: int
    file: str
    pages: int


@dataclass(frozen=True, slots=True)
class Row:
    """One image of the data set to be."""

    name: str
    file: str
    sha256: str
    width: int
    height: int
    split: str
    label: str | None
    domain: str
    group: str
    mask: str = ""


class Collection:
    """Takes the images of a source one by one; after `finish` its rows are those of the data set."""

    def __init__(self, reading: Reading, options: ImportOptions) -> None:
        self.reading = reading
        self.options = options
        self.rows: list[Row] = []
        self.left_out = LeftOutList()
        self.classes: list[str] = []
        self.warnings: list[str] = []
        self._first: dict[str, str | None] = {}
        """Content hash to the label it first came with."""
        self._found: set[str] = set()
        self._conflicts: Counter[tuple[str, str]] = Counter()
        self._repeated = 0
        self._paged = 0

    def add(self, result: Examined | LeftOut) -> None:
        """
        Raises:
            DataError: there are more than 10,000 classes.
        """
        if isinstance(result, LeftOut):
            self.left_out.add(clean(result.file), result.reason)
            return
        record = result.record
        label = None if record.label is None else clean(record.label)
        reason = self._reason_against(result.sha256, label)
        if reason:
            self.left_out.add(clean(shorten(record.name, 500)), reason)
            return
        self._first.setdefault(result.sha256, label)
        self._count_class(label)
        self._paged += result.pages > 1
        self.rows.append(
            Row(
                name=shorten(clean(record.name), 500) or f"image {len(self.rows) + 1}",
                file=result.file,
                sha256=result.sha256,
                width=result.width,
                height=result.height,
                split="pool" if label is None else record.split or "train",
                label=label,
                domain=shorten(clean(record.domain), 100),
                group=shorten(clean(record.group), 200),
                mask=str(record.mask) if record.mask else "",
            )
        )

    def _reason_against(self, sha256: str, label: str | None) -> str:
        if label is not None and not label:
            return NAMELESS_CLASS
        if label and len(label) > LONGEST_CLASS:
            return LONG_CLASS
        if sha256 not in self._first or self.options.keep_duplicates:
            return ""
        if self.reading.keep_duplicates:
            self._repeated += 1
            return ""
        earlier = self._first[sha256]
        if label != earlier and label is not None and earlier is not None:
            self._conflicts[min(label, earlier), max(label, earlier)] += 1
        return DUPLICATE

    def _count_class(self, label: str | None) -> None:
        if label is None or label in self._found:
            return
        self._found.add(label)
        check_class_count(len(self._found))

    def finish(self) -> None:
        """Put the classes in order, set images aside for testing where the source did not, and note what is odd.

        Raises:
            DataError: there is no image at all.
        """
        if not self.rows:
            why = self.left_out.sentence()
            raise DataError(
                f"None of the files could be imported ({why})." if why else "The source holds no images.",
                (self.reading.hint if why else "") or "Choose a source with PNG, JPEG, WebP, BMP or TIFF images.",
            )
        self._order_classes()
        if self.options.split == "auto":
            self._set_aside()
        self.warnings += [*self.reading.warnings, *self._oddities()]

    def _order_classes(self) -> None:
        given = [clean(name) for name in self.reading.classes]
        empty = [name for name in dict.fromkeys(given) if name not in self._found]
        if empty and self._found:
            self.warnings.append(f"Classes without images were left out: {_listed(empty)}.")
        known = [name for name in dict.fromkeys(given) if name in self._found]
        self.classes = known + class_order(self._found - set(known))

    def _set_aside(self) -> None:
        splits = {row.split for row in self.rows}
        chosen = [i for i, row in enumerate(self.rows) if row.split == "train"]
        if "test" in splits or not chosen:
            return
        shares = SHARES_WITHOUT_VAL if "val" in splits else SHARES
        rows = [self.rows[i] for i in chosen]
        keys = [f"group {row.group}" if row.group else row.sha256 for row in rows]
        for i, split in zip(chosen, assign_splits([row.label or "" for row in rows], keys, shares), strict=True):
            self.rows[i] = replace(self.rows[i], split=split)
        if all(self.rows[i].split == "train" for i in chosen):
            self.warnings.append(
                "No images could be set aside for testing: each class has too few images, or all are of one patient or"
                " slide, which are not torn apart. How good a prompt is cannot be measured then."
            )
            return
        parts = ", ".join(f"{share:.0%} for {_PURPOSE[split]}" for split, share in shares.items())
        self.warnings.append(f"The source sets no test images aside, so each class was divided: {parts}.")

    def _oddities(self) -> list[str]:
        found: list[str] = []
        sizes = Counter(row.label for row in self.rows if row.label is not None)
        if self._conflicts:
            pairs = [f"{one} / {other}" for (one, other), _ in self._conflicts.most_common(5)]
            found.append(
                "Duplicates with another label than their first copy, which was kept:"
                f" {self._conflicts.total():,} ({_listed(pairs)}). Look at these classes before you trust their labels."
            )
        single = [name for name in self.classes if sizes[name] == 1]
        if single:
            found.append(f"Classes with a single image, which cannot be both trained and tested: {_listed(single)}.")
        rest = [name for name in self.classes if name not in single]
        if len(sizes) > 1 and max(sizes.values()) >= UNBALANCED * min(sizes.values()):
            most, fewest = max(sizes, key=lambda c: sizes[c]), min(sizes, key=lambda c: sizes[c])
            found.append(
                f"Very unbalanced: “{most}” has {sizes[most]:,} images, “{fewest}” {sizes[fewest]:,}."
                " Read the macro-F1 score rather than the accuracy."
            )
        found += self._uncovered(rest)
        torn = self._torn_groups()
        if torn:
            found.append(f"Groups with images in more than one split: {torn:,}. Test results may look too good.")
        if self._repeated:
            found.append(f"Copies of other images, kept because the published split names them: {self._repeated:,}.")
        if self._paged:
            found.append(f"TIFF files with several pages, of which the first was used: {self._paged:,}.")
        return found

    def _uncovered(self, classes: Iterable[str]) -> list[str]:
        splits = defaultdict(set)
        for row in self.rows:
            splits[row.label].add(row.split)
        untrained = [name for name in classes if "train" not in splits[name]]
        untested = [name for name in classes if "test" not in splits[name]]
        has_test = any(row.split == "test" for row in self.rows)
        found = [f"Classes without training images: {_listed(untrained)}."] if untrained else []
        return found + ([f"Classes without test images: {_listed(untested)}."] if untested and has_test else [])

    def _torn_groups(self) -> int:
        splits = defaultdict(set)
        for row in self.rows:
            if row.group and row.label is not None:
                splits[row.group].add(row.split)
        return sum(len(found) > 1 for found in splits.values())

    def fingerprint(self) -> str:
        """SHA-256 over the sorted content hashes, labels and splits: equal on every machine."""
        return fingerprint((row.sha256, row.label, row.split) for row in self.rows)


def fingerprint(rows: Iterable[tuple[str, str | None, str]]) -> str:
    """SHA-256 over the sorted (content hash, label, split) of all images: equal on every machine."""
    lines = sorted(f"{sha256}\t{label or ''}\t{split}\n" for sha256, label, split in rows)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


_PURPOSE = {"train": "training", "val": "validation", "test": "testing"}


def _listed(names: list[str], most: int = 5) -> str:
    shown = ", ".join(f"“{name}”" for name in names[:most])
    return shown + (f" and {len(names) - most:,} more" if len(names) > most else "")
