"""The opened pipeline: equal to diffusers' own answers in every layout, captions, errors in words."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.diffusion.attention import AttentionRecorder
from engines.diffusion.dynamic import MapReader
from engines.diffusion.loading import load_text_to_image
from engines.diffusion.model import CLEAN, Conditions, TextToImage, guide, memory_watched
from engines.diffusion.words import adjectives_of, read_caption, split_words
from engines.errors import BackboneError, ConfigError
from tests.diffusion.tiny import Name, thin_unet, tiny_model, tiny_pipeline, tokenizer

LAYOUTS: list[Name] = ["sd1", "sd2", "sdxl"]
CAPTIONS = ["a cat and a dog", "a dermatofibroma"]


@pytest.fixture(scope="module", params=LAYOUTS)
def model(request: pytest.FixtureRequest) -> TextToImage:
    return tiny_model(request.param)


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_whole_run_equals_the_pipelines_own(name: Name) -> None:
    pipe = tiny_pipeline(name)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, clip_sample=False)
    model = TextToImage.from_pipeline(pipe)
    start = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(1))
    pipe.set_progress_bar_config(disable=True)
    theirs = pipe("a cat and a dog", num_inference_steps=5, guidance_scale=3.0, latents=start, output_type="latent")
    with torch.no_grad():
        both = Conditions.joined(model.unconditional(), model.encode(["a cat and a dog"]))
        latents = start
        for level, lower in pairwise(model.levels(5)):
            without, noise = model.predict(latents.repeat(2, 1, 1, 1), level, both).chunk(2)
            latents = model.move(latents, guide(without, noise, 3.0), level, lower)
    torch.testing.assert_close(latents, theirs.images, rtol=1e-4, atol=1e-4)


def test_moving_up_and_down_along_the_same_noise_leads_back(model: TextToImage) -> None:
    latents, noise = torch.randn(2, 1, 4, 16, 16, generator=torch.Generator().manual_seed(2))
    up = model.move(latents, noise, CLEAN, 981)
    torch.testing.assert_close(model.move(up, noise, 981, CLEAN), latents, rtol=1e-3, atol=1e-3)


def test_predicted_noise_is_noise(model: TextToImage) -> None:
    """Whatever the UNet predicts: clean latents by that noise and the level have the level's mixture."""
    latents = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        conditions = model.encode(["a cat"])
        noise = model.predict(latents, 501, conditions)
        if model.prediction == "v_prediction":
            velocity = model.unet(latents, 501, conditions.states).sample
            alpha = model.scheduler.alphas_cumprod[501]
            clean = alpha.sqrt() * latents - (1 - alpha).sqrt() * velocity
            torch.testing.assert_close(alpha.sqrt() * clean + (1 - alpha).sqrt() * noise, latents, rtol=1e-4, atol=1e-5)
    assert noise.shape == latents.shape


def test_replaced_embeddings_count_and_carry_gradients(model: TextToImage) -> None:
    embedded = model.embed(CAPTIONS)
    plain = model.encode(CAPTIONS)
    torch.testing.assert_close(model.encode(embedded).states, plain.states)
    rows = [torch.zeros(1, table.shape[-1], requires_grad=True) for table in embedded.rows]
    changed = model.encode(embedded.replaced(0, [2], rows))
    torch.testing.assert_close(changed.states[1], plain.states[1])
    torch.testing.assert_close(changed.states[0, :2], plain.states[0, :2])  # causal: what stands before is untouched
    assert float((changed.states[0, 2:] - plain.states[0, 2:]).detach().abs().max()) > 1e-4
    changed.states.square().sum().backward()
    assert all(row.grad is not None and float(row.grad.abs().sum()) > 0 for row in rows)
    torch.testing.assert_close(model.encode(CAPTIONS).states, plain.states)


def test_images_become_latents_and_images_again(model: TextToImage) -> None:
    pixels = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(4))
    mean, drawn = model.encode_image(pixels), model.encode_image(pixels, seed=0)
    assert mean.shape == (2, 4, 16, 16)
    assert not torch.equal(mean, drawn)
    torch.testing.assert_close(drawn, model.encode_image(pixels, seed=0))
    back = model.decode(mean)
    assert back.shape == pixels.shape
    assert 0 <= float(back.min()) <= float(back.max()) <= 1
    for shape in [(32, 30), (33, 33), (1, 1), (0, 0)]:
        with pytest.raises(ConfigError, match="square"):
            model.encode_image(torch.zeros(1, 3, *shape))


