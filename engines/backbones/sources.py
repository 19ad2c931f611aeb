"""What a backbone's name refers to: a shipped model, a folder, a file, an open_clip tag, a model on the hub."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines.backbones.places import CONFIG, SHIPPED, WEIGHT_SUFFIXES, local_models, models_folder, weights_by_hand
from engines.errors import BackboneError

HUB = "hf-hub:"
# Files of a hub repository that make a folder complete; only the first is a must.
_HUB_FILES = (
    CONFIG,
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "sentencepiece.bpe.model",
    "spiece.model",
)


@dataclass(frozen=True)
class FolderSource:
    """A folder with open_clip_config.json and weights."""

    name: str
    folder: Path

    def version(self) -> object:
        return tuple(sorted((p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in self.folder.iterdir()))


@dataclass(frozen=True)
class FileSource:
    """A checkpoint file that describes its own model (OpenAI's layout)."""

    name: str
    path: Path

    def version(self) -> object:
        return self.path.stat().st_size, self.path.stat().st_mtime_ns


@dataclass(frozen=True)
class TagSource:
    """An open_clip architecture with a pretrained tag or a weight file."""

    name: str
    architecture: str
    pretrained: str

    def settings(self) -> dict[str, Any]:
        """open_clip's record of the tag, empty for a weight file."""
        from open_clip.pretrained import get_pretrained_cfg

        return dict(get_pretrained_cfg(self.architecture, self.pretrained))

    def weights(self) -> Path:
        """The weight file: given, put into the models folder by hand, or fetched and kept by open_clip."""
        from open_clip.pretrained import download_pretrained

        settings = self.settings()
        if not settings:
            return Path(self.pretrained).expanduser()
        by_hand = weights_by_hand(self.architecture, self.pretrained)
        if by_hand:
            return by_hand
        try:
            if not settings.get("hf_hub") and not allow_network():
                cached = Path.home() / ".cache" / "clip" / Path(settings["url"]).name
                if not cached.is_file():
                    raise FileNotFoundError(f"offline, and {cached} is not there")
                return cached
            allow_network()
            return Path(download_pretrained(settings))
        except (OSError, RuntimeError, ValueError) as error:
            place = models_folder() / f"{self.architecture}--{self.pretrained}.safetensors"
            raise not_here(f"{self.architecture}:{self.pretrained}", place, error) from error

    def version(self) -> object:
        path = Path(self.pretrained).expanduser()
        return (path.stat().st_size, path.stat().st_mtime_ns) if path.is_file() else None


Source = FolderSource | FileSource | TagSource


def find_source(name: str, pretrained: str | None = None) -> Source:
    """Say what a name refers to, without loading anything.

    Raises:
        BackboneError: it refers to nothing; the nearest names are suggested.
    """
    name = name.strip()
    if not name:
        raise BackboneError("No backbone is named.", "Name one, for instance 'mini-clip'.")
    if name.startswith(HUB):
        return FolderSource(name, _fetch(name.removeprefix(HUB)))
    if name in local_models():
        return FolderSource(name, local_models()[name])
    if name == SHIPPED:
        raise BackboneError(
            f"The shipped model '{SHIPPED}' is missing from this installation.",
            "Install again: python launch.py --reinstall.",
        )
    path = Path(name.removeprefix("local-dir:")).expanduser()
    if pretrained is None and _is(path, Path.is_dir):
        return FolderSource(path.name, path.resolve())
    if pretrained is None and _is(path, Path.is_file):
        return FileSource(path.stem, path.resolve())
    if path.is_absolute() or name.startswith((".", "~", "local-dir:")) or path.suffix in WEIGHT_SUFFIXES:
        raise BackboneError(f"There is no model folder or weight file '{path}'.", "Check the path.")
    return _find_tag(name, pretrained)


def _is(path: Path, test: Callable[[Path], bool]) -> bool:
    try:
        return test(path)
    except (OSError, ValueError):  # too long or odd a name for the file system
        return False


def _find_tag(name: str, pretrained: str | None) -> TagSource:
    from open_clip import list_models, list_pretrained_tags_by_model

    architectures = list_models()
    architecture, tag = name.replace("/", "-"), pretrained
    if tag is None:
        for separator in (":", "/"):
            left, _, right = name.rpartition(separator)
            if left.replace("/", "-") in architectures:
                architecture, tag = left.replace("/", "-"), right
    if architecture not in architectures:
        known = [*local_models(), *architectures]
        wanted = architecture.split(":")[0]
        lower = {a.lower(): a for a in known}
        near = [lower[n] for n in difflib.get_close_matches(wanted.lower(), lower, n=3, cutoff=0.5)]
        hint = f"Did you mean {_either(near)}?" if near else "`promptloupe backbones` lists all names."
        raise BackboneError(f"No backbone is called '{name[:60]}'.", hint)
    tags = list_pretrained_tags_by_model(architecture)
    if tag in tags or (tag and _is(Path(tag).expanduser(), Path.is_file)):
        return TagSource(f"{architecture}:{tag if tag in tags else Path(str(tag)).stem}", architecture, str(tag))
    if not tags:
        raise BackboneError(f"open_clip knows no weights for '{architecture}'.", "Pass a weight file as `pretrained`.")
    if tag is None:
        raise BackboneError(
            f"'{architecture}' names an architecture but no weights.",
            f"Name weights too, for instance '{architecture}:{tags[0]}' (known: {', '.join(tags[:8])}).",
        )
    near = difflib.get_close_matches(tag, tags, n=3, cutoff=0.4) or tags[:8]
    raise BackboneError(
        f"'{architecture}' has no weights called '{tag}', and no such file exists.", f"Choose {_either(near)}."
    )


def allow_network() -> bool:
    """Whether downloads were asked for (PROMPTLOUPE_ONLINE=1); tells the hub's library so."""
    online = os.environ.get("PROMPTLOUPE_ONLINE") == "1"
    os.environ["HF_HUB_OFFLINE"] = "0" if online else "1"
    from huggingface_hub import constants

    constants.HF_HUB_OFFLINE = not online  # read at import, so setting the variable alone may come too late
    return online


def _fetch(repository: str) -> Path:
    """Folder of a hub repository in the local cache, downloaded if that was asked for."""
    online = allow_network()
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        folder = Path(snapshot_download(repository, allow_patterns=[*_HUB_FILES, "open_clip_*model.*"]))
    except HFValidationError as error:
        raise BackboneError(
            f"'{repository}' is no name of a model on the hub.", "Write hf-hub:organisation/name.", str(error)
        ) from error
    except Exception as error:  # the hub's library raises a dozen kinds, down to those of its HTTP client
        raise not_here(HUB + repository, models_folder() / repository.split("/")[-1], error) from error
    if not (folder / CONFIG).is_file():
        raise BackboneError(
            f"'{repository}' is no open_clip model: it has no {CONFIG}" + ("." if online else " on this machine."),
            "Choose a model whose page says open_clip, or load its weights as a file.",
        )
    return folder


def not_here(name: str, place: Path, error: Exception) -> BackboneError:
    """A model would have to be downloaded, and was not."""
    if os.environ.get("PROMPTLOUPE_ONLINE") == "1":
        what = f"The weights of '{name}' could not be downloaded."
        remedy = f"Check the network connection, or put them at '{place}' by hand."
    else:
        what = f"The weights of '{name}' are not on this machine, and downloads are off."
        remedy = f"Start the program with PROMPTLOUPE_ONLINE=1 to allow the download, or put them at '{place}' by hand."
    return BackboneError(what, remedy, f"{type(error).__name__}: {error}")


def _either(names: list[str]) -> str:
    quoted = [f"'{n}'" for n in names]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} or {quoted[-1]}"
