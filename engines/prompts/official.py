"""Taking over the official repositories' checkpoints, and giving out what was learned under their names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from engines.errors import ConfigError

if TYPE_CHECKING:
    from engines.prompts.base import MethodInfo


class OfficialNames(nn.Module):
    """A module whose state can be read and written under the names of the paper's own code."""

    info: ClassVar[MethodInfo]
    official_names: ClassVar[dict[str, str]] = {}
    """Our parameter name -> the official repository's. A name that ends in a dot stands for all that begin so."""

    @classmethod
    def official_name(cls, name: str) -> str:
        """The official repository's name of our tensor `name`; empty for one that its checkpoints lack."""
        if name in cls.official_names:
            return cls.official_names[name]
        for ours, theirs in cls.official_names.items():
            if ours.endswith(".") and name.startswith(ours):
                return theirs + name.removeprefix(ours)
        return name

    def official_state_dict(self) -> dict[str, Tensor]:
        """What was learned, under the official repository's parameter names."""
        return {n: p.detach().clone() for name, p in self.state_dict().items() if (n := self.official_name(name))}

    def load_official(self, state_dict: Mapping[str, Any]) -> None:
        """Take over an official checkpoint: its state dict, or the dictionary around it that Dassl saves.

        Buffers that belong to the class list of the training run (`token_prefix`, `token_suffix`) are left out.

        Raises:
            ConfigError: a parameter is missing or has another shape.
        """
        given = state_dict.get("state_dict", state_dict)
        found: dict[str, Tensor] = {}
        for name, own in self.state_dict().items():
            official = self.official_name(name)
            if not official:
                found[name] = own
                continue
            value = given.get(official, given.get(official.split(".", 1)[-1]))
            if value is None:
                raise ConfigError(
                    f"The checkpoint has no “{official}”, so it is not one of {self.info.title} with these settings.",
                    f"It has: {', '.join(list(given)[:8]) or 'nothing'}.",
                )
            value = torch.as_tensor(value)
            if value.shape != own.shape:
                raise ConfigError(
                    f"“{official}” of the checkpoint has the shape {list(value.shape)}, not {list(own.shape)}.",
                    "Set the method’s settings, class names and model as they were in the official training.",
                )
            found[name] = value.to(own)
        self.load_state_dict(found)