def test_sizes_of_maps(model: TextToImage) -> None:
    assert model.attention_sides(16, "cross") == [16, 8]
    # Two blocks: layers see the latents' own side and half of it.
    assert {side: model.map_side(torch.zeros(1, 4, side, side)) for side in (8, 16, 32)} == {8: 8, 16: 16, 32: 16}
    with pytest.raises(BackboneError, match="too fine"):
        model.map_side(torch.zeros(1, 4, 64, 64))


@pytest.mark.parametrize(
    ("blocks", "latents", "cross", "read"),
    [
        ("CCC-", 64, [64, 32, 16, 8], 16),  # Stable Diffusion 1 and 2 at 512 pixels
        ("CCC-", 96, [96, 48, 24, 12], 24),  # Stable Diffusion 2 at 768
        ("-CC", 128, [64, 32], 32),  # SDXL at 1024
    ],
)
def test_sizes_of_maps_in_released_models(blocks: str, latents: int, cross: list[int], read: int) -> None:
    model = thin_unet(blocks, latents)
    assert model.attention_sides(latents, "cross") == cross
    assert model.map_side(torch.zeros(1, 4, latents, latents)) == read


def test_maps_are_those_that_a_whole_run_records() -> None:
    """As in Stable Diffusion 1, where five layers see an image of 16 and the largest blocks come behind them."""
    model = thin_unet("CCC-", 64)
    latents = torch.randn(1, 4, 64, 64, generator=torch.Generator().manual_seed(6))
    layers = model.attention_layers(64, "cross")
    assert [name.split(".")[:2] for name, side in layers.items() if side == 16] == [
        ["down_blocks", "2"],
        ["down_blocks", "2"],
        ["up_blocks", "1"],
        ["up_blocks", "1"],
        ["up_blocks", "1"],
    ]
    ends: list[bool] = []
    handle = model.unet.conv_out.register_forward_hook(lambda *_: ends.append(True))
    with torch.no_grad():
        conditions = model.encode(["a cat"])
        whole = MapReader(model, latents, 501, whole=True).read(conditions)
        assert len(ends) == 1
        torch.testing.assert_close(MapReader(model, latents, 501).read(conditions), whole)
        assert len(ends) == 1
        with AttentionRecorder(model.unet, [16]) as recorder:
            model.predict(latents, 501, conditions)
            torch.testing.assert_close(recorder.word_maps()[0], whole)
    assert len(ends) == 2
    handle.remove()


def test_steps_that_cannot_be_run_are_told(model: TextToImage) -> None:
    assert model.levels(4) == [751, 501, 251, 1, CLEAN]
    for steps in (0, -3, 1001):
        with pytest.raises(ConfigError, match=r"between 1 and 1000"):
            model.levels(steps)


def test_words_of_several_tokens_and_emoji_have_positions(model: TextToImage) -> None:
    caption = model.caption("A dermatofibroma, and a 🐱‍👤 cat's T-shirt")
    positions = {word.text: word.positions for word in caption.words}
    assert positions["dermatofibroma"] == (2, 3, 4, 5, 6)
    assert positions["🐱‍👤"] == (10, 11, 12, 13)
    assert positions["cat's"] == (14, 15)
    assert positions["T-shirt"] == (16, 17, 18)
    assert caption.unread == ""
    assert caption.find("a 🐱‍👤").positions == (9, 10, 11, 12, 13)
    assert caption.find("DERMATOFIBROMA").positions == (2, 3, 4, 5, 6)
    assert caption.find(5).text == "cat's"


@pytest.mark.parametrize("name", ["horse", "", "cat dog", "dermato", -1, 99])
def test_words_that_are_not_in_the_caption_are_told(model: TextToImage, name: str | int) -> None:
    with pytest.raises(ConfigError, match="caption"):
        model.caption("a cat and a dermatofibroma").find(name)
    with pytest.raises(ConfigError, match="caption"):
        model.caption("").find("cat")


