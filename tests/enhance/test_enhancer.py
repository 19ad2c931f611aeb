"""Enhancing photos: checkpoints, any size without changing the result, strength, and the methods beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from engines.enhance import ClipLitEnhancer, load_enhancer
from engines.enhance.baselines import BASELINES
from engines.enhance.baselines.zero_dce import ZeroDCE, bent, load_zero_dce, save_zero_dce, train_zero_dce
from engines.enhance.checkpoint import network_of
from engines.enhance.enhancer import DARKEST, enhance_with, enlarge
from engines.enhance.metrics import appearance, lightness_order_error, noise_sigma, psnr, ssim
from engines.enhance.network import LightMapNet
from engines.errors import BackboneError, ConfigError
from tests.parity import parity_weights


def filled() -> LightMapNet:
    network = LightMapNet()
    parity_weights.fill_(network)
    with torch.no_grad():
        network.cond_add1.bias.fill_(0.6)
    return network


ENHANCER = ClipLitEnhancer(filled())


def scene(height: int, width: int) -> np.ndarray:
    """A dark disc before a bright sky."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    disc = np.hypot(y / height - 0.6, x / width - 0.5) < 0.25
    sky = np.stack([0.95 - 0.4 * y / height, 0.9 - 0.3 * y / height, 0.95 - 0.2 * y / height], axis=2)
    ground = np.float32(0.08) + 0.04 * np.sin(x / 3)[..., None] * np.array([1, 0.8, 0.6], np.float32)
    return np.where(disc[..., None], ground, sky).astype(np.float32)


# --- checkpoints ------------------------------------------------------------------


def test_public_layout(tmp_path: Path) -> None:
    """30 tensors, `module.` in front where it was trained on several GPUs; both give the same light map."""
    state = {name: value.clone() for name, value in filled().state_dict().items()}
    assert len(state) == 30
    assert sum(value.numel() for value in state.values()) == 278_790
    torch.save({f"module.{name}": value for name, value in state.items()}, tmp_path / "public.pth")
    torch.save(state, tmp_path / "plain.pth")
    save_file(state, tmp_path / "ours.safetensors")
    expected = ENHANCER.light_map(scene(20, 30))
    for name in ("public.pth", "plain.pth", "ours.safetensors"):
        assert np.array_equal(load_enhancer(tmp_path / name).light_map(scene(20, 30)), expected)
    zeros = load_enhancer(tmp_path / "public.pth", padding="zeros").light_map(scene(20, 30))
    assert not np.allclose(zeros, expected)


def test_other_files_are_refused(tmp_path: Path) -> None:
    state = dict(filled().state_dict())
    broken = {
        "missing": ({k: v for k, v in state.items() if k != "condx.bias"}, "“condx.bias” is missing"),
        "foreign": (state | {"embedding_prompt": torch.zeros(1)}, "“embedding_prompt” does not belong"),
        "shape": (state | {"cond1.bias": torch.zeros(31)}, "has the shape"),
        "numbers": (state | {"cond1.bias": torch.full((32,), torch.nan)}, "no numbers"),
    }
    for name, (tensors, reason) in broken.items():
        torch.save(tensors, tmp_path / f"{name}.pth")
        with pytest.raises(BackboneError, match=reason):
            load_enhancer(tmp_path / f"{name}.pth")
    torch.save({"epoch": 3}, tmp_path / "other.pth")
    torch.save(state, tmp_path / "cut.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "cut.pth").read_bytes()[:5000])
    torch.save(LightMapNet(), tmp_path / "code.pth")  # a whole module: loading it would run code
    for name in ("text.pth", "text.safetensors"):
        (tmp_path / name).write_text("no weights")
    for name in ("other.pth", "cut.pth", "code.pth", "text.pth", "text.safetensors", "none.pth"):
        with pytest.raises(BackboneError, match=r"no plain list|cannot be read|no file"):
            load_enhancer(tmp_path / name)
    assert network_of(state).training is False


# --- any size ---------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(height=st.integers(2, 150), width=st.integers(2, 24), at_once=st.integers(1, 3000))
def test_strips_change_nothing(height: int, width: int, at_once: int) -> None:
    pixels = torch.from_numpy(parity_weights.noise("strips", (1, 3, height, width))).abs().clamp(max=1)
    with torch.no_grad():
        whole = ENHANCER.network(pixels)
    strips: list[Tensor] = []
    for top, strip in ENHANCER.network.in_strips(pixels, at_once):
        assert top == sum(s.shape[-2] for s in strips)
        strips.append(strip)
    assert torch.allclose(torch.cat(strips, -2), whole, atol=2e-5)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (2, 2), (3, 200)])
