"""NPNet at any size and with any number of channels, and in files of ours and of its authors."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from engines.diffusion.golden.checkpoint import load_npnet, read_npnet, save_npnet
from engines.diffusion.golden.npnet import NPNet, NPNetConfig
from engines.diffusion.golden.svd_branch import SvdBranch
from engines.errors import BackboneError, ConfigError, DataError
from tests.faults import full_disk

SMALL: dict[str, Any] = {"height": 8, "width": 8, "tokens": 3, "text_width": 4, "residual": "small"}


def awake(network: NPNet) -> NPNet:
    """With all three parts speaking."""
    with torch.no_grad():
        network.alpha.fill_(0.7)
        network.beta.fill_(0.3)
    return network.eval()


def given_inputs(config: NPNetConfig, count: int = 3) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    noise = torch.randn(count, config.channels, config.height, config.width, generator=draw)
    return noise, torch.randn(count, config.tokens, config.text_width, generator=draw)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 12), st.integers(2, 11), st.integers(2, 11), st.booleans())
def test_any_size(channels: int, height: int, width: int, attention: bool) -> None:
    """Untouched singular values give the noise back, so the matrix holds every number once."""
    branch = SvdBranch(channels, height, width, attention)
    noise = torch.randn(2, channels, height, width, generator=torch.Generator().manual_seed(height))
    assert branch(noise).shape == noise.shape
    last = branch.mlp4[2]
    assert isinstance(last, nn.Linear)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    torch.testing.assert_close(branch(noise), noise, atol=1e-5, rtol=1e-5)


def test_channels_are_blocks_of_the_matrix() -> None:
    noise = torch.arange(4.0).reshape(1, 4, 1, 1).expand(1, 4, 2, 3).contiguous()
    left, values, right = SvdBranch(4, 2, 3).decompose(noise)
    matrix = ((left * values[:, None]) @ right)[0]
    expected = torch.tensor([[0.0] * 3 + [1.0] * 3] * 2 + [[2.0] * 3 + [3.0] * 3] * 2)
    torch.testing.assert_close(matrix, expected, atol=1e-5, rtol=0)


def test_only_singular_values_speak_at_the_start() -> None:
    network = NPNet(NPNetConfig(**SMALL)).eval()
    noise, text = given_inputs(network.config)
    assert network.svd is not None
    torch.testing.assert_close(network(noise, text), network.svd(noise))
    torch.testing.assert_close(network(noise, text), network(noise, -text))


def test_every_sample_hears_its_own_prompt() -> None:
    network = awake(NPNet(NPNetConfig(**SMALL)))
    noise, text = given_inputs(network.config)
    together = network(noise, text)
    alone = torch.cat([network(noise[at : at + 1], text[at : at + 1]) for at in range(3)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
    other = network(noise, torch.cat([text[:2], -text[2:]]))
    torch.testing.assert_close(other[:2], together[:2])
    assert (other[2] - together[2]).abs().max() > 0.01


@pytest.mark.parametrize("without", [{"svd": False}, {"residual": "none"}, {"attention": False}])
def test_parts_can_be_left_out(without: dict[str, Any]) -> None:
    network = awake(NPNet(NPNetConfig(**{**SMALL, **without})))
    noise, text = given_inputs(network.config)
    golden = network(noise, text)
    golden.sum().backward()
    assert golden.shape == noise.shape
    unheard = [name for name, parameter in network.named_parameters() if parameter.grad is None]
    assert unheard == (["beta"] if without == {"residual": "none"} else [])
    if "svd" in without:
        assert network(torch.cat([noise, noise], dim=3), text).shape == (3, 4, 8, 16)


@pytest.mark.parametrize(
    ("noise", "text", "said"),
    [
        ((2, 4, 8, 9), (2, 3, 4), "latents of 4 x 8 x 8, and these are 4 x 8 x 9"),
        ((2, 3, 8, 8), (2, 3, 4), "these are 3 x 8 x 8"),
        ((4, 8, 8), (2, 3, 4), "latents of 4 x 8 x 8"),
        ((2, 4, 8, 8), (1, 3, 4), "got 1 x 3 x 4"),
        ((2, 4, 8, 8), (2, 77, 4), "got 2 x 77 x 4"),
    ],
)
def test_what_does_not_fit_is_said(noise: tuple[int, ...], text: tuple[int, ...], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        NPNet(NPNetConfig(**SMALL))(torch.zeros(noise), torch.zeros(text))


def test_half_precision_comes_in_and_full_goes_out() -> None:
    network = awake(NPNet(NPNetConfig(**SMALL)))
    noise, text = given_inputs(network.config)
    assert network(noise.half(), text.half()).dtype == torch.float32


def test_saved_and_loaded(tmp_path: Path) -> None:
    network = awake(NPNet(NPNetConfig(**{**SMALL, "width": 6, "channels": 12})))
    path = tmp_path / "some" / "npnet.safetensors"
    save_npnet(network, path, {"note": "ü"}, {"extra": torch.ones(2)})
    again, facts, extra = read_npnet(path)
    assert again.config == network.config
    assert facts == {"note": "ü"}
    assert extra.keys() == {"extra"}
    inputs = given_inputs(network.config)
    torch.testing.assert_close(load_npnet(path)(*inputs), network(*inputs), rtol=0, atol=0)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BackboneError, match="cannot be read"):
        load_npnet(path)
    with pytest.raises(BackboneError, match="cannot be read"):
        load_npnet(tmp_path / "none.safetensors")


def test_a_full_disk_leaves_the_earlier_file(tmp_path: Path) -> None:
    network, path = NPNet(NPNetConfig(**SMALL)), tmp_path / "npnet.safetensors"
    save_npnet(network, path)
    before = path.read_bytes()
    with full_disk(), pytest.raises(DataError, match="disk is full"):
        save_npnet(awake(network), path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, NPNet]:
    """A file as the authors release it, of full SDXL size, with the names that an old timm gave the Swin's layers."""
    torch.manual_seed(0)
    network = awake(NPNet(NPNetConfig()))
    assert network.svd is not None
    assert network.residual is not None
    swin = {}
    for name, value in network.residual.state_dict().items():
        for number in (1, 2, 3):
            name = name.replace(f"layers.{number}.downsample", f"layers.{number - 1}.downsample")
        swin[name.replace("swin.head.fc.", "swin.head.")] = value
    unused = {"bn.weight": torch.ones(256), "bn.bias": torch.zeros(256), "bn.num_batches_tracked": torch.tensor(0)}
    path = tmp_path_factory.mktemp("released") / "sdxl.pth"
    state = {
        "unet_svd": network.svd.state_dict() | unused,
        "unet_embedding": swin | {"swin.layers.0.blocks.0.attn.relative_position_index": torch.zeros(49, 49)},
        "embeeding": network.text_norm.state_dict(),
        "alpha": network.alpha,
        "beta": network.beta,
    }
    torch.save(state, path)
    return path, network


