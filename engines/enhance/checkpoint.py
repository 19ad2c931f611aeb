"""Files with a light-map network: the public CLIP-LIT layout (.pth) and our own (safetensors)."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from engines.enhance.network import LightMapNet, Padding
from engines.errors import BackboneError, DataError
from engines.files import disk_is_full, whole_file


def read_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors by name, on the CPU, and the notes beside them (safetensors only). Runs no code that a file may hold.

    Raises:
        BackboneError: missing, damaged, or not a file of tensors.
    """
    path = Path(path)
    try:
        if path.suffix == ".safetensors":
            with safe_open(str(path), "pt") as file:
                return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
        found = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise BackboneError(f"There is no file “{path.name}”.", "Check the path.", str(error)) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError, SafetensorError) as error:
        raise BackboneError(
            f"“{path.name}” cannot be read as a file of weights: it is damaged, or something else.",
            "Download it again, or choose another file (.pth or .safetensors).",
            str(error),
        ) from error
    if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()):
        raise BackboneError(f"“{path.name}” holds no plain list of weights.", "Choose a CLIP-LIT checkpoint.")
    return dict(found), {}


def network_of(tensors: Mapping[str, Tensor], padding: Padding = "reflect", name: str = "The file") -> LightMapNet:
    """The network that 30 tensors describe, with or without `module.` in front of their names.

    Raises:
        BackboneError: names or shapes are not those of CLIP-LIT's network; the first difference is told.
    """
    network = LightMapNet(padding)
    expected = network.state_dict()
    given = {key.removeprefix("module."): value for key, value in tensors.items()}
    missing, foreign = sorted(expected.keys() - given.keys()), sorted(given.keys() - expected.keys())
    if missing or foreign:
        lacking = f"“{missing[0]}” is missing" if missing else f"“{foreign[0]}” does not belong to it"
        raise BackboneError(
            f"{name} is no CLIP-LIT enhancement network: {lacking}.",
            "Choose the enhancement model (enhancement_model.pth), not a prompt or another network.",
            f"missing: {missing}; foreign: {foreign[:20]}",
        )
    for key, value in given.items():
        if value.shape != expected[key].shape:
            raise BackboneError(
                f"{name} is no CLIP-LIT enhancement network: “{key}” has the shape {list(value.shape)}, "
                f"not {list(expected[key].shape)}.",
                "Choose another file.",
            )
        if not value.isfinite().all():
            raise BackboneError(f"{name} is broken: “{key}” holds values that are no numbers.", "Choose another file.")
    network.load_state_dict({key: value.float() for key, value in given.items()})
    return network.eval().requires_grad_(False)


def load_network(path: str | Path, padding: Padding = "reflect") -> LightMapNet:
    """The frozen network of a file; see `read_tensors` and `network_of` for the errors."""
    tensors, _ = read_tensors(path)
    return network_of(tensors, padding, f"“{Path(path).name}”")


def write_tensors(path: Path, tensors: Mapping[str, Tensor], notes: Mapping[str, str] | None = None) -> None:
    """A safetensors file, written whole or not at all; an earlier one of the name gives way only then."""
    content = save({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, dict(notes or {}))
    save_whole(path, content)


def save_whole(path: Path, content: bytes | str, put: Callable[[Path, Path], object] = os.replace) -> None:
    """Writes a file whole or not at all; `put(part, path)` brings it to its place.

    Raises:
        FileExistsError: from `put`.
        DataError: the disk is full, or the folder cannot be written. Nothing half written stays.
    """
    try:
        with whole_file(path, put=put) as file:
            file.write(content.encode() if isinstance(content, str) else content)
    except FileExistsError:  # `put` says that the name is taken
        raise
    except OSError as error:
        full = disk_is_full(error)
        raise DataError(
            f"“{path.name}” was not saved: {'the disk is full' if full else 'its folder cannot be written'}.",
            "Free some space and try again." if full else "Choose another folder, or change its permissions.",
            str(error),
        ) from error
