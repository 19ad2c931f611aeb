"""A study as one ZIP file: images, pairs and NPNet, with a card that says how they were made. Torch-free."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

from engines.diffusion.golden.card import write_card
from engines.diffusion.golden.files import writing
from engines.diffusion.golden.judged import judgements
from engines.diffusion.golden.study import Study, key_of
from engines.errors import ConfigError
from engines.files import PART, whole_file

PARTS = {"images": "Images", "pairs": "Pairs", "network": "NPNet"}


def export_study(
    study: Study,
    folder: Path,
    parts: Iterable[str] = tuple(PARTS),
    progress: Callable[[float, str], None] = lambda fraction, message: None,
    check_cancelled: Callable[[], None] = lambda: None,
) -> Path:
    """Packs `parts` of a study, with its card, into a ZIP file in `folder`; nothing is left of one that fails.

    Raises:
        ConfigError: there is nothing of these parts yet.
        DataError: the disk is full.
    """
    chosen = [part for part in PARTS if part in set(parts)]
    files = [(path, name) for part in chosen for path, name in _files(study, part)]
    if not files:
        raise ConfigError("There is nothing to export yet.", "Collect pairs first.")
    target = folder / f"golden-noise-{study.id}-{key_of(chosen, [name for _, name in files])[:6]}.zip"
    # Images and weights do not become smaller by packing.
    with writing(target), whole_file(target) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("README.md", write_card(study))
        for number, (path, name) in enumerate(files):
            archive.write(path, name)
            progress((number + 1) / len(files), f"{number + 1:,} of {len(files):,} files")
            check_cancelled()
    return target


def _files(study: Study, part: str) -> list[tuple[Path, str]]:
    """Files of a part and their names in the ZIP file."""
    if part == "network":
        curve = study.newest()
        return [(curve.network, "npnet.safetensors")] if curve is not None and curve.network is not None else []
    if part == "pairs":
        return _all(study.pairs, "pairs", "about.json", "shard-*")
    images = _all(study.folder, "images", "shown.jsonl") + _all(study.folder / "shown", "images/pairs", "*.png")
    for judgement in judgements(study):
        place = f"images/judged-{judgement.folder.name}"
        images += _all(judgement.folder, place, "*.json*") + _all(judgement.folder / "pictures", place, "*.png")
    return images


def _all(folder: Path, place: str, *patterns: str) -> list[tuple[Path, str]]:
    found = sorted(path for pattern in patterns for path in folder.glob(pattern))
    return [(path, f"{place}/{path.name}") for path in found if not path.name.endswith(PART)]
