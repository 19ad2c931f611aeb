"""Reading weight files, never by unpickling arbitrary objects."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from engines.backbones.places import WEIGHT_SUFFIXES
from engines.errors import BackboneError

# Where several files lie in one folder, the first of these is the model.
PREFERRED = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
    "pytorch_model.bin",
)
_AGAIN = "Copy or download the file again."


def find_weights(folder: Path) -> Path:
    """The weight file of a model folder.

    Raises:
        BackboneError: there is none, or several and none has a usual name.
    """
    files = sorted(p for p in folder.iterdir() if p.suffix in WEIGHT_SUFFIXES and p.is_file())
    for name in PREFERRED:
        if folder / name in files:
            return folder / name
    if len(files) == 1:
        return files[0]
    if files:
        raise BackboneError(
            f"The folder '{folder}' holds several weight files: {', '.join(p.name for p in files[:5])}.",
            f"Name the right one {PREFERRED[0]} (or .bin: {PREFERRED[3]}).",
        )
    raise BackboneError(f"The folder '{folder}' holds no weights.", f"Put {PREFERRED[0]} or {PREFERRED[3]} into it.")


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Tensors by name from a safetensors file or a torch checkpoint (`weights_only=True`), on the CPU.

    Wrappers ("state_dict", "model") and the "module." of distributed training are taken off.

    Raises:
        BackboneError: no such file, not a weight file, damaged, or a pickle that holds more than tensors.
    """
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise BackboneError(
            f"The weight file '{path}' cannot be read.", "Check the path and its permissions.", str(error)
        ) from error
    _refuse_placeholders(path, head)
    state = _load_safetensors(path) if path.suffix == ".safetensors" else _load_torch(path)
    for wrapper in ("state_dict", "model"):
        inner = state.get(wrapper)
        if isinstance(inner, Mapping):
            state = dict(inner)
    tensors = {str(name): value for name, value in state.items() if isinstance(value, Tensor)}
    if not tensors:
        raise BackboneError(f"The file '{path}' holds no tensors.", "Choose the file with the model's weights.")
    if all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    return tensors


def _refuse_placeholders(path: Path, head: bytes) -> None:
    if not head:
        raise BackboneError(f"The weight file '{path}' is empty.", _AGAIN)
    if head.startswith(b"version https://git-lfs"):
        raise BackboneError(
            f"'{path}' is only a git-lfs pointer, not the weights themselves.", "Run 'git lfs pull' in its folder."
        )
    if head.lstrip()[:1] == b"<":
        raise BackboneError(
            f"'{path}' is a web page, not a weight file: the download was answered by a site's page.",
            "Download the file itself and try again.",
        )


def _load_safetensors(path: Path) -> dict[str, object]:
    try:
        return dict(load_file(path))
    except (SafetensorError, OSError, ValueError) as error:
        raise BackboneError(f"The weight file '{path}' is damaged or incomplete.", _AGAIN, str(error)) from error


def _load_torch(path: Path) -> dict[str, object]:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(name.endswith("/constants.pkl") for name in archive.namelist()):
                raise BackboneError(
                    f"'{path}' is a TorchScript program, and programs are not run here.",
                    "Save its weights once: torch.save(torch.jit.load(path).state_dict(), 'weights.pt'), and load "
                    "that file.",
                )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if zipfile.is_zipfile(path):  # written by torch, so sound, but not only tensors
            raise BackboneError(
                f"The file '{path}' holds more than tensors, and unpickling it could run foreign code.",
                "Save only the state dict, best as safetensors, and load that file.",
                str(error),
            ) from error
        raise BackboneError(f"'{path}' is no weight file, or a damaged one.", _AGAIN, str(error)) from error
    except Exception as error:  # noise makes the unpickler stumble in every way there is
        raise BackboneError(f"'{path}' is no weight file, or a damaged one.", _AGAIN, str(error)) from error
    if not isinstance(state, Mapping):
        raise BackboneError(
            f"The file '{path}' holds a {type(state).__name__}, not weights by name.", "Choose a state dict."
        )
    return dict(state)
