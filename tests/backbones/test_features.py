"""The feature cache under faults, and the job that fills it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from engines.backbones import Backbone, FeatureCache, build_features
from engines.errors import Cancelled, DataError
from tests.backbones.conftest import Fails

DIM = 8


def cache(folder: Path, view: str = "centre", fingerprint: str = "f" * 64, dim: int = DIM) -> FeatureCache:
    return FeatureCache(folder, "org/tiny model", fingerprint, view, dim)


def rows(*ids: int, dim: int = DIM) -> np.ndarray:
    """What every sample's row should hold."""
    return np.array([[i + j / 16 for j in range(dim)] for i in ids], np.float32).reshape(-1, dim)


class TestCache:
    def test_rows_come_back_in_the_order_asked_for(self, tmp_path: Path) -> None:
        one = cache(tmp_path)
        one.write([7, 3, 2**40], rows(7, 3, 2**40))
        one.write([5], rows(5))
        again = cache(tmp_path)
        np.testing.assert_array_equal(again.read([2**40, 5, 7, 7, 3]), rows(2**40, 5, 7, 7, 3))
        assert again.read([]).shape == (0, DIM)
        assert len(again) == 4

    def test_rows_can_be_renewed(self, tmp_path: Path) -> None:
        one = cache(tmp_path)
        one.write([1, 2, 3], rows(1, 2, 3))
        one.write([2, 4], rows(20, 4))
        np.testing.assert_array_equal(one.read([1, 2, 3, 4]), rows(1, 20, 3, 4))

    def test_missing_rows_are_told_in_order(self, tmp_path: Path, fails: Fails) -> None:
        one = FeatureCache(tmp_path, "tiny", "f", "centre", DIM, rows=100)
        one.write([4, 6], rows(4, 6))
        assert one.missing([6, 9, 4, 1]) == [9, 1]
        assert "2 of 4 images" in fails(one.read, [6, 9, 4, 1])

    def test_backbone_weights_and_view_are_kept_apart(self, tmp_path: Path) -> None:
        cache(tmp_path).write([1], rows(1))
        for other in (cache(tmp_path, "aug-0-1"), cache(tmp_path, fingerprint="e" * 64)):
            assert other.missing([1]) == [1]
            assert other.folder != cache(tmp_path).folder
        assert cache(tmp_path).missing([1]) == []

    def test_same_key_but_another_width_starts_anew(self, tmp_path: Path) -> None:
        cache(tmp_path).write([1], rows(1))
        wider = cache(tmp_path, dim=DIM + 1)
        assert wider.missing([1]) == [1]
        wider.write([1], rows(1, dim=DIM + 1))
        np.testing.assert_array_equal(wider.read([1]), rows(1, dim=DIM + 1))

    def test_names_stay_inside_the_folder(self, tmp_path: Path) -> None:
        one = FeatureCache(tmp_path / "inside", "../../evil name", "f", "../..", DIM)
        assert (tmp_path / "inside") in one.folder.parents

    def test_delete(self, tmp_path: Path) -> None:
        one = cache(tmp_path)
        one.write([1], rows(1))
        one.delete()
        assert cache(tmp_path).missing([1]) == [1]

    def test_readers_need_no_torch(self, tmp_path: Path) -> None:
        cache(tmp_path).write([1], rows(1))
        code = (
            "import sys; from engines.backbones import FeatureCache, list_backbones\n"
            f"one = FeatureCache({str(tmp_path)!r}, 'org/tiny model', 'f' * 64, 'centre', {DIM})\n"
            "assert one.read([1])[0, 0] == 1\n"
            "assert list_backbones()\n"
            "assert not {'torch', 'open_clip', 'transformers'} & set(sys.modules)"
        )
        subprocess.run([sys.executable, "-c", code], check=True)


def _cut(name: str, size: int) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        with (folder / name).open("r+b") as file:
            file.truncate(size)

    return damage


def _spoil(name: str, offset: int, data: bytes = b"\xff\x01") -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        with (folder / name).open("r+b") as file:
            file.seek(offset)
            file.write(data)

    return damage


