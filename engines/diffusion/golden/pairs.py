"""Pairs of noise and golden noise, stored as shards with checksums.

A store is a folder: `about.json` (how all pairs were made), and for every shard `shard-00000.safetensors` (arrays) and
`shard-00000.jsonl` (a line per pair, and a last line with the checksums of both files). A shard counts once its second
file is there, so whatever was being written when the program was killed is not taken for a shard.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from filelock import FileLock, Timeout
from safetensors.torch import safe_open, save
from torch import Tensor

from engines.diffusion.golden.files import save_whole
from engines.errors import ConfigError, DataError
from engines.files import PART

ABOUT = "about.json"
FORMAT = 1
SHARD_PAIRS = 64
SHARD_SECONDS = 60.0
"""After which a shard is written even if it is small: at most so much work is lost."""


@dataclass(frozen=True, slots=True)
class Pair:
    """What is known of a pair besides its arrays."""

    prompt: str
    seed: int
    original_score: float
    golden_score: float
    """Of the images of both noises, by the scorer of the store."""
    variant: str
    diffusers: str
    """Version of the library: what its schedulers mean has changed."""

    @property
    def gain(self) -> float:
        return self.golden_score - self.original_score


@dataclass(frozen=True, slots=True)
class PairArrays:
    """The arrays of a pair."""

    noise: Tensor
    """[C, h, w]"""
    golden: Tensor
    """[C, h, w]"""
    pictures: Tensor
    """uint8 [2, 3, H, W]: the images of both, small."""


class PairStore:
    """Opens a folder for reading and adding; only one at a time may have it open.

    Use as a context manager, which writes what is not yet on the disk at its end.

    Args:
        folder: made where it is missing.
        recipe: how pairs are made; all pairs of a store are made alike. None: only read what is there.
    Raises:
        ConfigError: the pairs there were made otherwise.
        DataError: no store there, or it is open elsewhere, damaged, or its folder cannot be written.
    """

    def __init__(self, folder: Path, recipe: dict[str, Any] | None = None) -> None:
        self.folder = folder
        self.notes: list[str] = []
        """What was found wrong on opening, in sentences."""
        self.pairs: list[Pair] = []
        self._places: list[tuple[Path, int]] = []
        self._waiting: list[tuple[Pair, PairArrays]] = []
        self._since = time.monotonic()
        if recipe is None and not (folder / ABOUT).is_file():
            raise DataError(f"“{folder.name}” holds no pairs of noise.", "Collect pairs first.")
        self._lock = _locked(folder)
        try:
            self.recipe: dict[str, Any] = self._agree(recipe)
            self._read_shards()
        except BaseException:
            self._lock.release()
            raise
        self._known = {(pair.prompt, pair.seed) for pair in self.pairs}

    def __enter__(self) -> PairStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.flush()
        finally:
            self._lock.release()

    def __len__(self) -> int:
        """Pairs, those not yet on the disk included."""
        return len(self._known)

    def __contains__(self, key: tuple[str, int]) -> bool:
        """Whether a (prompt, seed) is there."""
        return key in self._known

    def add(self, pair: Pair, arrays: PairArrays) -> None:
        """Adds a pair, unless its prompt and seed are there; written with others, at the latest after a minute.

        Raises:
            DataError: the disk is full. Pairs wait in memory, and those on the disk stay.
        """
        if (pair.prompt, pair.seed) in self._known:
            return
        if not self._waiting:
            self._since = time.monotonic()
        self._known.add((pair.prompt, pair.seed))
        self._waiting.append((pair, arrays))
        if len(self._waiting) >= SHARD_PAIRS or time.monotonic() - self._since > SHARD_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Writes what waits.

        Raises:
            DataError: the disk is full. Pairs wait in memory, and those on the disk stay.
        """
        if not self._waiting:
            return
        taken = [int(path.stem.removeprefix("shard-")) for path in self.folder.glob("shard-*.safetensors")]
        shard = self.folder / f"shard-{max(taken, default=-1) + 1:05d}.safetensors"
        stacked = {
            "noise": torch.stack([arrays.noise for _, arrays in self._waiting]).half(),
            "golden": torch.stack([arrays.golden for _, arrays in self._waiting]).half(),
            "pictures": torch.stack([arrays.pictures for _, arrays in self._waiting]),
        }
        content = save({name: value.cpu().contiguous() for name, value in stacked.items()})
        lines = "".join(json.dumps(asdict(pair)) + "\n" for pair, _ in self._waiting)
        sums = {"arrays_sha256": _sum(content), "lines_sha256": _sum(lines.encode())}
        try:
            save_whole(shard, content)
            save_whole(shard.with_suffix(".jsonl"), (lines + json.dumps(sums) + "\n").encode())
        except DataError:
            shard.unlink(missing_ok=True)
            raise
        self.pairs += [pair for pair, _ in self._waiting]
        self._places += [(shard, row) for row in range(len(self._waiting))]
        self._waiting = []

    def arrays(self, number: int) -> PairArrays:
        """The arrays of pair `number` of `pairs`, as float32; read from the disk."""
        shard, row = self._places[number]
        with safe_open(shard, framework="pt") as file:
            found = {name: file.get_slice(name)[row] for name in ("noise", "golden", "pictures")}
        return PairArrays(found["noise"].float(), found["golden"].float(), found["pictures"])

    def selected(self, margin: float | None = 0.0) -> list[int]:
        """Numbers of the pairs whose golden image scores higher by more than `margin`; None: of all pairs."""
        return [number for number, pair in enumerate(self.pairs) if margin is None or pair.gain > margin]

    def _agree(self, recipe: dict[str, Any] | None) -> dict[str, Any]:
        """The recipe of the store, written if it is new."""
        path = self.folder / ABOUT
        if not path.is_file():
            assert recipe is not None
            save_whole(path, json.dumps({"format": FORMAT, "recipe": recipe}, indent=1).encode())
            return recipe
        try:
            about = json.loads(path.read_text("utf-8"))
            found, version = dict(about["recipe"]), int(about["format"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"“{path.name}” of the pairs in “{self.folder.name}” is damaged.",
                "Collect into another folder.",
                str(error),
            ) from error
        if version > FORMAT:
            raise DataError("These pairs were collected by a newer Promptloupe.", "Update Promptloupe.")
        if recipe is not None and (wrong := _differences(found, recipe)):
            raise ConfigError(
                f"The pairs in “{self.folder.name}” were made otherwise: {wrong}.",
                "Go on with the same settings, or collect into another folder; different pairs must not be mixed.",
            )
        return found

    def _read_shards(self) -> None:
        torn = list(self.folder.glob(f"*{PART}"))
        torn += [path for path in self.folder.glob("shard-*.safetensors") if not path.with_suffix(".jsonl").exists()]
        for path in torn:
            path.unlink()
        if torn:
            self.notes.append(
                "The last pairs were not written completely, because the program was stopped. They were dropped and "
                "will be made again."
            )
        for lines in sorted(self.folder.glob("shard-*.jsonl")):
            shard = lines.with_suffix(".safetensors")
            pairs = _read_shard(shard, lines)
            if pairs is None:
                for path in (shard, lines):
                    if path.exists():
                        path.replace(path.with_name(f"damaged-{path.name}"))
                self.notes.append(
                    f"“{shard.name}” is damaged: its checksum is wrong. Its pairs are left out and will be made again; "
                    "its files were renamed to “damaged-…”."
                )
                continue
            self.pairs += pairs
            self._places += [(shard, row) for row in range(len(pairs))]


def _read_shard(shard: Path, lines: Path) -> list[Pair] | None:
    """The pairs of a shard; None where anything is damaged."""
    try:
        *rows, sums = lines.read_text("utf-8").splitlines(keepends=True)
        expected = json.loads(sums)
        with shard.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != expected["arrays_sha256"] or _sum("".join(rows).encode()) != expected["lines_sha256"]:
            return None
        return [Pair(**json.loads(row)) for row in rows]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _locked(folder: Path) -> FileLock:
    lock = FileLock(folder / "lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise DataError(
            f"The pairs in “{folder.name}” are in use by another job.", "Wait until it has ended, or cancel it."
        ) from error
    except OSError as error:
        raise DataError(
            f"The folder “{folder.name}” cannot be written.", "Choose another folder.", str(error)
        ) from error
    return lock


def _differences(found: dict[str, Any], wanted: dict[str, Any]) -> str:
    names = sorted(name for name in {*found, *wanted} if found.get(name) != wanted.get(name))
    return ", ".join(f"{name} was {found.get(name)!r} and is {wanted.get(name)!r} now" for name in names)


def _sum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
