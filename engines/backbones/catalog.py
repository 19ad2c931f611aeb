"""The list of backbones one can name, read without building a model and without torch.

`catalog.json` records what the installed open_clip knows. After an update of open_clip, write it anew with
`python -m engines.backbones.catalog`.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from engines.backbones.places import CONFIG, SHIPPED, local_models, weights_by_hand

State = Literal["shipped", "on disk", "needs download"]


@dataclass(frozen=True)
class BackboneInfo:
    """One line of the list of backbones.

    Attributes:
        name: what `load_backbone` takes (together with a tag of `pretrained`, where there are any).
        title: for people.
        pretrained: tags of weights, `load_backbone(f"{name}:{tag}")`; empty for complete models.
        state: "shipped", "on disk" (complete, or at least one tag's weights) or "needs download".
        on_disk: tags whose weights are on this machine.
        parameters: number of weights, None where only the download would tell.
        image_size: side of the images in pixels.
        image_tower: "ViT", "ResNet" or the timm model's name.
        text_tower: "CLIP" or the Hugging Face model's name.
    """

    name: str
    title: str
    pretrained: tuple[str, ...]
    state: State
    on_disk: tuple[str, ...]
    parameters: int | None
    image_size: int
    image_tower: str
    text_tower: str


def list_backbones() -> list[BackboneInfo]:
    """All backbones with known weights: the shipped ones, then those in the models folder, then open_clip's."""
    local = [_local(name, folder) for name, folder in local_models().items()]
    known = [_known(name, record) for name, record in _catalog().items() if record["tags"]]
    return sorted(local, key=lambda info: info.state != "shipped") + known


def hub_name(backbone: str) -> str:
    """The repository on the Hugging Face hub that a backbone (a name that `load_backbone` takes) comes from, or ""."""
    if backbone.startswith("hf-hub:"):
        return backbone.removeprefix("hf-hub:")
    name, _, tag = backbone.replace(":", "/").partition("/")
    origin = str(_catalog().get(name, {}).get("tags", {}).get(tag, ""))
    return "" if origin.startswith("https:") else origin.rpartition("/")[0]


def _local(name: str, folder: Path) -> BackboneInfo:
    try:
        settings = json.loads((folder / CONFIG).read_text("utf-8"))["model_cfg"]
        facts = _facts(settings)
    except (OSError, ValueError, KeyError, TypeError):
        facts = {"image_size": 0, "image_tower": "unreadable settings", "text_tower": ""}
    shipped = name == SHIPPED
    title = "mini-CLIP (small, for trying things out)" if shipped else name
    return BackboneInfo(
        name=name,
        title=title,
        pretrained=(),
        state="shipped" if shipped else "on disk",
        on_disk=(),
        parameters=_count_weights(folder),
        **facts,
    )


def _known(name: str, record: dict[str, Any]) -> BackboneInfo:
    on_disk = tuple(tag for tag, origin in record["tags"].items() if _is_here(name, tag, origin))
    facts = {k: v for k, v in record.items() if k != "tags"}
    return BackboneInfo(
        name=name,
        title=f"{facts['image_tower']}, {facts['image_size']} px, {facts['text_tower']} text",
        pretrained=tuple(record["tags"]),
        state="on disk" if on_disk else "needs download",
        on_disk=on_disk,
        **facts,
    )


def _is_here(name: str, tag: str, origin: str) -> bool:
    """Whether the weights of a tag are in the models folder or in the cache they would be downloaded to."""
    if weights_by_hand(name, tag):
        return True
    if origin.startswith("https:"):
        return (Path.home() / ".cache" / "clip" / origin.rsplit("/", 1)[-1]).is_file()
    from huggingface_hub.constants import HF_HUB_CACHE

    repository, _, file = origin.rpartition("/")
    snapshots = Path(HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}" / "snapshots"
    return any(snapshots.glob(f"*/{Path(file).stem or 'open_clip_*model'}.*"))


def _count_weights(folder: Path) -> int | None:
    """Number of weights of a safetensors file, from its header alone."""
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        shapes = [entry["shape"] for name, entry in header.items() if name != "__metadata__"]
        return sum(math.prod(shape) for shape in shapes)
    return None


def _facts(settings: dict[str, Any]) -> dict[str, Any]:
    vision, text = settings["vision_cfg"], settings["text_cfg"]
    layers = vision.get("layers")
    plain = "ResNet" if isinstance(layers, list) else f"ViT/{vision.get('patch_size')}"
    size = vision.get("image_size", 224)
    return {
        "image_size": size[0] if isinstance(size, list) else size,
        "image_tower": vision.get("timm_model_name") or plain,
        "text_tower": text.get("hf_model_name") or "CLIP",
    }


@cache
def _catalog() -> dict[str, Any]:
    return dict(json.loads((resources.files("engines.backbones") / "catalog.json").read_text("utf-8")))


def survey() -> dict[str, Any]:
    """What the installed open_clip knows, by architecture: facts and, by tag, where the weights come from."""
    import open_clip
    import torch
    from open_clip.pretrained import get_pretrained_cfg

    from engines.backbones.loading import build_model

    records = {}
    for name in open_clip.list_models():
        settings = open_clip.get_model_config(name)
        try:
            with torch.device("meta"):
                parameters = sum(p.numel() for p in build_model(settings).parameters())
        except (OSError, NotImplementedError):  # a Hugging Face text model that is not on this machine
            parameters = None
        tags = {}
        for tag in open_clip.list_pretrained_tags_by_model(name):
            origin = get_pretrained_cfg(name, tag)
            tags[tag] = origin.get("hf_hub") or origin.get("url")
        records[name] = {"parameters": parameters, **_facts(settings), "tags": tags}
    return records


if __name__ == "__main__":
    target = Path(str(resources.files("engines.backbones"))) / "catalog.json"
    target.write_text(json.dumps(survey(), indent=1) + "\n", "utf-8")
