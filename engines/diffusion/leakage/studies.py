"""Pictures with captions under study: a folder each in the workspace, read by pages, written by jobs. Torch-free.

media/leakage/<study>/study.json, image.png
                      words.json, maps.npz, maps.safetensors    behind the job "leakage-maps"
                      masks/<word>.png, <word>.true.png         drawn by hand, and known of samples
                      figures.json                              leakage before repair, where masks are known
                      repairs/<repair>/...                      see `repairs.py`
                      edits/<edit>/...                          see `edits.py`
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, ValidationError

from engines.data.images import load_image
from engines.diffusion.leakage.files import read_array, read_json, save_picture
from engines.diffusion.leakage.samples import Mask, find_sample
from engines.diffusion.places import ModelFolder, find_text_to_image
from engines.diffusion.squares import middle, square_image
from engines.diffusion.words import split_words
from engines.errors import ConfigError, DataError
from engines.files import write_whole
from engines.store import Workspace, now

LONGEST_CAPTION = 2000
STEPS = 20
"""Of the diffusion, where nobody says otherwise: enough to see and to edit, in less than half of the papers' time."""
Maps = NDArray[np.float32]


class Facts(BaseModel):
    """What a study is about."""

    model_config = ConfigDict(frozen=True)

    caption: str
    model: str
    """Name of the model, or the folder it lies in."""
    steps: int
    side: int
    """Of the square picture, in pixels."""
    source: str
    """Name of the picture's file, or of the sample."""
    sample: str = ""
    created: datetime


@dataclass(frozen=True, slots=True)
class Study:
    """One picture with its caption."""

    id: str
    folder: Path
    facts: Facts

    @property
    def image(self) -> Path:
        return self.folder / "image.png"

    @property
    def words(self) -> list[str]:
        return split_words(self.facts.caption)

    @property
    def looked(self) -> bool:
        """Whether it is known where the words look."""
        return (self.folder / "words.json").is_file()

    @property
    def model(self) -> ModelFolder:
        """
        Raises:
            BackboneError: it is no longer there.
        """
        return find_text_to_image(self.facts.model)

    def maps(self) -> Maps | None:
        """[words, steps, s, s]: where each word looks before repair, the noisiest step first; None before the job."""
        return read_array(self.folder / "maps.npz")

    def notes(self) -> dict[str, Any]:
        """`{"unread": end of the caption that the model does not read, "cut": numbers of words not read whole}`."""
        return read_json(self.folder / "words.json") or {"unread": "", "cut": []}

    def figures(self) -> dict[str, Any]:
        """Leakage before repair; see `leak_figures.Figures`."""
        return read_json(self.folder / "figures.json") or {}

    # Masks

    def mask_file(self, word: int) -> Path | None:
        """The mask of a word's object: drawn by hand, else the true one of a sample, else None."""
        own, true = (self.folder / "masks" / f"{word}{kind}.png" for kind in ("", ".true"))
        return own if own.is_file() else true if true.is_file() else None

    def mask(self, word: int) -> Mask | None:
        """[side, side]."""
        file = self.mask_file(word)
        return None if file is None else np.asarray(Image.open(file).convert("L")) > 127

    def masks(self) -> dict[int, Mask]:
        """Of all words that have one."""
        found = {number: self.mask(number) for number in range(len(self.words))}
        return {number: mask for number, mask in found.items() if mask is not None}

    def drawn(self, word: int) -> bool:
        return (self.folder / "masks" / f"{word}.png").is_file()

    def draw(self, word: int, mask: Mask | None) -> None:
        """Keep a mask drawn by hand, of the picture or of its square; None takes it away again.

        Raises:
            ConfigError: the caption has no such word, or nothing is inside.
        """
        if not 0 <= word < len(self.words):
            raise ConfigError("The caption has no such word.", "Choose a word of the caption.")
        file = self.folder / "masks" / f"{word}.png"
        if mask is None:
            file.unlink(missing_ok=True)
            return
        cut = Image.fromarray(mask.astype(np.uint8) * 255).crop(middle(mask.shape[1], mask.shape[0]))
        scaled = cut.resize((self.facts.side, self.facts.side), Image.Resampling.BOX)
        inside = np.asarray(scaled) > 127
        if not inside.any():
            raise ConfigError("The mask is empty.", "Paint over the object, then keep the mask.")
        file.parent.mkdir(exist_ok=True)
        save_picture(Image.fromarray(inside.astype(np.uint8) * 255), file)


