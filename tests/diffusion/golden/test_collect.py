"""Collecting pairs: what is kept, stopped and killed collections, NaN, full disks, damaged files, strange prompts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from engines.diffusion.golden import pairs as pairs_module
from engines.diffusion.golden.collect import Progress, collect, recipe
from engines.diffusion.golden.noise import draw_noise
from engines.diffusion.golden.pairs import PairStore
from engines.diffusion.golden.prompts import Trial, read_prompt_file, read_prompts, trials
from engines.diffusion.golden.redenoise import golden_noise
from engines.diffusion.golden.scorers.base import Scorer
from engines.diffusion.golden.scorers.scenes import SceneScore
from engines.diffusion.golden.settings import RedenoiseSettings
from engines.diffusion.model import TextToImage
from engines.errors import BackboneError, ConfigError, DataError
from tests.diffusion.tiny import Name, tiny_model
from tests.faults import full_disk

SETTINGS = RedenoiseSettings(steps=2, guidance=3.0)
PROMPTS = ["a red circle", "a blue star", "a 🐱 on grass"]
TRIALS = trials(PROMPTS, each=3)


class Redness(Scorer):
    """Share of red: something that a random model's images differ in."""

    name = "redness"

    def score(self, pixels: Tensor, prompts: Sequence[str]) -> Tensor:
        assert len(pixels) == len(prompts)
        assert 0 <= pixels.min() <= pixels.max() <= 1
        return pixels[:, 0].mean(dim=(1, 2))


@pytest.fixture(scope="module")
def model() -> TextToImage:
    return tiny_model()


def opened(folder: Path, model: TextToImage, settings: RedenoiseSettings = SETTINGS) -> PairStore:
    return PairStore(folder, recipe(model, Redness(), settings))


def everything(folder: Path, model: TextToImage, wanted: Sequence[Trial] = TRIALS, batch: int = 4) -> list[Progress]:
    with opened(folder, model) as store:
        return list(collect(model, Redness(), wanted, store, batch))


def contents(folder: Path) -> dict[tuple[str, int], tuple[float, Tensor]]:
    with PairStore(folder) as store:
        return {
            (pair.prompt, pair.seed): (pair.gain, store.arrays(number).golden)
            for number, pair in enumerate(store.pairs)
        }


