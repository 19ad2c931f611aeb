"""Prompts with a shared prefix against the plain way: all tokens of all classes through open_clip's own blocks."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import open_clip
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from engines.backbones import Backbone, PromptLayout
from engines.backbones.runtime import Runtime
from tests.backbones.conftest import TEXT, Fails, model_settings, random_model, wrap

NAMES = ["cat", "golden_retriever", "cirrhosis (stage-3)", "a rather long name of a class", "x"]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return (
        0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(seed + 1000 * len(shape)))
    ).requires_grad_()


def plain(backbone: Backbone, layout: PromptLayout, context: Tensor, deep: Sequence[Tensor] = ()) -> Tensor:
    """[C, D]: every prompt padded to the context length, open_clip's mask, the end token found by its id."""
    module: Any = getattr(backbone.model, "text", backbone.model)
    ids = torch.zeros(len(layout.class_names), backbone.text.tokenizer.context_length, dtype=torch.long)
    prompts = []
    for c, length in enumerate(layout.lengths):
        ids[c, :length] = layout.ids[c, :length]
        rows = list(module.token_embedding(ids[c]))
        own = context if context.ndim == 2 else context[c]
        for place, slot in enumerate(layout.slots[c].tolist()):
            if slot >= 0:
                rows[place] = own[slot]
        prompts.append(torch.stack(rows))
    x = torch.stack(prompts) + module.positional_embedding
    for i, block in enumerate(module.transformer.resblocks):
        if 1 <= i <= len(deep):
            inner = deep[i - 1].expand(len(x), -1, -1)
            x = torch.cat([x[:, :1], inner, x[:, 1 + inner.shape[1] :]], dim=1)
        x = block(x, attn_mask=module.attn_mask)
    x = module.ln_final(x)
    return x[torch.arange(len(x)), ids.argmax(1)] @ module.text_projection


def assert_same(actual: Tensor, expected: Tensor, leaves: Sequence[Tensor], tolerance: float = 1e-5) -> None:
    """Equal values and equal gradients, both after the normalisation every classifier makes."""
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)
    weight = torch.randn(actual.shape, generator=torch.Generator().manual_seed(7))
    gradients = [
        torch.autograd.grad((F.normalize(value, dim=-1) * weight).sum(), leaves, retain_graph=True)
        for value in (actual, expected)
    ]
    for mine, reference in zip(*gradients, strict=True):
        assert reference.abs().max() > 0
        torch.testing.assert_close(mine, reference, rtol=tolerance, atol=tolerance)


