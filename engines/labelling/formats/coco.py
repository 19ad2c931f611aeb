"""COCO's JSON for classification: images, categories, and one annotation a labelled image; the box is the image."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from engines.labelling.content import Content, Picture


def write(folder: Path, content: Content) -> list[str]:
    kept = content.written(content.labelled, lambda picture: folder / "images" / picture.file_name)
    number = {name: place for place, name in enumerate(content.classes, start=1)}
    document: dict[str, Any] = {
        "info": {"description": content.name, "version": "1.0", "contributor": ""},
        "licenses": [],
        "images": [_image(picture) for picture in kept],
        "categories": [{"id": place, "name": name, "supercategory": ""} for name, place in number.items()],
        "annotations": [
            _annotation(picture, number[picture.label or ""], content.decisions is not None) for picture in kept
        ],
    }
    if content.decisions is not None:
        document["info"]["contributor"] = ", ".join(content.readers)
        document["decisions"] = content.decisions
    text = json.dumps(document, indent=1, ensure_ascii=False)
    (folder / "annotations.json").write_text(text + "\n", "utf-8")
    return ["annotations.json"]


def _image(picture: Picture) -> dict[str, Any]:
    return {
        "id": picture.position + 1,
        "file_name": picture.file_name,
        "width": picture.width,
        "height": picture.height,
        "name": picture.name,
        "sha256": picture.sha256,
        "split": picture.split,
    }


def _annotation(picture: Picture, category: int, audit: bool) -> dict[str, Any]:
    whole: dict[str, Any] = {
        "id": picture.position + 1,
        "image_id": picture.position + 1,
        "category_id": category,
        "bbox": [0, 0, picture.width, picture.height],
        "area": picture.width * picture.height,
        "iscrowd": 0,
    }
    if audit:
        whole |= {"decided_by": picture.decided_by, "disputed": picture.disputed, "readers": picture.said}
    return whole
