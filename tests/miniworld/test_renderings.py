"""Renderings: fixed by their seed, the same scene at every size, tell-apart classes, nothing left out slips in."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.miniworld import blood, fabric, phrases, scenes
from engines.miniworld.world import MIX, draw_batch

FAMILIES: list[Any] = [blood, fabric, scenes]


def draw(family: Any, count: int = 20, size: int = 64, seed: int = 3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return family.render([family.sample(rng) for _ in range(count)], size, seed)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("size", [64, 97, 224])
def test_renderings_are_pictures_with_contrast(family: Any, size: int) -> None:
    pictures = draw(family, 3, size)
    assert pictures.shape == (3, size, size, 3)
    assert pictures.dtype == np.uint8
    assert all(picture.std() > 5 for picture in pictures)


@pytest.mark.parametrize("family", FAMILIES)
def test_no_pictures_are_drawn_for_no_specs(family: Any) -> None:
    assert family.render([], 64, 0).shape == (0, 64, 64, 3)


@pytest.mark.parametrize("family", FAMILIES)
def test_seed_decides_the_picture(family: Any) -> None:
    specs = [family.sample(np.random.default_rng(5)) for _ in range(2)]
    first = family.render(specs, 64, 1)
    assert np.array_equal(first, family.render(specs, 64, 1))
    assert not np.array_equal(first, family.render(specs, 64, 2))
    assert not np.array_equal(first[0], first[1]), "equal specs are drawn with different detail"


@pytest.mark.parametrize("family", FAMILIES)
def test_same_scene_at_every_size(family: Any) -> None:
    small = draw(family, 20, 64).astype(float)
    large = draw(family, 20, 128).astype(float).reshape(20, 64, 2, 64, 2, 3).mean(axis=(2, 4))
    same = np.abs(small - large).mean(axis=(1, 2, 3))
    other = np.abs(small - np.roll(large, 1, axis=0)).mean(axis=(1, 2, 3))
    assert np.median(same) < 6
    assert np.median(other) > 3 * np.median(same)


def test_another_process_draws_the_same_batch() -> None:
    code = (
        "import hashlib; from engines.miniworld.world import draw_batch; b = draw_batch(4, 9, 40, 64);"
        "print(hashlib.sha256(b.pixels.tobytes() + repr(b.captions).encode() + b.text_of.tobytes()).hexdigest())"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    here = draw_batch(4, 9, 40, 64)
    whole = here.pixels.tobytes() + repr(here.captions).encode() + here.text_of.tobytes()
    assert hashlib.sha256(whole).hexdigest() == there


def test_renderers_and_samples_need_no_torch() -> None:
    code = "import sys; import engines.miniworld.samples, engines.miniworld.world; print('torch' in sys.modules)"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "False"


def test_batches_differ_by_step_and_hold_every_family() -> None:
    first, second = draw_batch(0, 0, 64, 64), draw_batch(0, 1, 64, 64)
    assert not np.array_equal(first.pixels, second.pixels)
    assert len(first.text_of) == 64
    assert first.text_of.max() == len(first.captions) - 1
    assert len(set(first.captions)) == len(first.captions)
    assert set(MIX) == {"blood", "fabric", "scenes"}


def grey_features(pictures: np.ndarray) -> np.ndarray:
    """Coarse colours and the spectrum's size, blind to position: a cheap look at a picture."""
    planes = pictures.astype(float) / 255
    centre = planes[:, 16:48, 16:48]
    histogram = np.stack(
        [np.stack([np.histogram(c, 10, (0, 1))[0] for c in np.moveaxis(p, 2, 0)]).ravel() for p in centre]
    )
    spectrum = np.abs(np.fft.rfft2(planes.mean(axis=3) - planes.mean(axis=(1, 2, 3))[:, None, None]))[:, :12, :12]
    rings = np.log1p(np.concatenate([spectrum[:, i, : i + 1] for i in range(12)], axis=1))
    return np.concatenate([np.sqrt(histogram), rings], axis=1)


