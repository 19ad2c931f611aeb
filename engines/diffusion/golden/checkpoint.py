"""NPNets in files: our own, and those that the official code released."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import safe_open, save
from torch import Tensor

from engines.diffusion.golden.files import save_whole
from engines.diffusion.golden.npnet import NPNet, NPNetConfig
from engines.diffusion.golden.residual_branch import SwinBranch
from engines.errors import BackboneError

FORMAT = 1
CLIP_TOKENS = 77
_AGAIN = "Copy or download the file again."
_PARTS = {"svd": "unet_svd", "residual": "unet_embedding", "text_norm": "embeeding"}
"""Our parts, and their keys in released files (the last is spelt so there)."""


def save_npnet(
    network: NPNet, path: Path, facts: Mapping[str, Any] | None = None, extra: Mapping[str, Tensor] | None = None
) -> None:
    """Writes one safetensors file, whole or not at all.

    Args:
        facts: anything JSON can hold that should be known of the network, such as how it was trained.
        extra: further tensors; their names must not be those of weights.
    Raises:
        DataError: the disk is full; an earlier file stays.
    """
    tensors = {**network.state_dict(), **(extra or {})}
    about = {"format": FORMAT, "config": network.config.model_dump(), "facts": dict(facts or {})}
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    save_whole(path, save(plain, {"npnet": json.dumps(about)}))


def load_npnet(path: Path, attention: bool = True) -> NPNet:
    """A network from a file that `save_npnet` wrote, or from a released one (.pth).

    Args:
        attention: for released files only, which do not say whether their attention was trained; the published
            weights for SDXL are used with it, but a file that the official code trained itself must go without.
    Raises:
        BackboneError: no such file, damaged, not of an NPNet, or a pickle that holds more than tensors.
    """
    return read_npnet(path)[0] if path.suffix == ".safetensors" else _load_released(path, attention)


def read_npnet(path: Path) -> tuple[NPNet, dict[str, Any], dict[str, Tensor]]:
    """Network, facts and extra tensors that `save_npnet` wrote.

    Raises:
        BackboneError: no such file, damaged, or not of an NPNet.
    """
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})["npnet"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if int(about["format"]) > FORMAT:
            raise BackboneError("This NPNet was saved by a newer Promptloupe.", "Update Promptloupe.")
        network = NPNet(NPNetConfig.model_validate(about["config"]))
        own = network.state_dict().keys()
        network.load_state_dict({name: value for name, value in tensors.items() if name in own})
        extra = {name: value for name, value in tensors.items() if name not in own}
        return network.eval(), dict(about["facts"]), extra
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, ValidationError, RuntimeError) as error:
        raise BackboneError(f"The NPNet “{path.name}” cannot be read.", _AGAIN, str(error)) from error


def _load_released(path: Path, attention: bool) -> NPNet:
    """The official layout: a state dict for each part, alpha and beta."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise BackboneError(f"The NPNet “{path.name}” cannot be read.", "Check the path.", str(error)) from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise BackboneError(
            f"“{path.name}” is damaged, or holds more than weights, which could run foreign code.", _AGAIN, str(error)
        ) from error
    wanted = {*_PARTS.values(), "alpha", "beta"}
    if not isinstance(state, Mapping) or not wanted <= state.keys():
        raise BackboneError(
            f"“{path.name}” is no NPNet in the released layout: it lacks {', '.join(sorted(wanted - _keys(state)))}.",
            "Choose a file of the Golden Noise authors.",
        )
    try:
        return _from_released(state, attention)
    except (RuntimeError, KeyError, AttributeError, ValueError, TypeError, ValidationError) as error:
        raise BackboneError(
            f"The weights in “{path.name}” do not fit an NPNet.",
            "Choose a file of the Golden Noise authors.",
            str(error),
        ) from error


def _from_released(state: Mapping[str, Any], attention: bool) -> NPNet:
    svd, text = state[_PARTS["svd"]], state[_PARTS["text_norm"]]
    channels = len(text["linear.bias"]) // 2
    # Released networks are for square latents of four channels, laid out in 2 x 2 blocks.
    side = svd["mlp1.0.weight"].shape[1] // 2
    network = NPNet(
        NPNetConfig(
            channels=channels,
            height=side,
            width=side,
            tokens=CLIP_TOKENS,
            text_width=text["linear.weight"].shape[1] // CLIP_TOKENS,
            attention=attention,
            residual="swin",
        )
    )
    assert network.svd is not None
    assert isinstance(network.residual, SwinBranch)
    # The batch norm there is never used.
    unused = ("bn.",) if attention else ("bn.", "attention.")
    network.svd.load_state_dict({name: value for name, value in svd.items() if not name.startswith(unused)})
    network.residual.load_state_dict(network.residual.released_weights(state[_PARTS["residual"]]))
    network.text_norm.load_state_dict(text)
    with torch.no_grad():
        network.alpha.copy_(state["alpha"])
        network.beta.copy_(state["beta"])
    return network.eval()


def _keys(state: object) -> set[str]:
    return set(state.keys()) if isinstance(state, Mapping) else set()