DAMAGE: dict[str, tuple[Callable[[Path], None], list[int]]] = {
    "matrix cut in a row": (_cut("rows.f32", 3 * 4 * DIM + 5), [4, 5]),
    "matrix emptied": (_cut("rows.f32", 0), [1, 2, 3, 4, 5]),
    "matrix gone": (lambda folder: (folder / "rows.f32").unlink(), [1, 2, 3, 4, 5]),
    "a byte of a row": (_spoil("rows.f32", 4 * DIM + 3), [2]),
    "checksums cut": (_cut("checks.u32", 6), [2, 3, 4, 5]),
    "checksums gone": (lambda folder: (folder / "checks.u32").unlink(), [1, 2, 3, 4, 5]),
    "a checksum": (_spoil("checks.u32", 8), [3]),
    "ids cut in an id": (_cut("ids.i64", 3 * 8 + 5), [4, 5]),
    "ids gone": (lambda folder: (folder / "ids.i64").unlink(), [1, 2, 3, 4, 5]),
    "two ids exchanged": (_spoil("ids.i64", 0, np.array([2, 1], np.int64).tobytes()), [1, 2]),
    "header cut": (_cut("header.json", 10), [1, 2, 3, 4, 5]),
    "header gone": (lambda folder: (folder / "header.json").unlink(), [1, 2, 3, 4, 5]),
    "header of another program": (lambda folder: (folder / "header.json").write_text("[]"), [1, 2, 3, 4, 5]),
    "nothing": (lambda folder: None, []),
}


@pytest.mark.parametrize(("damage", "lost"), DAMAGE.values(), ids=DAMAGE.keys())
def test_damage_costs_the_rows_that_suffered_and_no_others(
    tmp_path: Path, damage: Callable[[Path], None], lost: list[int]
) -> None:
    ids = [1, 2, 3, 4, 5]
    one = cache(tmp_path)
    one.write(ids, rows(*ids))
    damage(one.folder)
    mended = cache(tmp_path)
    assert mended.missing(ids) == lost
    kept = [i for i in ids if i not in lost]
    np.testing.assert_array_equal(mended.read(kept), rows(*kept))
    mended.write(lost, rows(*lost))
    np.testing.assert_array_equal(cache(tmp_path).read(ids), rows(*ids))


def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: Fails) -> None:
    one = cache(tmp_path)
    one.write([1], rows(1))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(one, "_put", full)
    assert "Make room on the disk" in fails(one.write, [2], rows(2))
    assert cache(tmp_path).missing([1, 2]) == [2]