@pytest.fixture(params=["in one part", "in many parts"])
def parts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything twice: with all activations kept, and recomputed class by class."""
    if request.param == "in many parts":
        monkeypatch.setattr(Runtime, "activation_budget", property(lambda _: 200_000))


@pytest.mark.usefixtures("parts")
class TestTinyClip:
    @pytest.mark.parametrize("position", ["end", "middle", "front"])
    @pytest.mark.parametrize("n_ctx", [1, 4, 5])
    def test_one_context_for_all(self, tiny: Backbone, position: str, n_ctx: int) -> None:
        layout, context = tiny.text.layout(NAMES, n_ctx, position), draw(n_ctx, 128)
        assert_same(tiny.text.encode_prompts(layout, context), plain(tiny, layout, context), [context])

    @pytest.mark.parametrize("position", ["end", "middle", "front"])
    def test_class_specific_context(self, tiny: Backbone, position: str) -> None:
        layout, context = tiny.text.layout(NAMES, 4, position), draw(len(NAMES), 4, 128)
        assert_same(tiny.text.encode_prompts(layout, context), plain(tiny, layout, context), [context])

    @pytest.mark.parametrize("position", ["end", "middle", "front"])
    def test_one_context_for_each_image(self, tiny: Backbone, position: str) -> None:
        layout, context = tiny.text.layout(NAMES, 4, position), draw(3, 4, 128)
        features = tiny.text.encode_prompts(layout, context, per_group=True)
        assert_same(features, torch.stack([plain(tiny, layout, part) for part in context]), [context])

    def test_class_specific_context_for_each_image(self, tiny: Backbone) -> None:
        layout, context = tiny.text.layout(NAMES, 2, "middle"), draw(3, len(NAMES), 2, 128)
        features = tiny.text.encode_prompts(layout, context, per_group=True)
        assert_same(features, torch.stack([plain(tiny, layout, part) for part in context]), [context])

    def test_deep_prompts(self, tiny: Backbone) -> None:
        layout, context = tiny.text.layout(NAMES, 3), draw(3, 128)
        deep = [draw(3, 128, seed=1), draw(3, 128, seed=2)]
        features = tiny.text.encode_prompts(layout, context, deep)
        assert_same(features, plain(tiny, layout, context, deep), [context, *deep])

    def test_deep_prompts_with_words_that_stay(self, tiny: Backbone) -> None:
        layout, context, deep = tiny.text.layout(NAMES, 2, words="a photo of a"), draw(2, 128), [draw(2, 128, seed=1)]
        assert layout.prefix == 5
        features = tiny.text.encode_prompts(layout, context, deep)
        assert_same(features, plain(tiny, layout, context, deep), [context, *deep])

    def test_deep_prompts_for_each_image(self, tiny: Backbone) -> None:
        layout, context, deep = tiny.text.layout(NAMES, 3), draw(2, 3, 128), [draw(3, 128), draw(2, 3, 128, seed=5)]
        features = tiny.text.encode_prompts(layout, context, deep, per_group=True)
        expected = [plain(tiny, layout, context[g], [deep[0], deep[1][g]]) for g in range(2)]
        assert_same(features, torch.stack(expected), [context, *deep])

    def test_without_gradient(self, tiny: Backbone) -> None:
        layout, context = tiny.text.layout(NAMES, 4), draw(3, 4, 128)
        with torch.no_grad():
            features = tiny.text.encode_prompts(layout, context, per_group=True)
            expected = torch.stack([plain(tiny, layout, part) for part in context])
        assert not features.requires_grad
        torch.testing.assert_close(features, expected, rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module")
def base() -> Backbone:
    """The text tower of ViT-B/16: 12 blocks, 8 heads, width 512; the image tower is kept small."""
    text = {"width": 512, "heads": 8, "layers": 12}
    return wrap(random_model(model_settings(text=text) | {"embed_dim": 512}))


@pytest.mark.parametrize(
    ("position", "csc", "depth"), [("end", False, 0), ("middle", False, 0), ("front", True, 0), ("end", False, 9)]
)
def test_sizes_of_vit_b_16(base: Backbone, position: str, csc: bool, depth: int) -> None:
    names = NAMES[:2]
    layout = base.text.layout(names, 16, position)
    context = draw(*([2] if csc else []), 16, 512)
    deep = [draw(16, 512, seed=i) for i in range(1, depth)]
    features = base.text.encode_prompts(layout, context, deep)
    assert_same(features, plain(base, layout, context, deep), [context, *deep])


def test_memory_kept_for_the_backward_pass_is_as_estimated(base: Backbone) -> None:
    """The estimate decides when activations are recomputed instead of kept."""
    layout, context, kept = base.text.layout(NAMES, 16), draw(16, 512), {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    weights = {p.untyped_storage().data_ptr() for p in base.model.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        features = base.text.encode_prompts(layout, context)
    length = layout.ids.shape[1]
    tokens = layout.prefix + len(NAMES) * (length - layout.prefix)
    used = sum(size for place, size in kept.items() if place not in weights)
    assert 0.5 < used / (tokens * base.text._bytes_per_token(length)) < 1.1
    assert features.requires_grad


def test_memory_of_many_contexts_is_bounded(tiny: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one context an image, what is kept for the backward pass follows the budget, and the gradient stays."""
    layout, context = tiny.text.layout(NAMES, 4), draw(12, 4, 128)
    weight = draw(12, len(NAMES), tiny.embed_dim, seed=1).detach()
    kept: dict[int, int] = {}
    gradients = {}
    for budget in (2**40, 400_000):
        monkeypatch.setattr(Runtime, "activation_budget", property(lambda _, budget=budget: budget))
        sizes: list[int] = []

        def note(tensor: Tensor, sizes: list[int] = sizes) -> Tensor:
            sizes.append(tensor.nbytes)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            features = F.normalize(tiny.text.encode_prompts(layout, context, per_group=True), dim=-1)
            value = (features * weight).sum()
        kept[budget] = sum(sizes)
        (gradients[budget],) = torch.autograd.grad(value, context)
    assert kept[400_000] < 0.2 * kept[2**40]
    torch.testing.assert_close(gradients[400_000], gradients[2**40], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_autocast(precision: str) -> None:
    """Half precision inside, float32 outside, near the exact values."""
    model = random_model(model_settings(quick_gelu=True))
    exact = wrap(model)
    halved = wrap(model)
    for tower in (halved.text, halved.vision):
        tower.runtime = Runtime(torch.device("cpu"), precision)
    layout, context, deep = exact.text.layout(NAMES, 4), draw(4, 64), [draw(4, 64, seed=1)]
    pairs = [
        tuple(b.text.encode_prompts(layout, context, deep) for b in (exact, halved)),
        tuple(b.encode_text(["a cat", "an oak tree"]) for b in (exact, halved)),
        tuple(b.encode_image(torch.ones(1, 3, 32, 32)) for b in (exact, halved)),
    ]
    gradients = [torch.autograd.grad(features.square().sum(), context)[0] for features in pairs[0]]
    for expected, actual in [*pairs, tuple(gradients)]:
        assert actual.dtype == torch.float32
        difference = ((actual - expected).norm() / expected.norm()).item()
        assert 0 < difference < 0.03


OTHER_LAYOUTS = {
    "text tower of its own": model_settings(custom_text=True),
    "QuickGELU": model_settings(quick_gelu=True),
    "layer scale": model_settings(text={"ls_init_value": 0.5}),
    "end token by its id": model_settings(text={"pool_type": "eos", "eos_id": 49407}),
    "short context": model_settings(text={"context_length": 32}),
}


@pytest.mark.parametrize("settings", OTHER_LAYOUTS.values(), ids=OTHER_LAYOUTS.keys())
def test_other_causal_towers(settings: dict[str, Any]) -> None:
    backbone = wrap(random_model(settings))
    assert backbone.supports.causal_text
    layout, context = backbone.text.layout(NAMES, 4), draw(4, 64)
    assert_same(backbone.text.encode_prompts(layout, context), plain(backbone, layout, context), [context])


FULL_TOWERS = {
    "SigLIP": model_settings(
        text={"no_causal_mask": True, "proj_bias": True, "pool_type": "last", "context_length": 16}, custom_text=True
    ),
    "first token": model_settings(text={"no_causal_mask": True, "pool_type": "first"}, custom_text=True),
    "CoCa": model_settings(
        text={"embed_cls": True, "context_length": 40},
        multimodal_cfg=TEXT | {"context_length": 40},
        custom_text=True,
    ),
    "attention of its own": model_settings(text={"qk_norm": True}, custom_text=True),
}


@pytest.fixture(scope="module", params=FULL_TOWERS.values(), ids=FULL_TOWERS.keys())
def full(request: pytest.FixtureRequest) -> Backbone:
    return wrap(random_model(request.param))


@pytest.mark.usefixtures("parts")
class TestTowersThatShareNothing:
    def test_words_as_context_give_the_feature_of_the_sentence(self, full: Backbone) -> None:
        assert not full.supports.causal_text
        assert "causal_text" in full.supports.reason
        layout = full.text.layout(NAMES, 4, words="a photo of a")
        context = full.text.embed_words("a photo of a").requires_grad_()
        features = full.text.encode_prompts(layout, context)
        texts = [f"a photo of a {name.replace('_', ' ')}." for name in NAMES]
        tokenizer = open_clip.SimpleTokenizer(context_length=full.text.tokenizer.context_length)
        expected = full.model.text(tokenizer(texts))
        torch.testing.assert_close(features, expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(full.encode_text(texts), expected, rtol=1e-5, atol=1e-5)
        (gradient,) = torch.autograd.grad(features.square().sum(), context)
        assert gradient.abs().min() > 0

    def test_groups_and_classes_agree(self, full: Backbone) -> None:
        layout, context = full.text.layout(NAMES, 3, "middle"), draw(2, 3, 64)
        grouped = full.text.encode_prompts(layout, context, per_group=True)
        for g in range(2):
            alone = full.text.encode_prompts(layout, context[g])
            specific = full.text.encode_prompts(layout, context[g].expand(len(NAMES), 3, 64))
            torch.testing.assert_close(grouped[g], alone, rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(specific, alone, rtol=1e-5, atol=1e-5)

    def test_deep_prompts_reach_the_feature(self, full: Backbone) -> None:
        layout, context, deep = full.text.layout(NAMES, 3), draw(3, 64), [draw(3, 64, seed=1), draw(3, 64, seed=2)]
        features = full.text.encode_prompts(layout, context, deep)
        assert (features - full.text.encode_prompts(layout, context)).abs().max() > 1e-3
        for gradient in torch.autograd.grad(features.square().sum(), deep):
            assert gradient.abs().max() > 0


class TestLayouts:
    def test_positions(self, tiny: Backbone) -> None:
        cat, stop, start, end = 2368, 269, 49406, 49407
        expected = {
            "end": [start, -1, -2, -3, cat, stop, end],
            "middle": [start, -1, cat, -2, -3, stop, end],
            "front": [start, cat, -1, -2, -3, stop, end],
        }
        for position, tokens in expected.items():
            layout = tiny.text.layout(["cat"], 3, position)
            slots, ids = layout.slots[0].tolist(), layout.ids[0].tolist()
            assert [i if s < 0 else -1 - s for i, s in zip(ids, slots, strict=True)] == tokens
            assert layout.eot.tolist() == [6]

    def test_prompts_are_cut_at_the_longest(self, tiny: Backbone) -> None:
        layout = tiny.text.layout(["cat", "golden_retriever"], 2)
        assert layout.class_names == ("cat", "golden retriever")
        assert layout.ids.shape == (2, 7)
        assert layout.lengths == (6, 7)

    def test_text_in_words(self, tiny: Backbone) -> None:
        assert tiny.text.count_tokens("itap of a") == 4
        assert tiny.text.embed_words("itap of a").shape == (4, 128)

    def test_nearest_words_of_words_are_the_words(self, tiny: Backbone) -> None:
        context = tiny.text.embed_words("a photo of a melanoma").expand(2, -1, -1)
        near = tiny.text.nearest_words(context, k=2)
        for rows in near:
            assert [row[0].word for row in rows] == ["a", "photo", "of", "a", "melanoma"]
            assert all(row[0].distance < 1e-2 < row[1].distance for row in rows)

    def test_embeddings_path_is_the_words_path(self, tiny: Backbone) -> None:
        layout = tiny.text.layout(NAMES, 4, words="a photo of a")
        features = tiny.text.encode_embeddings(layout.embeddings, layout.eot)
        texts = [f"a photo of a {name.replace('_', ' ')}." for name in NAMES]
        torch.testing.assert_close(features, tiny.encode_text(texts, batch=2), rtol=1e-5, atol=1e-5)


LONG = " ".join(["melanoma"] * 80)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"class_names": ["cat", LONG], "n_ctx": 4}, "at most 77"),
        ({"class_names": ["cat"], "n_ctx": 75}, "at most 77"),
        ({"class_names": [], "n_ctx": 4}, "no class"),
        ({"class_names": ["cat", " "], "n_ctx": 4}, "Class 2 has an empty name"),
        ({"class_names": ["cat", "_"], "n_ctx": 4}, "Class 2 has an empty name"),
        ({"class_names": ["cat"], "n_ctx": 0}, "at least one"),
        ({"class_names": ["cat"], "n_ctx": 4, "position": "centre"}, "end, middle or front"),
        ({"class_names": ["cat"], "n_ctx": 4, "words": "a photo"}, "make 2 tokens"),
    ],
)
def test_layouts_that_cannot_be(tiny: Backbone, fails: Fails, arguments: dict[str, Any], says: str) -> None:
    assert says in fails(tiny.text.layout, **arguments)


def test_long_texts_are_refused_not_cut(tiny: Backbone, fails: Fails) -> None:
    assert "at most 77" in fails(tiny.encode_text, ["a cat", LONG])


@pytest.mark.parametrize(
    ("position", "shape", "deep", "grouped"),
    [
        ("end", (3, 128), 0, False),
        ("end", (4, 64), 0, False),
        ("end", (3, 4, 128), 0, False),
        ("end", (4, 128), 0, True),
        ("middle", (4, 128), 1, False),
        ("end", (5, 4, 128), 1, False),
        ("end", (4, 128), 3, False),
    ],
)
def test_contexts_that_do_not_fit(
    tiny: Backbone, fails: Fails, position: str, shape: tuple[int, ...], deep: int, grouped: bool
) -> None:
    layout = tiny.text.layout(NAMES, 4, position)
    fails(tiny.text.encode_prompts, layout, torch.zeros(shape), [torch.zeros(4, 128)] * deep, grouped)


def test_copies_of_a_method_share_the_backbone(tiny: Backbone) -> None:
    assert copy.deepcopy({"backbone": tiny})["backbone"] is tiny
    assert not any(p.requires_grad for p in tiny.model.parameters())
    assert not tiny.model.training
