"""Setting images aside for validation and testing, the same ones on every machine."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

SHARES: Mapping[str, float] = {"train": 0.5, "val": 0.2, "test": 0.3}
"""CoOp's shares for data sets without a published split."""
SHARES_WITHOUT_VAL: Mapping[str, float] = {"train": 0.7, "test": 0.3}
"""Where the source brings its own validation images."""


def assign_splits(
    labels: Sequence[str], keys: Sequence[str], shares: Mapping[str, float] = SHARES, seed: int = 0
) -> list[str]:
    """A split for every image: each class is divided by `shares`, and images with the same key stay together.

    Depends on labels and keys alone, not on the order of the images.

    Args:
        labels: class of each image.
        keys: what must not be torn apart: the group of an image, or its content hash.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for index, key in enumerate(keys):
        members[key].append(index)
    total, filled = Counter(labels), {split: Counter[str]() for split in shares}
    drawn = {key: hashlib.sha256(f"{seed}/{key}".encode("utf-8", "surrogatepass")).digest() for key in members}
    result = [""] * len(labels)
    # Large groups first: small ones even out what they leave.
    for key in sorted(members, key=lambda key: (-len(members[key]), drawn[key])):
        counts = Counter(labels[index] for index in members[key])
        wanting = {
            split: sum(
                # A class that nobody trains on cannot be learned: its first group goes to training.
                n * (share - filled[split][label] / total[label] + (split == "train" and not filled[split][label]))
                for label, n in sorted(counts.items())
            )
            for split, share in shares.items()
        }
        best = max(shares, key=lambda split: wanting[split])
        filled[best].update(counts)
        for index in members[key]:
            result[index] = best
    return result
