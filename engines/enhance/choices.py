"""What can enhance a photo: classical methods, the shipped enhancer, and enhancers trained or added here. No torch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from engines.data.images import DICOM_SUFFIXES, SUFFIXES
from engines.enhance.settings import Padding
from engines.errors import ConfigError, DataError
from engines.paths import assets
from engines.store import Workspace

PHOTO_SUFFIXES = SUFFIXES | DICOM_SUFFIXES | {".gif", ".heic", ".heif", ".avif"}
"""What a folder is searched for; those that cannot be read are told one by one."""
WEIGHTS = {".pth", ".pt", ".safetensors"}
NETWORK, CURVES = "enhancer.safetensors", "zero-dce.safetensors"
"""Files of a light-map network and of a Zero-DCE in the folder of an enhancer."""


@dataclass(frozen=True)
class Choice:
    """One method.

    Attributes:
        name: by which requests and commands call it.
        about: one sentence on what it does and where it fails.
        file: of its weights; None for classical methods.
        padding: of a light-map network.
    """

    name: str
    title: str
    about: str
    file: Path | None = None
    padding: Padding = "reflect"


CLASSICAL = (
    Choice("auto-gamma", "Auto gamma", "One curve for the whole photo; keeps the order of light, washes out contrast."),
    Choice("clahe", "CLAHE", "Evens out contrast field by field; brings out texture and noise, lifts little."),
    Choice("msrcr", "Retinex (MSRCR)", "Divides by blurred copies of the photo; greyish, with halos at edges."),
    Choice("exposure-fusion", "Exposure fusion", "Mixes darker and brighter copies; the strongest cheap one by eye."),
)
SHIPPED = Choice(
    "mini-enhancer",
    "Shipped enhancer",
    "CLIP-LIT’s network, trained on pictures that a program darkened; one trained on your own photos may be better.",
    assets() / "models" / "mini-enhancer" / NETWORK,
)


def enhancers_folder(workspace: Workspace) -> Path:
    return workspace.folder("media") / "enhancers"


def read_card(folder: Path) -> dict[str, Any]:
    """What is noted of an enhancer (`name`, `created`, `settings` and the like); empty where nothing can be read."""
    try:
        found = json.loads((folder / "request.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def choices(workspace: Workspace) -> list[Choice]:
    """All methods that can be used now: classical, shipped, own (the newest first)."""
    shipped = [SHIPPED] if SHIPPED.file is not None and SHIPPED.file.is_file() else []
    return [*CLASSICAL, *shipped, *_own(workspace)]


def _own(workspace: Workspace) -> Iterator[Choice]:
    folders = [each for each in enhancers_folder(workspace).glob("*") if each.is_dir()]
    cards = sorted(((read_card(each), each) for each in folders), key=lambda c: str(c[0].get("created")), reverse=True)
    for card, folder in cards:
        name, padding = str(card.get("name") or folder.name), card.get("settings", {}).get("padding", "reflect")
        if (folder / NETWORK).is_file():
            yield Choice(folder.name, name, "A light-map network of your own.", folder / NETWORK, padding)
        elif (folder / CURVES).is_file():
            yield Choice(folder.name, name, "Zero-DCE, trained on your own photos.", folder / CURVES)


def find_choice(workspace: Workspace, name: str) -> Choice:
    """The method called `name`, by name or title, or the file of a CLIP-LIT checkpoint.

    Raises:
        ConfigError: there is none; names those that there are.
    """
    known = choices(workspace)
    for choice in known:
        if name in (choice.name, choice.title):
            return choice
    path = Path(name).expanduser().absolute()
    if path.suffix in WEIGHTS:
        return Choice(str(path), path.name, "A file of weights.", path)
    raise ConfigError(
        f"There is no way to enhance called “{name}”.", f"There are: {', '.join(each.name for each in known)}."
    )


def new_results_folder() -> str:
    """A new folder for results in the workspace, named by the time."""
    return f"exports/enhanced/{datetime.now():%Y-%m-%d %H.%M.%S}"


def photos_in(folder: str | Path) -> list[Path]:
    """The photos that lie directly in a folder, by name.

    Raises:
        DataError: the folder cannot be opened, or there are none.
    """
    place = Path(folder).expanduser()
    try:
        found = sorted(
            each
            for each in place.iterdir()
            if each.suffix.lower() in PHOTO_SUFFIXES and not each.name.startswith(".") and not each.is_dir()
        )
    except OSError as error:
        raise DataError(f"The folder “{place.name}” cannot be opened.", "Choose another one.", str(error)) from error
    if not found:
        raise DataError(f"There are no photos directly in the folder “{place.name}”.", "Choose another one.")
    return found


def photos_of(places: list[str]) -> list[Path]:
    """Files as they are, folders with the photos in them; each once.

    Raises:
        DataError: a place does not exist, or holds no photos.
    """
    found: list[Path] = []
    for each in places:
        place = Path(each).expanduser().absolute()
        if not place.exists():
            raise DataError(f"There is no file or folder “{place.name}”.", "Check the spelling.", str(place))
        found += photos_in(place) if place.is_dir() else [place]
    return list(dict.fromkeys(found))