@pytest.mark.parametrize(
    ("caption", "nouns", "expected"),
    [
        ("a red circle and a blue star on grass", [2, 6], {2: 1, 6: 5}),
        ("red circle", [1], {1: 0}),
        ("a circle and the star", [1, 4], {}),  # an article is no adjective
        ("cat dog", [0, 1], {}),  # a chosen word is none, either; before the first there is nothing
    ],
)
def test_the_word_before_an_object_may_be_its_adjective(
    caption: str, nouns: list[int], expected: dict[int, int]
) -> None:
    assert adjectives_of(split_words(caption), nouns) == expected


@settings(deadline=None)
@given(text=st.text(max_size=40) | st.text("ab ,.'-<🐱é皮\u200b\u0301\u200d🏽\n", max_size=40))
def test_every_word_of_any_caption_is_found_or_told(text: str) -> None:
    caption = read_caption(text, tokenizer(), room=20)
    assert [word.text for word in caption.words] == split_words(text)
    taken = [position for word in caption.words for position in word.positions]
    assert taken == sorted(set(taken))
    assert all(1 <= position <= 18 for position in taken)
    for number, word in enumerate(caption.words):
        if word.positions and not word.cut:
            assert caption.find(number) == word
        else:
            with pytest.raises(ConfigError, match=r"reads nothing|too long"):
                caption.find(number)
    assert text.endswith(caption.unread)


def test_a_caption_that_is_too_long_is_told_at_the_word(model: TextToImage) -> None:
    caption = model.caption("a " * 78 + "cat and a dog")
    assert caption.unread == "a a a cat and a dog"
    assert caption.words[74].positions == (75,)
    with pytest.raises(ConfigError, match="too long"):
        caption.find("cat")
    assert model.encode([caption.text]).states.shape[1] == 77


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_saved_pipeline_is_loaded_again(name: Name, tmp_path: Path) -> None:
    pipe = tiny_pipeline(name)
    pipe.save_pretrained(tmp_path, safe_serialization=True)
    ours, theirs = load_text_to_image(tmp_path, "cpu", slicing=True), TextToImage.from_pipeline(pipe)
    latents = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        expected = theirs.predict(latents, 501, theirs.encode(["a cat"]))
        torch.testing.assert_close(ours.predict(latents, 501, ours.encode(["a cat"])), expected, rtol=1e-4, atol=1e-5)


def test_folders_that_hold_no_such_model_are_told(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match="no text-to-image model"):
        load_text_to_image(tmp_path, "cpu")
    index = tmp_path / "model_index.json"
    for text in ("{", "[]", "7"):
        index.write_text(text)
        with pytest.raises(BackboneError, match="cannot be read"):
            load_text_to_image(tmp_path, "cpu")
    index.write_text(json.dumps({"transformer": ["diffusers", "SD3Transformer2DModel"], "vae": None}))
    with pytest.raises(BackboneError, match="another kind of model: unet is None"):
        load_text_to_image(tmp_path, "cpu")


def test_damaged_and_unsafe_weights_are_told(tmp_path: Path) -> None:
    tiny_pipeline("sd1").save_pretrained(tmp_path, safe_serialization=True)
    weights = tmp_path / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(BackboneError, match="cannot be read"):
        load_text_to_image(tmp_path, "cpu")
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(BackboneError, match="safetensors"):
        load_text_to_image(tmp_path, "cpu")


def test_models_that_cannot_be_used_are_told() -> None:
    pipe = tiny_pipeline("sd1")
    pipe.unet.register_to_config(in_channels=9)
    with pytest.raises(BackboneError, match="reads 9 channels"):
        TextToImage.from_pipeline(pipe)
    pipe = tiny_pipeline("sdxl")
    pipe.text_encoder = None
    with pytest.raises(BackboneError, match="missing"):
        TextToImage.from_pipeline(pipe)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes"),
        RuntimeError("MPS backend out of memory"),
        MemoryError(),
    ],
)
def test_too_little_memory_is_told(error: Exception) -> None:
    with pytest.raises(BackboneError, match="attention slicing"), memory_watched():
        raise error


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="shapes"), memory_watched():
        raise RuntimeError("shapes cannot be multiplied")


def test_fingerprints_tell_models_apart_in_any_precision() -> None:
    model, other = tiny_model("sd1"), tiny_model("sd1", seed=1)
    assert model.fingerprint != other.fingerprint
    same = tiny_model("sd1")
    same.unet.half()
    assert same.fingerprint == model.fingerprint