@pytest.mark.parametrize("side", [None, 2, 16])
def test_smallest_photos(size: tuple[int, int], side: int | None) -> None:
    result = ENHANCER.enhance(scene(*size), side=side)
    assert result.shape == (*size, 3)
    assert np.isfinite(result).all()


def test_reduced_light_map_follows_edges() -> None:
    """Enlarged along the photo's edges it is nearer to the map of the whole than a plain enlargement."""
    from skimage.transform import resize

    pixels = scene(160, 200)
    small = resize(pixels, (40, 50), anti_aliasing=True).astype(np.float32)
    lightness = pixels.mean(axis=2) * 0.8 + 0.1
    light = small.mean(axis=2) * 0.8 + 0.1
    guided = np.abs(enlarge(light, small, pixels) - lightness).mean()
    plain = np.abs(resize(light, (160, 200)) - lightness).mean()
    assert guided < plain / 2
    flat = enlarge(np.full((40, 50), 0.4, np.float32), small, pixels)
    assert np.allclose(flat, 0.4, atol=1e-6)


def test_reduced_map_is_only_used_for_larger_photos() -> None:
    pixels = scene(40, 60)
    assert np.array_equal(ENHANCER.light_map(pixels, side=60), ENHANCER.light_map(pixels, side=None))
    assert not np.array_equal(ENHANCER.light_map(pixels, side=20), ENHANCER.light_map(pixels, side=None))
    with pytest.raises(ConfigError, match="shows nothing"):
        ENHANCER.light_map(pixels, side=1)
    with pytest.raises(ConfigError, match="shape"):
        ENHANCER.enhance(pixels[..., 0])


# --- strength ---------------------------------------------------------------------

channel = st.floats(0, 1, width=32)


@given(
    x=st.lists(channel, min_size=3, max_size=3), light=st.floats(0, 1, width=32), strengths=st.tuples(channel, channel)
)
def test_strength(x: list[float], light: float, strengths: tuple[float, float]) -> None:
    pixels, field = np.array([[x]], np.float32), np.array([[light]], np.float32)
    weak, strong = (enhance_with(pixels, field, s) for s in sorted(strengths))
    assert np.array_equal(enhance_with(pixels, field, 0), pixels)
    assert (weak <= strong + 1e-6).all()  # light maps below 1 brighten, and more so with more strength
    assert (weak >= pixels - 1e-6).all()
    assert strong.max() <= 1
    assert np.isfinite(strong).all()
    expected = np.minimum(pixels / max(light, DARKEST), 1)
    assert np.allclose(enhance_with(pixels, field, 1), expected, rtol=1e-5)


def test_impossible_strength() -> None:
    for strength in (-0.1, 1.1, float("nan")):
        with pytest.raises(ConfigError, match="strength"):
            enhance_with(scene(2, 2), np.ones((2, 2), np.float32), strength)


def test_hue_of_unclipped_pixels_stays() -> None:
    pixels = scene(12, 12) * 0.2
    result = enhance_with(pixels, np.full((12, 12), 0.5, np.float32))
    assert np.allclose(result, 2 * pixels, atol=1e-6)


# --- methods beside it ------------------------------------------------------------


@pytest.mark.parametrize("name", BASELINES)
def test_baseline(name: str) -> None:
    pixels = scene(60, 80) * 0.6
    before = pixels.copy()
    result = BASELINES[name](pixels)
    assert np.array_equal(pixels, before)
    assert result.shape == pixels.shape
    assert result.dtype == np.float32
    assert 0 <= result.min() <= result.max() <= 1
    assert appearance(result).luminance > appearance(pixels).luminance
    for size in ((1, 1), (1, 7), (37, 5)):
        for value in (0.0, 0.3, 1.0):
            plain = BASELINES[name](np.full((*size, 3), value, np.float32))
            assert plain.shape == (*size, 3)
            assert np.isfinite(plain).all()