@pytest.mark.parametrize(("family", "kinds"), [(blood, list(blood.CELLS)), (scenes, scenes.PAIRS[:16])])
def test_classes_can_be_told_apart_cheaply(family: Any, kinds: list[Any]) -> None:
    from sklearn.linear_model import LogisticRegression

    rng, each = np.random.default_rng(0), 30
    specs = [family.sample(rng, kind) for kind in kinds for _ in range(each)]
    labels = np.repeat(np.arange(len(kinds)), each)
    features = grey_features(family.render(specs, 64, 0))
    features = (features - features.mean(0)) / (features.std(0) + 1e-6)
    training = np.arange(len(labels)) % each < 20
    probe = LogisticRegression(max_iter=300).fit(features[training], labels[training])
    confusion = np.zeros((len(kinds), len(kinds)))
    np.add.at(confusion, (labels[~training], probe.predict(features[~training])), 0.1)
    assert confusion.diagonal().mean() > 4 / len(kinds)
    assert (confusion.diagonal() > 1 / len(kinds)).mean() > 0.85, "nearly every single class stands out"


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32))
def test_left_out_names_are_never_spoken(seed: int) -> None:
    rng = np.random.default_rng(seed)
    captions = [blood.caption(blood.sample(rng, name), rng) for name in blood.CELLS]
    captions += [blood.caption(blood.sample_free(rng), rng) for _ in range(4)]
    for name in blood.UNNAMED:
        assert not any(name in caption.lower() for caption in captions)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32))
def test_left_out_pairs_are_never_drawn_for_training(seed: int) -> None:
    rng = np.random.default_rng(seed)
    things = [thing for _ in range(20) for thing in scenes.sample(rng).things]
    assert not {(thing.colour, thing.shape) for thing in things} & scenes.LEFT_OUT
    cloths = [fabric.sample(rng) for _ in range(20)]
    assert not {(cloth.pattern, cloth.defect) for cloth in cloths} & fabric.LEFT_OUT


def test_left_out_pairs_and_names_exist() -> None:
    assert len(scenes.LEFT_OUT) == 10
    assert set(scenes.PAIRS) >= scenes.LEFT_OUT
    assert set(fabric.PAIRS) >= fabric.LEFT_OUT
    assert set(blood.UNNAMED) < set(blood.CELLS)
    assert len(blood.CELLS) >= 12


def test_named_classes_are_spoken_and_captions_vary() -> None:
    rng = np.random.default_rng(0)
    captions = [blood.caption(blood.sample(rng, "eosinophil"), rng) for _ in range(200)]
    assert "a photo of a eosinophil." in captions
    assert len(set(captions)) > 40
    assert any("orange granules" in caption and "eosinophil" not in caption for caption in captions)


def test_relations_in_captions_are_true() -> None:
    rng = np.random.default_rng(1)
    red, blue = scenes.Thing("red", "circle", "large"), scenes.Thing("blue", "square", "large")
    spec = scenes.SceneSpec((red, blue), "to the left of", "white")
    captions = {scenes.caption(spec, rng) for _ in range(300)}
    assert any("circle to the left of a" in caption for caption in captions)
    assert any("square to the right of a" in caption for caption in captions)
    assert not any("circle to the right" in caption or "square to the left" in caption for caption in captions)
    picture = scenes.render([spec], 64, 0)[0].astype(float)
    columns = np.arange(64)
    redness = np.clip(picture[..., 0] - picture[..., 2] - 60, 0, None).sum(0)
    blueness = np.clip(picture[..., 2] - picture[..., 0] - 60, 0, None).sum(0)
    assert (redness @ columns) / redness.sum() < (blueness @ columns) / blueness.sum()


def test_phrases() -> None:
    assert phrases.with_article("eosinophil") == "an eosinophil"
    assert phrases.enumerate_words(["a", "b", "c"]) == "a, b and c"
    assert len(phrases.SELECTED) == 7
