"""Image features on disk: one row a sample, computed once for every (backbone, view).

A cache is a folder of four files:

    header.json   what the rows are: backbone, fingerprint of its weights, view, width
    rows.f32      float32 matrix, row after row
    ids.i64       the sample id of every row
    checks.u32    checksum of sample id and row where the row is finished, 0 where it is still to be computed

A row counts only if its checksum fits. That keeps the cache right after a kill at any moment, power loss, truncated or
damaged files, whatever order the operating system wrote things in: rows that suffered are computed again, no others.

Reading needs numpy only, so that light processes can do it; `feature_job` computes what is missing.
"""

from __future__ import annotations

import json
import re
import shutil
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from engines.errors import DataError

FORMAT = "promptloupe-features-1"
_SLICE = 4096  # rows looked at together, so that checking a large cache needs little memory


class FeatureCache:
    """Feature rows of one backbone and one view of the images.

    Args:
        folder: the workspace's folder for features.
        backbone_name: for people; part of the folder's name.
        fingerprint: of the backbone (`Backbone.fingerprint`).
        view: "centre" for the test transform, "aug-<k>-<seed>" for the k-th augmented view.
        dim: D, width of a row.
        rows: rows to make room for at once; the cache grows as needed.
    """

    def __init__(
        self, folder: Path | str, backbone_name: str, fingerprint: str, view: str, dim: int, rows: int = 0
    ) -> None:
        self.dim = dim
        self.folder = Path(folder) / f"{_slug(backbone_name)}-{fingerprint[:16]}" / _slug(view)
        self._header = {
            "format": FORMAT,
            "backbone": backbone_name,
            "fingerprint": fingerprint,
            "view": view,
            "dim": dim,
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        self._writing = FileLock(self.folder / "write.lock")
        self.building = FileLock(self.folder / "build.lock")  # held by whoever fills the cache
        self._index: dict[int, int] = {}
        self._index_state = (0, 0)
        if not self._is_sound():
            with self._writing:
                if not self._is_sound():
                    self._start_anew()
        if rows:
            with self._writing:
                self._make_room(rows)

    # -- reading -------------------------------------------------------------------------------------------------

    def read(self, sample_ids: Sequence[int]) -> NDArray[np.float32]:
        """Features [N, D] of N samples, in their order.

        Raises:
            DataError: some of them are not computed yet, or their rows are damaged.
        """
        features, finished = self._look(sample_ids)
        if not finished.all():
            raise DataError(
                f"The features of {int((~finished).sum()):,} of {len(finished):,} images are not computed yet.",
                "Compute them first; every training does so by itself.",
            )
        return features

    def missing(self, sample_ids: Sequence[int]) -> list[int]:
        """Those samples, in their order, whose features are not computed yet or damaged."""
        found: list[int] = []
        for i in range(0, len(sample_ids), _SLICE):
            part = sample_ids[i : i + _SLICE]
            found += [int(s) for s, done in zip(part, self._look(part)[1], strict=True) if not done]
        return found

    def __len__(self) -> int:
        """Number of rows written so far."""
        return int(np.count_nonzero(self._checks()))

    # -- writing -------------------------------------------------------------------------------------------------

    def write(self, sample_ids: Sequence[int], features: NDArray[np.float32]) -> None:
        """Store the rows [N, D] of N samples, known or new.

        Raises:
            DataError: the disk is full or not writable; rows written before stay good.
        """
        features = np.ascontiguousarray(features, np.float32)
        if features.shape != (len(sample_ids), self.dim):
            raise ValueError(f"{len(sample_ids)} rows of width {self.dim} expected, not {features.shape}")
        try:
            with self._writing:
                rows = self._rows_for(sample_ids)
                self._put("rows.f32", rows, list(features))
                self._put("checks.u32", rows, list(_checksums(sample_ids, features)))
        except OSError as error:
            raise DataError(
                f"The features cannot be written to '{self.folder}'.",
                "Make room on the disk and start the job again; it goes on where it stopped.",
                str(error),
            ) from error

    def delete(self) -> None:
        """Remove the cache from the disk."""
        shutil.rmtree(self.folder, ignore_errors=True)

    # -- files ---------------------------------------------------------------------------------------------------

    def _is_sound(self) -> bool:
        """Whether the header is there and this cache's own; everything else is guarded row by row."""
        try:
            sound = json.loads((self.folder / "header.json").read_text("utf-8")) == self._header
        except (OSError, ValueError):
            return False
        return sound and all((self.folder / name).is_file() for name in ("rows.f32", "ids.i64", "checks.u32"))

    def _start_anew(self) -> None:
        for name in ("ids.i64", "checks.u32", "rows.f32"):
            (self.folder / name).write_bytes(b"")
        draft = self.folder / "header.json.new"
        draft.write_text(json.dumps(self._header, indent=1), "utf-8")
        draft.replace(self.folder / "header.json")

    def _make_room(self, rows: int) -> None:
        for name, width in (("rows.f32", 4 * self.dim), ("checks.u32", 4)):
            path = self.folder / name
            if path.stat().st_size < rows * width:
                with path.open("r+b") as file:
                    file.truncate(rows * width)

    def _rows_for(self, sample_ids: Sequence[int]) -> list[int]:
        """Row numbers of samples; new samples get rows behind the last."""
        index = self._read_index()
        new = list(dict.fromkeys(int(s) for s in sample_ids if int(s) not in index))
        total = self._index_state[1] // 8 + len(new)
        self._make_room(total)
        if new:
            with (self.folder / "ids.i64").open("r+b") as file:
                file.seek(self._index_state[1])  # over the half id that a crash may have left
                file.write(np.array(new, np.int64).tobytes())
            index = self._read_index()
        return [index[int(s)] for s in sample_ids]

    def _put(self, name: str, rows: Sequence[int], values: Sequence[np.ndarray]) -> None:
        # Ordinary writes, not a memory map: on a full disk they fail with an error instead of ending the process.
        with (self.folder / name).open("r+b") as file:
            for row, value in zip(rows, values, strict=True):
                file.seek(row * value.nbytes)
                file.write(value.tobytes())

    def _read_index(self) -> dict[int, int]:
        """Row number by sample id; only what was appended since the last look is read."""
        path = self.folder / "ids.i64"
        born = (self.folder / "header.json").stat().st_mtime_ns
        size = path.stat().st_size // 8 * 8
        if self._index_state[0] != born or self._index_state[1] > size:
            self._index, self._index_state = {}, (born, 0)
        with path.open("rb") as file:
            file.seek(self._index_state[1])
            ids = np.frombuffer(file.read(size - self._index_state[1]), np.int64)
        first = self._index_state[1] // 8
        self._index.update((sample, row) for row, sample in enumerate(ids.tolist(), start=first))
        self._index_state = (born, size)
        return self._index

    def _look(self, sample_ids: Sequence[int]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Rows [N, D] of samples, and which of them are finished; the others hold zeros."""
        index, matrix, checks = self._read_index(), self._matrix(), self._checks()
        rows = np.array([index.get(int(s), -1) for s in sample_ids], np.int64)
        known = (rows >= 0) & (rows < min(len(matrix), len(checks)))
        features = np.zeros((len(rows), self.dim), np.float32)
        features[known] = matrix[rows[known]]
        finished = np.zeros(len(rows), bool)
        stored = np.asarray(checks[rows[known]])
        finished[known] = (stored != 0) & (stored == _checksums(np.asarray(sample_ids)[known], features[known]))
        return features, finished

    def _matrix(self) -> NDArray[np.float32]:
        return self._map("rows.f32", np.float32, 4 * self.dim, (self.dim,))

    def _checks(self) -> NDArray[np.uint32]:
        return self._map("checks.u32", np.uint32, 4, ())

    def _map(self, name: str, dtype: type, width: int, tail: tuple[int, ...]) -> np.ndarray:
        path = self.folder / name
        rows = path.stat().st_size // width
        if rows == 0:  # an empty file cannot be mapped
            return np.empty((0, *tail), dtype)
        return np.memmap(path, dtype, "r", shape=(rows, *tail))


def _checksums(sample_ids: Sequence[int] | np.ndarray, features: NDArray[np.float32]) -> NDArray[np.uint32]:
    """CRC-32 over sample id and row; 1 in the rare case that it is 0, which means unfinished."""
    ids = [int(s) & 0xFFFFFFFF for s in sample_ids]
    rows = np.ascontiguousarray(features)
    return np.array([zlib.crc32(row, s) or 1 for s, row in zip(ids, rows, strict=True)], np.uint32)


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.") or "unnamed"