def test_baselines_by_hand() -> None:
    """Auto-gamma brings 1/4 to 1/2; MSRCR stretches to the whole range; fusion keeps what no exposure improves."""
    quarter = np.full((4, 4, 3), 0.25, np.float32)
    assert np.allclose(BASELINES["auto-gamma"](quarter), 0.5)
    ramp = np.linspace(0.1, 0.4, 300, dtype=np.float32)[None, :, None].repeat(20, 0).repeat(3, 2)
    stretched = BASELINES["msrcr"](ramp)
    assert (stretched.min(), stretched.max()) == (0, 1)
    assert lightness_order_error(ramp, BASELINES["auto-gamma"](ramp)) == 0
    dark = BASELINES["exposure-fusion"](np.full((32, 32, 3), 0.12, np.float32))
    gains = np.array([0.6**power for power in (1, 0, -1, -2, -3)])
    assert 0.12 * gains.min() < dark.mean() < 0.12 * gains.max()


def test_zero_dce(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network, dark = ZeroDCE(), (torch.rand(4, 3, 32, 32) * 60).to(torch.uint8)
    losses = list(train_zero_dce(network, dark, steps=25, learning_rate=5e-3))
    assert len(losses) == 25
    assert losses[-1] < losses[0]
    photo = dark[0].permute(1, 2, 0).numpy().astype(np.float32) / 255
    result = network.enhance(photo)
    assert result.mean() > photo.mean()
    with torch.no_grad():
        whole = network(torch.from_numpy(photo).permute(2, 0, 1)[None])[0].permute(1, 2, 0).clamp(0, 1)
    assert np.allclose(result, whole, atol=1e-5)
    save_zero_dce(network, tmp_path / "z.safetensors")
    assert np.array_equal(load_zero_dce(tmp_path / "z.safetensors").enhance(photo), result)
    save_file({"a": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(BackboneError, match="no Zero-DCE"):
        load_zero_dce(tmp_path / "x.safetensors")
    with pytest.raises(ConfigError, match="16 x 16"):
        list(train_zero_dce(network, dark[..., :8], steps=1))
    half = torch.full((1, 3, 1, 1), 0.5)
    assert bent(half, torch.zeros(1, 24, 1, 1)) == pytest.approx(half)
    one_step = torch.zeros(1, 24, 1, 1)
    one_step[:, :3] = -1
    assert torch.allclose(bent(half, one_step), torch.tensor(0.75))  # 0.5 - (0.25 - 0.5)


# --- metrics ----------------------------------------------------------------------


def test_metrics_by_hand() -> None:
    low, high = np.full((20, 20, 3), 0.05, np.float32), np.full((20, 20, 3), 1.0, np.float32)
    both = np.concatenate([low, high])
    found = appearance(both)
    assert found.luminance == pytest.approx(0.525, abs=1e-6)
    assert found.contrast == pytest.approx(0.475, abs=1e-6)
    assert (found.dark, found.clipped) == (0.5, 0.5)
    assert psnr(low, low + 0.1) == pytest.approx(20, abs=1e-4)
    assert psnr(low, low) == float("inf")
    assert ssim(both, both) == pytest.approx(1)
    assert lightness_order_error(both, both) == 0
    assert lightness_order_error(both, 1 - both) == pytest.approx(50 * 50 / 2)  # every pair across the halves
    noise = np.random.default_rng(0).normal(0.5, 0.02, (200, 200)).astype(np.float32)
    assert noise_sigma(noise) == pytest.approx(0.02, rel=0.03)
    assert noise_sigma(low[:2, :2, 0]) == 0
    for measure in (psnr, ssim, lightness_order_error):
        with pytest.raises(ConfigError, match="cannot be"):
            measure(low, both)
    with pytest.raises(ConfigError, match="11 x 11"):
        ssim(low[:5], low[:5])