# --- finding and making -----------------------------------------------------------------------------------------------


def leakage_folder(workspace: Workspace) -> Path:
    folder = workspace.folder("media") / "leakage"
    folder.mkdir(exist_ok=True)
    return folder


def find_study(workspace: Workspace, study_id: str) -> Study:
    """The study with that id.

    Raises:
        DataError: there is none, or its folder is damaged.
    """
    folder = leakage_folder(workspace) / study_id
    try:
        if not study_id.isalnum():
            raise FileNotFoundError(study_id)
        return Study(study_id, folder, Facts.model_validate_json((folder / "study.json").read_bytes()))
    except (OSError, ValidationError) as error:
        raise DataError("There is no such picture under study.", "Choose a picture anew.", str(error)) from error


def studies(workspace: Workspace) -> list[Study]:
    """All of them, the newest first; damaged folders are left out."""
    found = []
    for file in leakage_folder(workspace).glob("*/study.json"):
        try:
            found.append(find_study(workspace, file.parent.name))
        except DataError:
            continue
    return sorted(found, key=lambda study: study.facts.created, reverse=True)


def study_file(workspace: Workspace, file: str | Path, caption: str, model: str, steps: int = STEPS) -> Study:
    """Begin, or find again, the study of an image file with a caption.

    Raises:
        DataError: the image cannot be read, is tiny, or far from square.
        ConfigError: there is no caption, or it is endless; no such number of steps.
        BackboneError: there is no such model.
    """
    found = find_text_to_image(model)
    return _begin(
        workspace, square_image(load_image(Path(file)), found.image_side), caption, model, steps, Path(file).name
    )


def study_sample(workspace: Workspace, name: str, model: str, steps: int = STEPS, caption: str = "") -> Study:
    """The same for a sample picture; its masks are known for words that are its own nouns.

    Raises:
        ConfigError, BackboneError: as `study_file`.
    """
    sample, found = find_sample(name), find_text_to_image(model)
    picture, masks = sample.draw(found.image_side)
    study = _begin(workspace, picture, caption or sample.caption, model, steps, name, name)
    words = [word.casefold() for word in study.words]
    for noun, mask in masks.items():
        if noun in words:
            save_picture(
                Image.fromarray(mask.astype(np.uint8) * 255), study.folder / "masks" / f"{words.index(noun)}.true.png"
            )
    return study


def _begin(
    workspace: Workspace, picture: Image.Image, caption: str, model: str, steps: int, source: str, sample: str = ""
) -> Study:
    caption = " ".join(caption.split())
    if not split_words(caption):
        raise ConfigError("There is no caption.", "Type in a few words what the picture shows.")
    if len(caption) > LONGEST_CAPTION:
        raise ConfigError(
            f"The caption has {len(caption):,} characters.", "A sentence is enough: models read about 60 words."
        )
    if not 2 <= steps <= 1000:
        raise ConfigError(f"{steps} steps cannot be run.", "Choose between 2 and 1000 steps; 20 to 50 are usual.")
    seen = hashlib.sha256(np.asarray(picture).tobytes())
    seen.update(json.dumps([caption, model, steps]).encode())
    study_id = seen.hexdigest()[:16]
    folder = leakage_folder(workspace) / study_id
    if not (folder / "study.json").is_file():
        (folder / "masks").mkdir(parents=True, exist_ok=True)
        save_picture(picture, folder / "image.png")
        facts = Facts(
            caption=caption, model=model, steps=steps, side=picture.width, source=source, sample=sample, created=now()
        )
        write_whole(folder / "study.json", facts.model_dump_json())  # last: it says that the folder is whole
    return find_study(workspace, study_id)


def word_number(caption: str, name: str) -> int:
    """The place of a word in its caption, from 0; of several equal ones the first.

    Raises:
        ConfigError: it is not there.
    """
    words = [word.casefold() for word in split_words(caption)]
    if name.casefold() not in words:
        raise ConfigError(
            f"The caption does not contain “{name}”.", f"Choose among its words: {', '.join(dict.fromkeys(words))}."
        )
    return words.index(name.casefold())


def overlap(one: Maps, other: Maps) -> float:
    """Share of a word's attention [s, s] that another word's covers, both taken as shares of their sum."""
    return float(np.minimum(one / max(one.sum(), 1e-12), other / max(other.sum(), 1e-12)).sum())