def test_released_weights_of_sdxl(released: tuple[Path, NPNet]) -> None:
    path, network = released
    loaded = load_npnet(path)
    assert loaded.config == NPNetConfig()
    inputs = given_inputs(network.config, 1)
    with torch.no_grad():
        torch.testing.assert_close(loaded(*inputs), network(*inputs))
    assert sum(parameter.numel() for parameter in loaded.parameters()) == 30_469_915


def test_released_weights_without_attention(released: tuple[Path, NPNet]) -> None:
    loaded = load_npnet(released[0], attention=False)
    assert loaded.svd is not None
    assert loaded.svd.attention is None


class Foreign:
    """Something that unpickling would run."""


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "damaged"),
        (b"not a checkpoint", "damaged"),
        ({"weight": torch.ones(1)}, "lacks alpha, beta, embeeding, unet_embedding, unet_svd"),
        (torch.ones(1), "lacks"),
        ({"unet_svd": {}, "unet_embedding": {}, "embeeding": {}, "alpha": 0, "beta": 0}, "do not fit"),
        (Foreign(), "foreign code"),
    ],
)
def test_other_files(tmp_path: Path, content: Any, said: str) -> None:
    path = tmp_path / "file.pth"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path, pickle_module=pickle)
    with pytest.raises(BackboneError, match=said):
        load_npnet(path)
    with pytest.raises(BackboneError, match="cannot be read"):
        load_npnet(tmp_path / "none.pth")
