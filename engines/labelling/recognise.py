"""Which image of a data set somebody means: by its content, or by its name."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from pathlib import Path, PurePosixPath

from sqlalchemy import select

from engines.data.images import DICOM_SUFFIXES, SUFFIXES
from engines.data.names import clean
from engines.errors import DataError
from engines.labelling.label_files import Said
from engines.labelling.rows import live_dataset
from engines.store.models import Sample
from engines.store.workspace import Workspace

UNKNOWN_IMAGE = "no image of the data set is called so"
AMBIGUOUS = "several images of the data set are called so"
OTHER_CONTENT = "no image of the data set has this content (SHA-256)"
NO_NAME = "it does not say which image it is about"

Parts = tuple[str, ...]
_SHA256 = re.compile("[0-9a-f]{64}")


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
        self.paths: dict[int, list[Parts]] = {}
        self.whole: dict[Parts, set[int]] = defaultdict(set)
        self.ends: dict[Parts, set[int]] = defaultdict(set)  # by the last part, and by the last two
        with workspace.session() as session:
            for each in live_dataset(session, dataset_id).classes:
                self.classes[each.name] = each.id
            columns = (Sample.id, Sample.name, Sample.file, Sample.sha256)
            for row in session.execute(select(*columns).where(Sample.dataset_id == dataset_id)):
                self.hashes[row.sha256].append(row.id)
                paths = [_parts(row.name), _parts(row.file)]
                self.paths[row.id] = [*paths, *map(_bare, paths)]
                for path in self.paths[row.id]:
                    self.whole[path].add(row.id)
                    self.ends[path[-1:]].add(row.id)
                    self.ends[path[-2:]].add(row.id)

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
        if _SHA256.fullmatch(said.sha256):
            return self.hashes.get(said.sha256) or OTHER_CONTENT
        digest = _digest(said.file)
        if digest in self.hashes:
            return self.hashes[digest]
        reason = UNKNOWN_IMAGE if said.names else NO_NAME
        for name in said.names:
            fitting = self._by_name(_parts(name))
            if len(fitting) == 1:
                return fitting
            reason = AMBIGUOUS if fitting else reason
        return reason

    def _by_name(self, wanted: Parts) -> list[int]:
        """Images with this path, or one that is the end of the other; an ending such as .png may be missing.

        Nothing looser: what is only called alike in another folder may be of another patient.
        """
        for parts in (wanted, _bare(wanted)):
            if found := self.whole.get(parts):
                return sorted(found)
            fitting = {
                sample
                for sample in self.ends.get(parts[-2:], ())
                if len(parts) == 1 or any(_ends(path, parts) for path in self.paths[sample])
            }
            if found := fitting | self.whole.get(parts[-1:], set()):
                return sorted(found)
        return []


def _parts(name: str) -> Parts:
    return tuple(clean(part) for part in PurePosixPath(name.replace("\\", "/")).parts) or ("",)


def _bare(path: Parts) -> Parts:
    """Without an ending such as .png; other dots, as in the numbers that DICOM files are called by, are no ending."""
    last = PurePosixPath(path[-1])
    return (*path[:-1], last.stem) if last.suffix.lower() in SUFFIXES | DICOM_SUFFIXES else path


def _ends(one: Parts, other: Parts) -> bool:
    """Whether the shorter of two paths is the end of the longer."""
    length = min(len(one), len(other))
    return one[-length:] == other[-length:]


def _digest(file: Path | None) -> str:
    if file is None:
        return ""
    try:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError:
        return ""
