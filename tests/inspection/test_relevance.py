"""Where a prompt looks: roll-out and relevance by hand, and on towers of every kind."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from engines.backbones import Backbone, load_backbone
from engines.backbones.preprocess import PixelSpec
from engines.backbones.recording import recorded_attention
from engines.errors import BackboneError, ConfigError
from engines.inspection.relevance import laid_on, look, refuse, relevance, rollout
from engines.prompts import create_method
from tests.backbones.conftest import TIMM, model_settings, random_model, wrap

NAMES = ["red disc", "blue disc", "green disc"]


def one_head(*rows: list[float]) -> Tensor:
    return torch.tensor([rows], dtype=torch.float64)


FIRST = one_head([0.5, 0.25, 0.25], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0])
SECOND = one_head([0.2, 0.8, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0])


def test_rollout_by_hand() -> None:
    # (A2 + I)/2 (A1 + I)/2, first row: 0.6 [0.75, 0.125, 0.125] + 0.4 [0, 1, 0]
    assert rollout([FIRST, SECOND], own=3)[0].tolist() == pytest.approx([0.45, 0.475, 0.075, 0.0])


def test_relevance_by_hand() -> None:
    nothing = [0.0, 0.0, 0.0]
    gradients = [one_head([0.0, 2.0, -1.0], nothing, nothing), one_head([1.0, 0.5, 3.0], nothing, nothing)]
    # R1 = I + [0, 0.5, 0]; R2, first row: [1, 0.5, 0] + 0.2 [1, 0.5, 0] + 0.4 [0, 1, 0]
    assert relevance([FIRST, SECOND], gradients, own=3)[0].tolist() == pytest.approx([1.2, 1.0, 0.0, 0.0])


def test_prompts_share_a_column_and_begin_anew() -> None:
    # The last token is a prompt, of which the class token takes half in the second block; a fresh one passes on itself.
    first = one_head([0.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 1.0, 0.0])
    second = one_head([0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0])
    assert rollout([first, second], own=2)[0].tolist() == pytest.approx([0.25, 0.5, 0.25])
    assert rollout([first, second], own=2, renewed=1)[0].tolist() == pytest.approx([0.25, 0.25, 0.5])


def test_rows_of_the_rollout_sum_to_one() -> None:
    torch.manual_seed(0)
    maps = [torch.randn(4, 7, 7).softmax(dim=-1) for _ in range(5)]
    for renewed in (0, 2):
        assert rollout(maps, own=5, renewed=renewed).sum(dim=1).tolist() == pytest.approx([1.0] * 7)


def test_the_patch_that_decides_is_found() -> None:
    """One block, whose score is what the class token takes from patch 2."""
    torch.manual_seed(1)
    attention = torch.randn(2, 5, 5).softmax(dim=-1).requires_grad_()
    score = (attention @ torch.eye(5)[:, 2:3])[:, 0].mean()
    (gradient,) = torch.autograd.grad(score, [attention])
    found = relevance([attention], [gradient], own=5)[0].detach()
    assert found[[1, 3, 4]].tolist() == [0.0, 0.0, 0.0]
    assert float(found[2]) == pytest.approx(0.5 * float(attention.detach()[:, 0, 2].mean()))


@pytest.fixture(scope="module")
def mini() -> Backbone:
    return load_backbone("mini-clip")


def timm_backbone() -> Backbone:
    return wrap(random_model(model_settings(TIMM | {"timm_pool": "token"})))


def picture(x: int, y: int, side: int = 96) -> Image.Image:
    image = Image.new("RGB", (side, side), (232, 232, 232))
    ImageDraw.Draw(image).ellipse((x, y, x + 26, y + 26), fill=(200, 30, 30))
    return image


@pytest.mark.parametrize("kind", ["open_clip", "timm"])
def test_recording_changes_no_feature(mini: Backbone, kind: str) -> None:
    backbone = mini if kind == "open_clip" else timm_backbone()
    pixels = backbone.preprocess(picture(4, 4))[None]
    plain = backbone.encode_image(pixels)
    with torch.enable_grad(), recorded_attention(backbone.vision) as maps:
        seen = backbone.encode_image(pixels)
    assert torch.allclose(seen, plain, atol=1e-4)
    assert len(maps) == backbone.vision.depth
    assert torch.allclose(maps[0].sum(dim=-1), torch.ones(()))
    assert all(g is not None for g in torch.autograd.grad(seen.sum(), maps))
    after = backbone.encode_image(pixels)
    assert torch.equal(after, plain)
    assert len(maps) == backbone.vision.depth


def test_the_disc_is_where_it_looks(mini: Backbone) -> None:
    method = create_method("zero-shot", mini, NAMES)
    centres = []
    for x, y in ((6, 6), (64, 64)):
        found = look(method, picture(x, y), [0]).maps[0]
        rows, columns = np.mgrid[: found.shape[0], : found.shape[1]] / (found.shape[0] - 1)
        centres.append([(found * at).sum() / found.sum() for at in (rows, columns)])
    assert centres[0][0] + 0.05 < centres[1][0]
    assert centres[0][1] + 0.05 < centres[1][1]


@pytest.mark.parametrize("name", ["zero-shot", "coop", "cocoop", "vpt", "maple", "clip-adapter", "linear-probe"])
@pytest.mark.parametrize("rule", ["relevance", "rollout"])
def test_every_kind_of_method_says_where_it_looks(mini: Backbone, name: str, rule: str) -> None:
    torch.manual_seed(0)
    method = create_method(name, mini, NAMES).eval()
    found = look(method, picture(6, 6), [0, 2], rule)  # type: ignore[arg-type]
    side = mini.image_size // mini.vision.patch
    assert found.maps.shape == (2, side, side)
    assert found.probabilities.sum() == pytest.approx(1, abs=1e-5)
    assert np.isfinite(found.maps).all()
    assert (found.maps >= 0).all()
    assert bool((found.prompts > 0).all()) is (name in ("vpt", "maple"))
    with torch.no_grad():
        told = method.logits(method.prepare(picture(6, 6))[None]).softmax(dim=1)[0]
    assert found.probabilities == pytest.approx(told.numpy(), abs=1e-4)
    if rule == "rollout":
        assert found.maps.sum() < 2.0  # the class token keeps a share of its own


def test_a_timm_tower_says_it_too() -> None:
    method = create_method("zero-shot", timm_backbone(), NAMES)
    assert look(method, picture(6, 6, 160)).maps.shape == (1, 10, 10)


def test_what_cannot_be_told_is_refused_in_words() -> None:
    resnet = wrap(random_model(model_settings({"layers": [1, 1, 1, 1], "width": 16, "image_size": 64})))
    method = create_method("zero-shot", resnet, NAMES)
    assert "ResNet" in refuse(method)
    with pytest.raises(BackboneError, match="ViT"):
        look(method, picture(6, 6))


def test_unknown_classes_are_refused(mini: Backbone) -> None:
    with pytest.raises(ConfigError, match="does not know this class"):
        look(create_method("zero-shot", mini, NAMES), picture(6, 6), [3])


def test_a_map_lies_where_the_model_looked() -> None:
    found = np.ones((2, 2), np.float32)
    wide = laid_on(found, (60, 20), PixelSpec(32))
    assert wide.shape == (20, 60)
    assert wide[:, 20:40].min() == 1
    assert wide[:, :20].max() == wide[:, 40:].max() == 0
    assert laid_on(found, (60, 20), PixelSpec(32, resize_mode="squash")).min() == 1
    assert laid_on(found, (60, 20), PixelSpec(32, resize_mode="longest")).min() == 1