class TestJob:
    def pixels(self, sample: int) -> Tensor:
        return torch.full((3, 32, 32), sample / 100)

    def open(self, tiny: Backbone, folder: Path) -> FeatureCache:
        return FeatureCache(folder, tiny.name, tiny.fingerprint, "centre", tiny.embed_dim)

    def test_rows_are_the_backbones_features(self, tiny: Backbone, tmp_path: Path) -> None:
        one, ids, told = self.open(tiny, tmp_path), [9, 2, 5, 7, 1], []
        report = build_features(
            one, ids, self.pixels, tiny, 2, lambda fraction, message: told.append((fraction, message))
        )
        assert (report.computed, report.reused, report.failed) == (5, 0, {})
        expected = tiny.encode_image(torch.stack([self.pixels(i) for i in ids]))
        torch.testing.assert_close(torch.from_numpy(one.read(ids)), expected, rtol=1e-5, atol=1e-5)
        assert told[-1] == (1.0, "Features of 5 of 5 images.")
        assert [fraction for fraction, _ in told] == sorted(fraction for fraction, _ in told)

    def test_nothing_is_computed_twice(self, tiny: Backbone, tmp_path: Path) -> None:
        one = self.open(tiny, tmp_path)
        build_features(one, [1, 2, 3], self.pixels, tiny)
        seen: list[int] = []

        def load(sample: int) -> Tensor:
            seen.append(sample)
            return self.pixels(sample)

        report = build_features(self.open(tiny, tmp_path), [3, 4, 1, 5, 4], load, tiny)
        assert sorted(seen) == [4, 5]
        assert report.computed == 2
        again = build_features(one, [1, 2, 3, 4, 5], load, tiny)
        assert (again.computed, again.reused, len(seen)) == (0, 5, 2)

    def test_images_that_fail_are_left_out_and_named(self, tiny: Backbone, tmp_path: Path) -> None:
        def load(sample: int) -> Tensor:
            if sample == 2:
                raise DataError("The image is cut off.", "Import it again.")
            if sample == 4:
                raise ValueError("bad header")
            return self.pixels(sample)

        one = self.open(tiny, tmp_path)
        report = build_features(one, [1, 2, 3, 4], load, tiny, 3)
        assert report.failed == {2: "The image is cut off.", 4: "ValueError: bad header"}
        assert one.missing([1, 2, 3, 4]) == [2, 4]

    def test_cancel_keeps_what_is_done(self, tiny: Backbone, tmp_path: Path) -> None:
        calls = []

        def check() -> None:
            calls.append(1)
            if len(calls) == 3:
                raise Cancelled

        one = self.open(tiny, tmp_path)
        with pytest.raises(Cancelled):
            build_features(one, list(range(10)), self.pixels, tiny, 2, check_cancelled=check)
        assert one.missing(list(range(10))) == [4, 5, 6, 7, 8, 9]
        assert build_features(one, list(range(10)), self.pixels, tiny, 2).computed == 6

    @pytest.mark.parametrize(
        "error",
        [torch.OutOfMemoryError("CUDA out of memory"), MemoryError(), RuntimeError("can't allocate memory: 1 B")],
    )
    def test_batch_is_halved_until_it_fits(
        self, tiny: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
    ) -> None:
        encode = tiny.encode_image

        def narrow(pixels: Tensor) -> Tensor:
            if len(pixels) > 2:
                raise error
            return encode(pixels)

        monkeypatch.setattr(tiny, "encode_image", narrow)
        told: list[str] = []
        one = self.open(tiny, tmp_path)
        build_features(one, list(range(12)), self.pixels, tiny, 8, lambda _, message: told.append(message))
        assert one.missing(list(range(12))) == []
        assert "Memory ran out, so 2 images go at a time." in told[0]

    def test_not_even_one_image_fits(
        self, tiny: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: Fails
    ) -> None:
        def full(_: Tensor) -> Tensor:
            raise MemoryError

        monkeypatch.setattr(tiny, "encode_image", full)
        assert "smaller backbone" in fails(build_features, self.open(tiny, tmp_path), [1], self.pixels, tiny)

    def test_other_errors_are_not_taken_for_full_memory(
        self, tiny: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(_: Tensor) -> Tensor:
            raise RuntimeError("shapes differ")

        monkeypatch.setattr(tiny, "encode_image", broken)
        with pytest.raises(RuntimeError, match="shapes differ"):
            build_features(self.open(tiny, tmp_path), [1], self.pixels, tiny)

    def test_readers_and_a_second_builder_while_one_builds(self, tiny: Backbone, tmp_path: Path) -> None:
        ids, seen = list(range(30)), []
        started = threading.Event()

        def slowly(sample: int) -> Tensor:
            seen.append(sample)
            if len(seen) > 8:
                started.set()
            time.sleep(0.01)
            return self.pixels(sample)

        threads = [
            threading.Thread(target=build_features, args=(self.open(tiny, tmp_path), ids, slowly, tiny, 4))
            for _ in "ab"
        ]
        for thread in threads:
            thread.start()
        assert started.wait(30)
        reader = self.open(tiny, tmp_path)
        while any(thread.is_alive() for thread in threads):
            done = sorted(set(ids) - set(reader.missing(ids)))
            assert reader.read(done).shape == (len(done), tiny.embed_dim)
        assert sorted(seen) == ids
        assert reader.missing(ids) == []


CHILD = """
import sys, time, torch
from engines.backbones import Backbone, FeatureCache, build_features
from tests.parity import parity_weights
tiny = Backbone.from_state_dict(parity_weights.tiny_clip_state_dict())
cache = FeatureCache(sys.argv[1], tiny.name, tiny.fingerprint, "centre", tiny.embed_dim)
def load(sample):
    time.sleep(0.01)
    return torch.full((3, 32, 32), sample / 100)
build_features(cache, list(range(1000)), load, tiny, 4, lambda fraction, message: print(message, flush=True))
"""


def test_a_killed_job_goes_on_where_it_stopped(tiny: Backbone, tmp_path: Path) -> None:
    root = str(Path(__file__).parents[2])
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": root, "OMP_NUM_THREADS": "1"},
        cwd=root,
    )
    assert child.stdout is not None
    for _ in range(5):
        assert child.stdout.readline().startswith("Features of")
    child.send_signal(signal.SIGKILL)
    child.wait()
    one = FeatureCache(tmp_path, tiny.name, tiny.fingerprint, "centre", tiny.embed_dim)
    ids = list(range(1000))
    left = one.missing(ids)
    assert 0 < len(left) <= 980
    report = build_features(one, ids[:200], lambda i: torch.full((3, 32, 32), i / 100), tiny)
    assert report.reused >= 20
    expected = tiny.encode_image(torch.stack([torch.full((3, 32, 32), i / 100) for i in ids[:200]]))
    torch.testing.assert_close(torch.from_numpy(one.read(ids[:200])), expected, rtol=1e-5, atol=1e-5)
