"""PIP on a small network: damage, training that goes on where it stopped, the dial, and what is refused."""

from __future__ import annotations

from collections import deque
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from engines.enhance.pip import DAMAGES, PipSettings, PipUNet, load_pip, train_pip
from engines.enhance.pip.degrade import degrade
from engines.enhance.pip.prompt import class_weights
from engines.enhance.pip.train import limited, schedule
from engines.errors import BackboneError, ConfigError, DataError

SHORT = PipSettings(dim=8, steps=6, batch=2, patch=16, checkpoint_every=100)


def stripes(count: int, side: int = 32) -> Tensor:
    """Coloured bars, [N, 3, S, S] uint8."""
    draw = torch.Generator().manual_seed(count)
    colours = torch.randint(256, (count, 3, 4, 1), generator=draw).to(torch.uint8)
    return colours.repeat_interleave(side // 4, dim=2).expand(-1, -1, -1, side).contiguous()


PICTURES = stripes(6)


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_every_damage_damages() -> None:
    clean = PICTURES.float() / 255
    for kind, name in enumerate(DAMAGES):
        kinds = torch.full((6,), kind)
        found = degrade(clean, kinds, draw())
        assert found.shape == clean.shape
        assert 0 <= found.min() <= found.max() <= 1
        assert torch.equal((found * 255).round() / 255, found)
        assert (found - clean).abs().mean() > 0.01, name
        assert torch.equal(found, degrade(clean, kinds, draw()))
        assert not torch.equal(found, degrade(clean, kinds, draw(1)))
    dark, hazy = (degrade(clean, torch.full((6,), DAMAGES.index(name)), draw()) for name in ("low light", "haze"))
    assert dark.mean() < clean.mean() / 1.3
    assert hazy.std() < clean.std()
    with pytest.raises(ConfigError, match="16 x 16"):
        degrade(clean[..., :8], torch.zeros(6, dtype=torch.long), draw())


def test_blur_keeps_brightness_and_noise_its_strength() -> None:
    plain = torch.full((1, 3, 128, 128), 0.5)
    blurred = degrade(plain, torch.tensor([DAMAGES.index("blur")]), draw())
    assert torch.allclose(blurred, plain, atol=1 / 255)
    noisy = degrade(plain, torch.tensor([DAMAGES.index("noise")]), draw())
    assert min(abs(float(noisy.std()) - sigma / 255) for sigma in (15, 25, 50)) < 0.003


def test_training_helps(tmp_path: Path) -> None:
    """Damage that was drawn anew is undone in part; which kind it is has to be told."""
    settings = SHORT.model_copy(update={"steps": 40, "batch": 5, "rate": 5e-3})
    losses = [done.loss for done in train_pip(PICTURES, tmp_path, settings)]
    assert sum(losses[-10:]) < sum(losses[:10]) / 2
    network, clean = load_pip(tmp_path), PICTURES.float() / 255
    haze, dark = (torch.full((6,), DAMAGES.index(name)) for name in ("haze", "low light"))
    for told, other in ((haze, dark), (dark, haze)):
        damaged = degrade(clean, told, draw(7))
        before, right, wrong = (
            F.mse_loss(picture, clean)
            for picture in (damaged, *(network(damaged, class_weights(kind, 5)) for kind in (told, other)))
        )
        assert right < 0.7 * before
        assert right < wrong


@pytest.mark.parametrize("stop", [1, 4])
def test_stopped_anywhere_ends_alike(tmp_path: Path, stop: int) -> None:
    whole = [done.loss for done in train_pip(PICTURES, tmp_path / "whole", SHORT)]
    running = train_pip(PICTURES, tmp_path / "parts", SHORT)
    losses = [next(running).loss for _ in range(stop)]
    running.close()  # type: ignore[attr-defined]
    rest = list(train_pip(PICTURES, tmp_path / "parts", SHORT))
    assert [done.step for done in rest] == list(range(stop + 1, 7))
    assert losses + [done.loss for done in rest] == whole
    a, b = (load_pip(tmp_path / name).state_dict() for name in ("whole", "parts"))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert list(train_pip(PICTURES, tmp_path / "whole", SHORT)) == []


def test_refusals(tmp_path: Path) -> None:
    next(running := train_pip(PICTURES, tmp_path, SHORT))
    running.close()  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="other settings or pictures"):
        next(train_pip(PICTURES[1:], tmp_path, SHORT))
    with pytest.raises(ConfigError, match="other settings or pictures"):
        next(train_pip(PICTURES, tmp_path, SHORT.model_copy(update={"batch": 3})))
    for pictures in (PICTURES[:0], PICTURES[..., :8]):
        with pytest.raises(DataError, match="at least 16 pixels"):
            next(train_pip(pictures, tmp_path / "other", SHORT))
    save_file({"a": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    with pytest.raises(BackboneError, match="no PIP network"):
        load_pip(tmp_path / "foreign.safetensors")
    with pytest.raises(BackboneError, match="no file"):
        load_pip(tmp_path / "missing.safetensors")
    with pytest.raises(ConfigError, match="5 kinds"):
        class_weights(torch.tensor([5]), 5)
    with pytest.raises(ConfigError, match="Each level"):
        PipUNet(prompt_widths=(16,))
    with pytest.raises(ConfigError, match="divided by 4"):
        PipUNet(prompt_widths=(16, 30))


def test_the_dial() -> None:
    """Weights of the kinds may be mixed, and the result lies near neither end alone."""
    torch.manual_seed(0)
    network, pixels = PipUNet().eval(), torch.rand(1, 3, 24, 24)
    rain, blur = (class_weights(torch.tensor([kind]), 5) for kind in (1, 3))
    with torch.no_grad():
        ends = [network(pixels, weights) for weights in (rain, blur)]
        middle = network(pixels, (rain + blur) / 2)
        assert torch.allclose(middle, network(pixels, class_weights(torch.tensor([[1, 3]]), 5)), atol=1e-6)
    assert all(not torch.allclose(middle, end, atol=1e-6) for end in ends)


@pytest.mark.parametrize("size", [(24, 24), (25, 31), (30, 17)])
def test_any_size(size: tuple[int, int]) -> None:
    with torch.no_grad():
        assert PipUNet()(torch.rand(1, 3, *size), class_weights(torch.tensor([0]), 5)).shape == (1, 3, *size)


def test_loss_limiter_and_schedule() -> None:
    """With a least loss of 1, one of 4 passes and one of 20 counts 2.5; once the 1 is forgotten, 10."""
    recent = deque([1.0], 2)
    assert [float(limited(torch.tensor(loss), recent)) for loss in (4.0, 4.0, 20.0)] == [4, 4, 20]
    recent = deque([1.0, 4.0], 2)
    assert float(limited(torch.tensor(20.0), recent)) == 2.5
    assert float(limited(torch.tensor(30.0), recent)) == 10
    settings = PipSettings(steps=120, warm_up=0.1)
    assert [schedule(step, settings) for step in (0, 6, 12)] == pytest.approx([0.1, 0.55, 1])
    assert schedule(66, settings) == pytest.approx(0.5)
    assert schedule(119, settings) < 0.001
