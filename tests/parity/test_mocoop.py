"""MoCoOp against the official implementation, and what it leaves untouched."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from engines.backbones import Backbone
from engines.errors import ConfigError
from engines.prompts import create_method
from engines.prompts.mocoop import MoCoOp
from tests.parity import parity_weights
from tests.parity.checks import assert_close, assert_same_value, load_case

GROUPS = (
    "a photo of a {}, a type of object.;a photo of a {}.;a photo of many {}.;"
    "a low resolution photo of the {}.|a pixelated photo of a {}.;a good photo of the {}.|a good photo of a {}."
)
PIXELS, LABELS = parity_weights.images(), parity_weights.labels()


def fresh(backbone: Backbone, classes: list[str] = parity_weights.CLASSES, **settings: Any) -> MoCoOp:
    method = create_method("mocoop", backbone, classes, **({"groups": GROUPS, "clip": 0} | settings))
    assert isinstance(method, MoCoOp)
    state = method.official_state_dict()
    for name in ("prompt_learner.w", "prompt_learner.gate.weight", "prompt_learner.gate.bias"):
        state[name] = torch.from_numpy(np.asarray(parity_weights.parameter(name, state[name].shape)))
    method.load_official(state)
    return method


def optimizer(method: MoCoOp) -> torch.optim.SGD:
    groups = [group | {"lr": 0.002 * group.get("rate", 1.0)} for group in method.parameter_groups()]
    return torch.optim.SGD(groups, lr=0.002, momentum=0.9, weight_decay=5e-4)


def official(method: MoCoOp) -> dict[str, Tensor]:
    return {method.official_name(name): p for name, p in method.trainable_parameters().items()}


def test_equals_official_mocoop(backbone: Backbone) -> None:
    case, method = load_case("mocoop_all"), fresh(backbone)
    text, images = method.text_features(), method.image_features(PIXELS)
    routes = method.routes(images)
    assert_close(text, case, "experts")
    assert_close(images, case, "image_features")
    assert_close(method.sentences, case, "group_prototypes")
    assert_close(method.gate(images), case, "gate_logits")
    np.testing.assert_array_equal(routes.topk(2, dim=1).indices.numpy(), case["top2"])
    assert_close(torch.einsum("bg,gcd->bcd", routes, text), case, "mixture")
    assert_close(method.gate_target(images, LABELS), case, "gate_target")
    assert_close(method.logits(PIXELS), case, "logits")
    losses, terms, steps = [], [], optimizer(method)
    for step in range(5):
        steps.zero_grad()
        seen, words, routed = method.loss_terms(PIXELS, LABELS)
        terms.append([words.item(), seen.item(), routed.item()])
        losses.append(method.backward(PIXELS, LABELS).item())
        if step == 0:
            check_stored(case, "grad.", {name: p.grad for name, p in official(method).items()})
        steps.step()
    losses.append(method.loss(PIXELS, LABELS).item())
    assert_close(np.array(losses), case, "losses")
    assert_close(np.array(terms), case, "loss_terms")
    check_stored(case, "after5.", official(method))
    assert_close(method.logits(PIXELS), case, "logits_after5")


def check_stored(case: dict[str, np.ndarray], kind: str, found: dict[str, Any]) -> None:
    """Every stored tensor of a kind; those not stored are empty or norms of other blocks."""
    stored = [key.removeprefix(kind) for key in case if key.startswith(kind)]
    assert len(stored) == 13
    for name in found:
        assert name in stored or not found[name].numel() or "resblocks" in name
    for name in stored:
        if kind == "grad.":
            assert_close(found[name], case, kind + name)
        else:
            assert_same_value(found[name], case, kind + name)


def ids(method: MoCoOp, expert: int, name: int, stop: bool = False) -> list[int]:
    layout = (method.all_layouts if stop else method.layouts)[expert]
    return layout.ids[name, : layout.lengths[name]].tolist()


def test_token_ids_are_the_official_ones(backbone: Backbone) -> None:
    method = fresh(backbone)
    assert ids(method, 0, 2) == [49406, 320, 1125, 539, 320, 1228, 2840, 267, 320, 3877, 539, 14115, 49407]
    assert ids(method, 0, 0, stop=True) == [49406, 320, 1125, 539, 320, 2368, 267, 320, 3877, 539, 14115, 269, 49407]
    assert ids(method, 3, 3) == [49406, 320, 1042, 9977, 1125, 539, 518, 40862, 49407]
    assert [len(each) for each in method.before] == [4, 4, 4, 6, 5]
    assert [len(each) for each in method.after] == [5, 0, 0, 0, 0]


def test_prompts_begin_as_their_sentences(backbone: Backbone, biomedical: Backbone) -> None:
    """With a full stop and no correction a fresh prompt says what its sentence says, in towers of either kind."""
    for model in (backbone, biomedical):
        method = create_method("mocoop", model, parity_weights.CLASSES, groups="a {}, of one texture.;{} in the image")
        assert isinstance(method, MoCoOp)
        assert torch.allclose(method.experts(method.all_layouts), method.sentences, atol=1e-4)


@pytest.mark.parametrize("given", ["as a setting", "by the protocol"])
def test_prompts_are_held_to_the_sentences_of_further_classes_too(backbone: Backbone, given: str) -> None:
    base, further = parity_weights.CLASSES[:3], parity_weights.CLASSES[3:]
    setting = "; ".join([*further, base[0], ""]) if given == "as a setting" else ""
    method, plain = fresh(backbone, base, further_classes=setting), fresh(backbone, base)
    if given == "by the protocol":
        method.other_classes = further
    assert method.all_class_names == parity_weights.CLASSES
    assert torch.allclose(method.sentences[:, :3], plain.sentences, atol=1e-5)
    labels = LABELS % 3
    seen, words, routed = method.loss_terms(PIXELS, labels)
    known_seen, known_words, known_routed = plain.loss_terms(PIXELS, labels)
    assert torch.allclose(torch.stack([seen, routed]), torch.stack([known_seen, known_routed]), atol=1e-4)
    learned = method.experts(method.all_layouts)
    expected = -torch.einsum("gcd,gkd->gck", learned, method.sentences).log_softmax(2).diagonal(dim1=1, dim2=2).mean()
    assert torch.allclose(words, expected, atol=1e-5)
    assert abs(words.item() - known_words.item()) > 0.1
    assert method.for_classes(further).logits(PIXELS).shape == (8, 2)


def test_the_shared_image_tower_stays_as_it_is(backbone: Backbone) -> None:
    before, method = backbone.encode_image(PIXELS), fresh(backbone)
    frozen = {p.data_ptr() for p in backbone.model.visual.parameters()}
    own = [p for p in method.vision._visual.parameters() if p.requires_grad]
    assert sum(p.data_ptr() in frozen for p in method.vision._visual.parameters()) == len(frozen) - len(own)
    assert len(own) == 12
    steps = optimizer(method)
    method.backward(PIXELS, LABELS)
    steps.step()
    assert torch.equal(backbone.encode_image(PIXELS), before)
    assert not torch.allclose(method.image_features(PIXELS), fresh(backbone).image_features(PIXELS), atol=1e-6)
    assert [group["lr"] for group in steps.param_groups] == pytest.approx([0.002, 0.0002])


def test_without_norms_image_features_are_cached(backbone: Backbone) -> None:
    method = fresh(backbone, train_norms=False)
    assert method.frozen_images
    raw = backbone.encode_image(PIXELS)
    assert torch.allclose(method.loss(features=raw, labels=LABELS), fresh(backbone).loss(PIXELS, LABELS), atol=1e-5)


def gradient(method: MoCoOp, parts: list[slice]) -> Tensor:
    for p in method.parameters():
        p.grad = None
    for part in parts:
        method.backward(PIXELS[part], LABELS[part], weight=len(LABELS[part]) / len(LABELS))
    return torch.cat([p.grad.flatten() for p in method.parameters() if p.grad is not None])


def test_gradients_are_cut_once_for_a_whole_batch(backbone: Backbone) -> None:
    method, uncut = fresh(backbone, clip=0.1), gradient(fresh(backbone), [slice(0, 8)])
    whole = gradient(method, [slice(0, 8)])
    assert torch.allclose(whole, uncut / uncut.norm() * 0.1, atol=1e-6)
    assert torch.allclose(gradient(method, [slice(0, 2), slice(2, 5), slice(5, 8)]), whole, atol=1e-6)


def test_one_group_is_enough(backbone: Backbone) -> None:
    method = fresh(backbone, groups="a photo of a {}.")
    assert torch.equal(method.routes(method.image_features(PIXELS)), torch.ones(8, 1))
    assert torch.isfinite(method.loss(PIXELS, LABELS))


@pytest.mark.parametrize(
    "groups", ["", "a photo", "a {};", "a {}s", "{} and {}", "{}.;a {}", "a {};" + "very " * 80 + "{}"]
)
def test_groups_that_cannot_be_learned_are_refused(backbone: Backbone, groups: str) -> None:
    with pytest.raises(ConfigError, match=r"groups|nothing to learn|tokens"):
        create_method("mocoop", backbone, parity_weights.CLASSES, groups=groups)