@pytest.fixture(scope="module")
def whole(model: TextToImage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collection that nobody disturbs."""
    folder = tmp_path_factory.mktemp("pairs")
    everything(folder, model)
    return folder


def assert_same(folder: Path, whole: Path) -> None:
    found, expected = contents(folder), contents(whole)
    assert found.keys() == expected.keys()
    for key, (gain, golden) in found.items():
        assert gain == pytest.approx(expected[key][0], abs=1e-4)
        torch.testing.assert_close(golden, expected[key][1], atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("name", ["sd2", "sdxl"])
def test_every_layout(name: Name, tmp_path: Path) -> None:
    seen = everything(tmp_path, tiny_model(name), TRIALS[:2])
    assert [len(one.made) for one in seen] == [0, 2]
    assert seen[-1].made[0].pictures.shape == (2, 3, 32, 32)


def test_what_a_pair_is(model: TextToImage, whole: Path) -> None:
    with PairStore(whole) as store:
        assert {(pair.prompt, pair.seed) for pair in store.pairs} == {(one.prompt, one.seed) for one in TRIALS}
        assert len({one.seed for one in TRIALS}) == len(TRIALS)
        pair, arrays = store.pairs[5], store.arrays(5)
        noise = draw_noise(pair.seed, (1, 4, 16, 16))
        torch.testing.assert_close(arrays.noise, noise[0].half().float())
        with torch.no_grad():
            golden = golden_noise(model, noise, model.encode([pair.prompt]), model.unconditional(), SETTINGS)
        torch.testing.assert_close(arrays.golden, golden[0], atol=2e-3, rtol=2e-3)
        assert arrays.pictures.shape == (2, 3, 32, 32)
        reds = Redness().score(arrays.pictures / 255, ["", ""])
        assert reds.tolist() == pytest.approx([pair.original_score, pair.golden_score], abs=2e-3)
        assert pair.variant == "intended"
        better = [number for number, one in enumerate(store.pairs) if one.golden_score > one.original_score]
        assert store.selected() == better
        assert store.selected(None) == list(range(9))
        assert store.selected(10.0) == []


def test_progress_counts(model: TextToImage, tmp_path: Path) -> None:
    seen = everything(tmp_path, model)
    assert [(one.done, one.total, one.pairs) for one in seen] == [(0, 9, 0), (4, 9, 4), (8, 9, 8), (9, 9, 9)]
    gains = [made.pair.gain for one in seen for made in one.made]
    assert seen[-1].won == sum(gain > 0 for gain in gains)
    assert seen[-1].tied == 0


def test_nothing_is_made_twice(model: TextToImage, whole: Path) -> None:
    again = everything(whole, model, [*TRIALS, *TRIALS])
    assert [(one.done, one.total, one.made) for one in again] == [(9, 9, [])]
    assert again[0].won == sum(gain > 0 for gain, _ in contents(whole).values())


def test_stopped_and_resumed(model: TextToImage, whole: Path, tmp_path: Path) -> None:
    with opened(tmp_path, model) as store:
        for progress in collect(model, Redness(), TRIALS, store, batch=2):
            if progress.done == 4:
                break
    assert len(contents(tmp_path)) == 4
    resumed = everything(tmp_path, model)
    assert resumed[0].done == 4
    assert_same(tmp_path, whole)


KILLED = """
import sys, time
from pathlib import Path
from engines.diffusion.golden import files, pairs
pairs.SHARD_PAIRS = 2
whole = files.save_whole
def slow(path, content):
    # The second shard's arrays are half written when the kill comes.
    if path.name == "shard-00001.safetensors":
        path.with_name(path.name + ".part").write_bytes(content[: len(content) // 2])
        Path(sys.argv[1], "ready").touch()
        time.sleep(600)
    whole(path, content)
pairs.save_whole = slow
from tests.diffusion.golden.test_collect import everything, tiny_model
everything(Path(sys.argv[1]), tiny_model(), batch=1)
"""


def test_killed_and_resumed(model: TextToImage, whole: Path, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], env=environment)
    try:
        for _ in range(3000):
            if (tmp_path / "ready").exists():
                break
            assert process.poll() is None
            time.sleep(0.1)
        with pytest.raises(DataError, match="in use by another job"):
            opened(tmp_path, model)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert list(tmp_path.glob("*.part"))
    seen = everything(tmp_path, model)
    assert seen[0].done == 2
    assert "dropped" in seen[0].notes[0]
    assert not list(tmp_path.glob("*.part"))
    assert_same(tmp_path, whole)


def test_arrays_without_their_lines_are_dropped(model: TextToImage, tmp_path: Path) -> None:
    """Killed between the two files of a shard."""
    everything(tmp_path, model, TRIALS[:2])
    everything(tmp_path, model, TRIALS[:3])
    (tmp_path / "shard-00001.jsonl").unlink()
    with opened(tmp_path, model) as store:
        assert len(store) == 2
        assert "dropped" in store.notes[0]
    assert not (tmp_path / "shard-00001.safetensors").exists()


@pytest.mark.parametrize("suffix", [".safetensors", ".jsonl"])
def test_a_changed_byte_is_noticed(model: TextToImage, tmp_path: Path, suffix: str) -> None:
    everything(tmp_path, model, TRIALS[:2])
    file = tmp_path / f"shard-00000{suffix}"
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 1
    file.write_bytes(content)
    with opened(tmp_path, model) as store:
        assert len(store) == 0
        assert "checksum is wrong" in store.notes[0]
        assert (tmp_path / f"damaged-{file.name}").exists()
    assert everything(tmp_path, model, TRIALS[:2])[-1].pairs == 2


def test_a_full_disk_leaves_what_was_there(model: TextToImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs_module, "SHARD_PAIRS", 2)
    everything(tmp_path, model, TRIALS[:2])
    store = opened(tmp_path, model)
    with full_disk(), pytest.raises(DataError, match="disk is full"):
        list(collect(model, Redness(), TRIALS[:6], store, batch=2))
    assert len(store.pairs) == 2
    assert list(tmp_path.glob("*shard-00001*")) == []
    with full_disk(), pytest.raises(DataError, match="What was saved before is still there"):
        store.__exit__(None, None, None)
    assert len(contents(tmp_path)) == 2
    assert everything(tmp_path, model, TRIALS[:6])[-1].pairs == 6


def test_pairs_made_otherwise_are_not_mixed(model: TextToImage, whole: Path) -> None:
    with pytest.raises(ConfigError, match="variant was 'intended' and is 'slip' now"):
        opened(whole, model, SETTINGS.model_copy(update={"variant": "slip"}))
    with pytest.raises(ConfigError, match="model was"):
        opened(whole, tiny_model("sd1", seed=1))
    with PairStore(whole) as store, pytest.raises(ConfigError, match="judged by another scorer"):
        next(collect(model, SceneScore(), TRIALS, store))
    assert len(contents(whole)) == 9


def test_folders_that_are_no_store(model: TextToImage, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Collect pairs first"):
        PairStore(tmp_path / "none")
    (tmp_path / "about.json").write_text("{")
    with pytest.raises(DataError, match="damaged"):
        opened(tmp_path, model)
    (tmp_path / "about.json").write_text(json.dumps({"format": 2, "recipe": {}}))
    with pytest.raises(DataError, match="newer Promptloupe"):
        opened(tmp_path, model)
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written"):
        opened(tmp_path / "file", model)


@pytest.fixture
def breaking(model: TextToImage, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], bool]], None]:
    """Lets one image of a batch be NaN."""

    def break_(when: Callable[[], bool]) -> None:
        decode = model.decode

        def broken(latents: Tensor) -> Tensor:
            pixels = decode(latents)
            if when():
                pixels[0, 0, 0, 0] = torch.nan
            return pixels

        monkeypatch.setattr(model, "decode", broken)

    return break_


def test_nan_costs_one_pair(
    model: TextToImage, tmp_path: Path, whole: Path, breaking: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = iter([True])
    breaking(lambda: next(calls, False))
    seen = everything(tmp_path, model)
    assert seen[-1].pairs == 8
    assert seen[1].notes == [f"“a red circle”, seed {TRIALS[0].seed}: the model answered with NaN; left out."]
    monkeypatch.undo()
    everything(tmp_path, model)
    assert_same(tmp_path, whole)


def test_a_prompt_that_cannot_be_judged_is_said_first(model: TextToImage, tmp_path: Path) -> None:
    with PairStore(tmp_path, recipe(model, SceneScore(), SETTINGS)) as store:
        with pytest.raises(ConfigError, match="“a 🐱 on grass”"):
            next(collect(model, SceneScore(), TRIALS, store))
        assert len(store) == 0


def test_nothing_but_nan_ends_soon(model: TextToImage, tmp_path: Path, breaking: Any) -> None:
    breaking(lambda: True)
    with pytest.raises(BackboneError, match="NaN"):
        everything(tmp_path, model, trials(PROMPTS, each=30), batch=1)
    assert contents(tmp_path) == {}


def test_prompts(model: TextToImage) -> None:
    long = "word " * 2000
    found = read_prompts(f"a cat\n\n  a   cat \r\n\t\n{long}\na dog\x0bon grass\n\u2028\n", model)
    assert found.texts == ["a cat", long.strip(), "a dog on grass"]
    assert found.notes == [
        "Lines 2, 4 and 7 are empty and left out.",
        "Line 3 is repeated and left out.",
        "Line 5 is too long: the model reads only the first 75 tokens.",
    ]
    with pytest.raises(ConfigError, match="There is no prompt"):
        read_prompts(" \n\n", model)


def test_long_and_strange_prompts_are_collected(model: TextToImage, tmp_path: Path) -> None:
    strange = ["x" * 10_000, "ü\u2028\u0085{}\"'\\", "日本語"]
    everything(tmp_path, model, trials(strange))
    assert {prompt for prompt, _ in contents(tmp_path)} == set(strange)


def test_prompt_files(model: TextToImage, tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_bytes(b"\xef\xbb\xbfa cat\r\na dog")
    assert read_prompt_file(path, model).texts == ["a cat", "a dog"]
    path.write_bytes(b"caf\xe9")
    with pytest.raises(DataError, match="UTF-8"):
        read_prompt_file(path, model)
    with pytest.raises(DataError, match="cannot be read"):
        read_prompt_file(tmp_path / "none.txt", model)


def test_seeds_stay_when_prompts_are_added() -> None:
    few, many = trials(PROMPTS[:1], each=2, seed=5), trials(PROMPTS, each=3, seed=5)
    assert set(few) < set(many)
    assert [one.prompt for one in many] == PROMPTS * 3
    assert set(trials(PROMPTS, seed=6)).isdisjoint(many)
