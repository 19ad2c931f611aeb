"""Which images a run was trained and judged on, by their content: what its result can be checked against. Torch-free.

A run leaves them as `images.json` in its folder. Images are named by the hash of their content alone, so that the file
may travel with an exported prompt: no names, no patients, no paths.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from engines.errors import DataError

if TYPE_CHECKING:
    from engines.runs.material import Item, Material

FILE = "images.json"
ROLES = {
    "train": "images to learn from",
    "val": "images for choosing",
    "test": "images to test on",
    "unlabelled": "images without labels to learn from",
}
NAMED = 3
"""Differences that are told one by one."""
Listed = tuple[str, int]
"""(hash of the content, label as position among the classes or -1)."""


class UsedImages(BaseModel):
    """The images of a run by what they were for, in their order."""

    classes: list[str]
    descriptions: list[list[str]]
    images: dict[str, list[Listed]]
    """By role: `train`, `val`, `test`, `unlabelled`, or `target: <data set or domain>`."""

    @classmethod
    def of(cls, material: Material) -> UsedImages:
        images = {role: _listed(getattr(material, role)) for role in ROLES}
        images |= {f"target: {target.name}": _listed(target.items) for target in material.targets}
        return cls(classes=material.class_names, descriptions=material.descriptions, images=images)

    def write(self, folder: Path) -> None:
        partial = folder / f"{FILE}.partial"
        partial.write_text(self.model_dump_json(), encoding="utf-8")
        partial.replace(folder / FILE)

    @classmethod
    def read(cls, file: Path) -> UsedImages | None:
        """What a run left; None where an older program left nothing.

        Raises:
            DataError: the file is damaged.
        """
        try:
            return cls.model_validate_json(file.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            raise DataError(
                "The list of the images that this prompt learned from is damaged.",
                "Export the prompt again.",
                str(error),
            ) from error

    def differences(self, now: UsedImages) -> list[str]:
        """What is not the same in `now`, a sentence each; empty where training would see exactly the same."""
        found = []
        if self.classes != now.classes:
            found.append(f"The classes were {_names(self.classes)}, and are {_names(now.classes)} now.")
        elif self.descriptions != now.descriptions:
            changed = [n for n, a, b in zip(self.classes, self.descriptions, now.descriptions, strict=True) if a != b]
            found.append(f"The descriptions of {_names(changed)} have changed.")
        for role in dict.fromkeys([*self.images, *now.images]):
            found += self._differing(role, self.images.get(role, []), now.images.get(role, []), now.classes)
        return found

    def _differing(self, role: str, then: Sequence[Listed], now: Sequence[Listed], classes: list[str]) -> list[str]:
        if then == now:
            return []
        words = ROLES.get(role, f"images of “{role.removeprefix('target: ')}”")
        before, after = dict(then), dict(now)
        relabelled = [key for key in before if key in after and before[key] != after[key]]
        gone, new = Counter(key for key, _ in then), Counter(key for key, _ in now)
        missing, more = (gone - new).total(), (new - gone).total()
        found = []
        if relabelled:
            told = ", ".join(
                f"“{_name(self.classes, before[key])}” is “{_name(classes, after[key])}” now"
                for key in relabelled[:NAMED]
            )
            found.append(f"{len(relabelled):,} of {len(then):,} {words} have another label: {told}.")
        if missing:
            found.append(f"{missing:,} of {len(then):,} {words} are not there, or have changed.")
        if more:
            found.append(f"{more:,} {words} are there that were not used then.")
        return found or [f"The {words} are in another order."]


def digest(value: Any) -> str:
    """SHA-256 of a JSON value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def _listed(items: Sequence[Item]) -> list[Listed]:
    return [(item.sha256, item.label) for item in items]


def _name(classes: Sequence[str], label: int) -> str:
    return classes[label] if 0 <= label < len(classes) else "no label"


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(f"“{name}”" for name in names[: 2 * NAMED])
    return f"{shown} and {len(names) - 2 * NAMED} more" if len(names) > 2 * NAMED else shown
