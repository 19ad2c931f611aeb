"""Which image of a data set somebody means: by its content, or by its name."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from sqlalchemy import select

from engines.data.names import clean
from engines.errors import DataError
from engines.labelling.label_files import Said
from engines.labelling.rows import live_dataset
from engines.store.models import Sample
from engines.store.workspace import Workspace

UNKNOWN_IMAGE = "no image of the data set is called so"
AMBIGUOUS = "several images of the data set are called so"
NO_NAME = "it does not say which image it is about"


def find_image(workspace: Workspace, dataset_id: int, text: str) -> int:
    """The id of the image called `text`: its name or the end of its path, its SHA-256, or its number.

    Raises:
        DataError: there is none, there are several, or there is no such data set.
    """
    known = Recogniser(workspace, dataset_id)
    found = known.find(Said("", "", (text,), text.strip().lower()))
    if isinstance(found, list):
        return found[0]
    if text.strip().isdecimal() and int(text) in known.paths:
        return int(text)
    remedy = {AMBIGUOUS: "Give more of its path, its SHA-256, or its number."}
    raise DataError(f"“{clean(text)[:80]}”: {found}.", remedy.get(found, "Check the name."))


class Recogniser:
    """The images and classes of a data set, as a file may name them."""

    def __init__(self, workspace: Workspace, dataset_id: int) -> None:
        self.classes: dict[str, int] = {}
        self.hashes: dict[str, list[int]] = defaultdict(list)
        self.paths: dict[int, list[tuple[str, ...]]] = {}
        self.names: dict[str, set[int]] = defaultdict(set)
        with workspace.session() as session:
            for each in live_dataset(session, dataset_id).classes:
                self.classes[each.name] = each.id
            columns = (Sample.id, Sample.name, Sample.file, Sample.sha256)
            for row in session.execute(select(*columns).where(Sample.dataset_id == dataset_id)):
                self.hashes[row.sha256].append(row.id)
                self.paths[row.id] = [_parts(row.name), _parts(row.file)]
                for parts in self.paths[row.id]:
                    self.names[parts[-1]].add(row.id)
                    self.names[_stem(parts[-1])].add(row.id)

    def find_class(self, label: str) -> int | None:
        """By its name; letters' case counts only where it has to."""
        if label in self.classes:
            return self.classes[label]
        alike = [class_id for name, class_id in self.classes.items() if clean(name).casefold() == label.casefold()]
        return alike[0] if len(alike) == 1 else None

    def find(self, said: Said) -> list[int] | str:
        """The image, several with the same content, or why it cannot be told."""
        if said.refused:
            return said.refused
        for digest in (said.sha256, _digest(said.file)):
            if digest and digest in self.hashes:
                return self.hashes[digest]
        if not said.names:
            return UNKNOWN_IMAGE if said.sha256 else NO_NAME
        reason = UNKNOWN_IMAGE
        for name in said.names:
            best = self._by_name(_parts(name))
            if len(best) == 1:
                return best
            reason = AMBIGUOUS if best else reason
        return reason

    def _by_name(self, wanted: tuple[str, ...]) -> list[int]:
        """Images whose path agrees with `wanted` in most places, counted from the end."""
        for last in dict.fromkeys((wanted[-1], _stem(wanted[-1]))):
            agreeing: dict[int, list[int]] = defaultdict(list)
            for sample in self.names.get(last, ()):
                agreeing[max(_common(wanted[:-1], parts[:-1]) for parts in self.paths[sample])].append(sample)
            if agreeing:
                return agreeing[max(agreeing)]
        return []


def _parts(name: str) -> tuple[str, ...]:
    return tuple(clean(part) for part in PurePosixPath(name.replace("\\", "/")).parts) or ("",)


def _stem(name: str) -> str:
    return PurePosixPath(name).stem


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """How many places agree, counted from the end."""
    count = 0
    for a, b in zip(reversed(one), reversed(other), strict=False):
        if a != b:
            break
        count += 1
    return count


def _digest(file: Path | None) -> str:
    if file is None:
        return ""
    try:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError:
        return ""
