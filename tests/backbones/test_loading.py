"""Models from folders, files and names; and one clear sentence where that cannot be."""

from __future__ import annotations

import copy
import json
import os
import pickle
import random
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from engines.backbones import Backbone, load_backbone
from tests.backbones.conftest import (
    TIMM,
    Fails,
    bert_settings,
    model_settings,
    random_model,
    wrap,
    write_bert,
    write_folder,
)
from tests.parity import parity_weights

RESNET = {"layers": [1, 1, 1, 1], "width": 8, "patch_size": None, "head_width": 8, "image_size": 32}
OPENAI = {"vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8}, "embed_dim": 48}
OPENAI_TEXT = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 2}


def openai_like(vision: dict[str, Any] | None = None) -> nn.Module:
    """A model in the layout of OpenAI's releases: QuickGELU, heads of width 64."""
    settings = {**OPENAI, "text_cfg": OPENAI_TEXT, "quick_gelu": True}
    return random_model(settings | ({"vision_cfg": vision} if vision else {}))


def assert_same_features(mine: Backbone, model: nn.Module) -> None:
    texts = ["a photo of a cat.", "melanoma"]
    size = mine.image_size
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model.encode_text(open_clip.SimpleTokenizer()(texts))
        torch.testing.assert_close(mine.encode_text(texts), expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(mine.encode_image(images), model.encode_image(images), rtol=1e-5, atol=1e-5)


FOLDERS = {
    "CLIP": model_settings(),
    "QuickGELU": model_settings(quick_gelu=True),
    "text tower of its own": model_settings(custom_text=True),
    "ResNet": model_settings(RESNET),
    "timm": {**model_settings(custom_text=True), "vision_cfg": TIMM},
}


class TestFolders:
    @pytest.mark.parametrize("settings", FOLDERS.values(), ids=FOLDERS.keys())
    def test_every_layout(self, tmp_path: Path, settings: dict[str, Any]) -> None:
        model = random_model(settings)
        folder = write_folder(tmp_path / "my model", settings, model)
        backbone = load_backbone(str(folder))
        assert backbone.name == "my model"
        assert backbone.mean == (0.5, 0.5, 0.5)
        assert backbone.std == (0.25, 0.25, 0.25)
        assert_same_features(backbone, model.eval())
        assert sorted(p.name for p in folder.iterdir()) == ["open_clip_config.json", "open_clip_model.safetensors"]

    def test_torch_file_with_wrappers(self, tmp_path: Path) -> None:
        model = random_model(model_settings())
        folder = write_folder(tmp_path / "model", model_settings())
        state = {f"module.{name}": value for name, value in model.state_dict().items()}
        torch.save({"epoch": 3, "state_dict": state}, folder / "open_clip_pytorch_model.bin")
        assert_same_features(load_backbone(str(folder)), model)

    def test_half_precision_becomes_float32(self, tmp_path: Path) -> None:
        model = random_model(model_settings()).half()
        backbone = load_backbone(str(write_folder(tmp_path / "half", model_settings(), model)))
        assert {p.dtype for p in backbone.model.parameters()} == {torch.float32}
        assert_same_features(backbone, model.float())

    def test_text_tower_at_top_level_for_a_model_with_its_own(self, tmp_path: Path) -> None:
        model = random_model(model_settings())
        folder = write_folder(tmp_path / "model", model_settings(custom_text=True), model)
        assert_same_features(load_backbone(f"local-dir:{folder}"), model)

    def test_models_folder_by_name(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("PROMPTLOUPE_MODELS", str(tmp_path))
        write_folder(tmp_path / "clinic-clip", model_settings(), random_model(model_settings()))
        assert load_backbone("clinic-clip").name == "clinic-clip"

    def test_relative_path(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        write_folder(tmp_path / "here", model_settings(), random_model(model_settings()))
        monkeypatch.chdir(tmp_path)
        assert load_backbone("./here").name == "here"


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nn.Module]:
    """A folder with everything, and the model in it."""
    folder = write_bert(tmp_path_factory.mktemp("bert"))
    settings = bert_settings(folder)
    model = random_model(settings)
    return write_folder(folder, settings, model), model


def copied(bert: tuple[Path, nn.Module], target: Path, without: tuple[str, ...] = ()) -> Path:
    """The folder as the hub hands it out: its text model is named by a hub id, some files are missing."""
    target.mkdir()
    for file in bert[0].iterdir():
        if file.name not in without:
            (target / file.name).write_bytes(file.read_bytes())
    config = json.loads((target / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"] |= {"hf_model_name": "org/bert", "hf_tokenizer_name": "org/bert"}
    (target / "open_clip_config.json").write_text(json.dumps(config))
    return target


class TestHuggingFaceTextTowers:
    @pytest.mark.parametrize("without", [(), ("config.json",), ("tokenizer_config.json",)], ids=str)
    def test_offline_folders(self, bert: tuple[Path, nn.Module], tmp_path: Path, without: tuple[str, ...]) -> None:
        folder = copied(bert, tmp_path / "biomed", without)
        before = sorted(p.name for p in folder.iterdir())
        backbone = load_backbone(str(folder))
        assert sorted(p.name for p in folder.iterdir()) == before
        model = bert[1].eval()
        texts = ["a photo of a cat.", "an oak tree"]
        ids = torch.tensor([[2, 5, 15, 8, 5, 39, 48, 3], [2, 6, 45, 46, 3, 0, 0, 0]])
        with torch.no_grad():
            torch.testing.assert_close(backbone.encode_text(texts), model.encode_text(ids), rtol=1e-5, atol=1e-5)

    def test_prompts_in_every_position(self, bert: tuple[Path, nn.Module]) -> None:
        backbone = load_backbone(str(bert[0]))
        assert not backbone.supports.causal_text
        names = ["cat", "golden retriever", "oak"]
        for position in ("end", "middle", "front"):
            layout = backbone.text.layout(names, 4, position)
            assert layout.name_lengths == (1, 2, 1)
            context = (0.1 * torch.randn(4, 64)).requires_grad_()
            features = backbone.text.encode_prompts(layout, context)
            rows = layout.rows(context)
            alone = torch.cat(
                [
                    backbone.text.encode_embeddings(rows[c : c + 1, :n], layout.eot[c : c + 1])
                    for c, n in enumerate(layout.lengths)
                ]
            )
            torch.testing.assert_close(features, alone, rtol=1e-5, atol=1e-5)
            (gradient,) = torch.autograd.grad(features.square().sum(), context)
            assert gradient.abs().min() > 0
            specific = backbone.text.encode_prompts(layout, context.expand(3, 4, 64))
            grouped = backbone.text.encode_prompts(layout, context.expand(2, 4, 64), per_group=True)
            torch.testing.assert_close(specific, features, rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(grouped[1], features, rtol=1e-5, atol=1e-5)

    def test_deep_prompts(self, bert: tuple[Path, nn.Module]) -> None:
        backbone = load_backbone(str(bert[0]))
        layout = backbone.text.layout(["cat", "oak tree"], 2)
        context, deep = torch.randn(2, 64), [torch.randn(2, 64, requires_grad=True) for _ in range(2)]
        features = backbone.text.encode_prompts(layout, context, deep)
        assert (features - backbone.text.encode_prompts(layout, context)).abs().max() > 1e-3
        encoder, seen = backbone.model.text.transformer.encoder.layer, []
        handle = encoder[2].register_forward_hook(lambda _, args, out: seen.append(args[0]))
        backbone.text.encode_prompts(layout, context, deep)
        handle.remove()
        torch.testing.assert_close(seen[0][:, 1:3], deep[1].expand(2, 2, 64))
        for gradient in torch.autograd.grad(features.square().sum(), deep):
            assert gradient.abs().max() > 0

    def test_nearest_words(self, bert: tuple[Path, nn.Module]) -> None:
        backbone = load_backbone(str(bert[0]))
        near = backbone.text.nearest_words(backbone.text.embed_words("golden retriever"), 1)
        assert [row[0].word for row in near] == ["golden", "retriever"]

    @pytest.mark.parametrize(
        ("without", "says"),
        [
            (("vocab.txt", "tokenizer_config.json"), "tokenizer.json"),
            (("vocab.txt",), "tokeniser"),
            (("open_clip_model.safetensors",), "no weights"),
        ],
    )
    def test_missing_files(
        self, bert: tuple[Path, nn.Module], tmp_path: Path, fails: Fails, without: tuple[str, ...], says: str
    ) -> None:
        assert says in fails(load_backbone, str(copied(bert, tmp_path / "biomed", without)))

    def test_roberta_needs_its_settings(self, bert: tuple[Path, nn.Module], tmp_path: Path, fails: Fails) -> None:
        folder = copied(bert, tmp_path / "model", ("config.json",))
        config = (folder / "open_clip_config.json").read_text()
        (folder / "open_clip_config.json").write_text(config.replace("org/bert", "org/roberta-base"))
        assert "config.json" in fails(load_backbone, str(folder))


class TestOpenAILayout:
    @pytest.mark.parametrize("vision", [None, RESNET | {"head_width": 64}], ids=["ViT", "ResNet"])
    @pytest.mark.parametrize("name", ["weights.safetensors", "weights.pt"])
    def test_files_are_exact(self, tmp_path: Path, vision: dict[str, Any] | None, name: str) -> None:
        if vision:
            vision = vision | {"width": 16}
        model = openai_like(vision)
        state = model.state_dict() | {"input_resolution": torch.tensor(32), "context_length": torch.tensor(77)}
        (save_file if name.endswith("safetensors") else torch.save)(state, tmp_path / name)
        backbone = load_backbone(str(tmp_path / name))
        assert_same_features(backbone, model.eval())
        for key, value in model.state_dict().items():
            assert torch.equal(backbone.model.state_dict()[key], value), key

    def test_state_dict_is_copied(self) -> None:
        state = openai_like().state_dict()
        backbone = Backbone.from_state_dict(state)
        before = backbone.encode_text(["a"])
        state["text_projection"].zero_()
        assert torch.equal(backbone.encode_text(["a"]), before)

    def test_weight_file_for_a_named_architecture(self, tmp_path: Path) -> None:
        model = random_model(open_clip.get_model_config("ViT-S-32-alt"))
        save_file(model.state_dict(), tmp_path / "mine.safetensors")
        backbone = load_backbone("ViT-S-32-alt", pretrained=str(tmp_path / "mine.safetensors"))
        assert backbone.name == "ViT-S-32-alt:mine"
        assert_same_features(backbone, model.eval())

    def test_tag_put_into_the_models_folder_by_hand(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """And the tag, not the architecture's name, decides about QuickGELU."""
        monkeypatch.setenv("PROMPTLOUPE_MODELS", str(tmp_path))
        monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "ViT-Tiny", model_settings())
        tag = {"hf_hub": "org/tiny/", "quick_gelu": True, "mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)}
        monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "ViT-Tiny", {"openai": tag})
        model = random_model(model_settings(quick_gelu=True))
        save_file(model.state_dict(), tmp_path / "ViT-Tiny--openai.safetensors")
        for name in ("ViT-Tiny:openai", "ViT-Tiny/openai"):
            backbone = load_backbone(name)
            assert backbone.name == "ViT-Tiny:openai"
            assert backbone.mean == (0.1, 0.2, 0.3)
            assert_same_features(backbone, model.eval())
        assert load_backbone("ViT-Tiny", pretrained="openai") is backbone


class TestFacts:
    def test_fingerprint_is_stable_and_tells_models_apart(self, tmp_path: Path) -> None:
        state = openai_like().state_dict()
        save_file(state, tmp_path / "w.safetensors")
        first = Backbone.from_state_dict(state).fingerprint
        code = "import sys; from engines.backbones import load_backbone; print(load_backbone(sys.argv[1]).fingerprint)"
        command = [sys.executable, "-c", code, str(tmp_path / "w.safetensors")]
        elsewhere = subprocess.run(command, capture_output=True, text=True, check=True)
        assert elsewhere.stdout.strip() == first
        other = copy.deepcopy(state)
        other["visual.conv1.weight"][0, 0, 0, 0] += 1e-6
        assert Backbone.from_state_dict(other).fingerprint != first
        gelu = random_model({**OPENAI, "text_cfg": OPENAI_TEXT})
        gelu.load_state_dict(state)
        assert wrap(gelu).fingerprint != first

    def test_numbers(self, tiny: Backbone) -> None:
        assert (tiny.embed_dim, tiny.text_width, tiny.vision_width, tiny.image_size) == (64, 128, 128, 32)
        assert tiny.logit_scale.ndim == 0
        assert tiny.logit_scale.item() == pytest.approx(1 / 0.07, rel=1e-5)
        assert tiny.dtype == torch.float32

    def test_warm_models_are_handed_out_again(self, tmp_path: Path) -> None:
        path = tmp_path / "w.safetensors"
        save_file(openai_like().state_dict(), path)
        first = load_backbone(str(path))
        assert load_backbone(str(path)) is first
        os.utime(path, (1, 1))
        assert load_backbone(str(path)) is not first


def test_half_finished_models_are_never_random(tmp_path: Path, fails: Fails) -> None:
    """No weights, or weights of half a model: an error, not a model with drawn weights."""
    fails(load_backbone, str(write_folder(tmp_path / "empty", model_settings())))
    half = {n: v for n, v in random_model(model_settings()).state_dict().items() if n.startswith("visual.")}
    folder = write_folder(tmp_path / "half", model_settings())
    save_file(half, folder / "open_clip_model.safetensors")
    assert "missing" in fails(load_backbone, str(folder))


NAMES = {
    "": "Name one",
    "   ": "Name one",
    "no-such-model": "promptloupe backbones",
    "ViT-B-16": "ViT-B-16:openai",
    "ViT-B/16": "ViT-B-16:openai",
    "vit-b-16:openai": "'ViT-B-16'",
    "ViT-B-61:openai": "'ViT-B-16'",
    "ViT-B-16:openia": "'openai'",
    "ViT-B-16/openia": "'openai'",
    "ViT-B-16:": "laion",
    "RN50:laion400m_e32": "'RN50'",
    "mt5-base-ViT-B-32": "weight file",
    "ViT-B-16:openai": "PROMPTLOUPE_ONLINE=1",
    "ViT-B-16-SigLIP:webli": "PROMPTLOUPE_ONLINE=1",
    "RN50:yfcc15m": "PROMPTLOUPE_ONLINE=1",
    "hf-hub:org/model": "PROMPTLOUPE_ONLINE=1",
    "hf-hub:": "hf-hub:organisation/name",
    "hf-hub:a/b/c": "hf-hub:organisation/name",
    "hf-hub:../../etc": "hf-hub:organisation/name",
    "/no/such/folder": "Check the path",
    "./nothing": "Check the path",
    "weights.safetensors": "Check the path",
    "local-dir:/no/such": "Check the path",
    "~/no such file.pt": "Check the path",
    "mini\0clip": "'mini-clip'",
    "a" * 5000: "promptloupe backbones",
    "<b>ViT</b>": "Did you mean",
}


@pytest.mark.parametrize(("name", "remedy"), NAMES.items(), ids=[n[:20] for n in NAMES])
def test_names_that_refer_to_nothing(
    name: str, remedy: str, fails: Fails, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the network was used although downloads are off")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert remedy in fails(load_backbone, name)


def _write_bytes(data: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(data)


class Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, ("touch sprung",))


def _truncated(path: Path) -> None:
    save_file(openai_like().state_dict(), path)
    path.write_bytes(path.read_bytes()[:-1000])


def _changed(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        state = openai_like().state_dict()
        change(state)
        torch.save(state, path)

    return write


BAD_FILES: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "empty": ("w.pt", _write_bytes(b""), "empty"),
    "empty safetensors": ("w.safetensors", _write_bytes(b""), "empty"),
    **{f"noise {seed}": ("w.pt", _write_bytes(random.Random(seed).randbytes(500)), "damaged") for seed in range(8)},
    "a stumbling pickle": ("w.pt", _write_bytes(b"\x80\x02u." + bytes(90)), "damaged"),
    "noise as safetensors": ("w.safetensors", _write_bytes(b"\x10" + os.urandom(500)), "damaged"),
    "web page": ("w.pt", _write_bytes(b"\n<!doctype html><html>404</html>"), "web page"),
    "git-lfs pointer": ("w.bin", _write_bytes(b"version https://git-lfs.github.com/spec/v1\noid"), "git lfs pull"),
    "truncated": ("w.safetensors", _truncated, "damaged"),
    "pickle": ("w.pt", lambda path: path.write_bytes(pickle.dumps(Trap())), "weight"),
    "torch file with code": ("w.pt", lambda path: torch.save({"state_dict": Trap()}, path), "state dict"),
    "whole model": ("w.pt", lambda path: torch.save(nn.Linear(2, 2), path), "state dict"),
    "a list": ("w.pt", lambda path: torch.save([1, 2], path), "state dict"),
    "no tensors": ("w.pt", lambda path: torch.save({"a": 1}, path), "no tensors"),
    "TorchScript": ("w.pt", lambda path: torch.jit.script(nn.Linear(2, 2)).save(str(path)), "TorchScript"),
    "another model": ("w.pt", lambda path: torch.save({"conv.weight": torch.zeros(3)}, path), "ViT-B-16"),
    "text tower missing": (
        "w.pt",
        _changed(lambda state: [state.pop(n) for n in list(state) if n.startswith("transformer.")]),
        "complete",
    ),
    "one tensor missing": ("w.pt", _changed(lambda state: state.pop("visual.ln_post.bias")), "missing"),
    "one tensor too many": ("w.pt", _changed(lambda state: state.update(more=torch.zeros(1))), "unknown"),
    "wrong shape": ("w.pt", _changed(lambda state: state.update({"visual.proj": torch.zeros(3, 3)})), "shape"),
    "narrow text tower": (
        "w.pt",
        _changed(lambda state: state.update(positional_embedding=torch.zeros(77, 32))),
        "complete",
    ),
    "scalar instead of a matrix": (
        "w.pt",
        _changed(lambda state: state.update(text_projection=torch.tensor(1.0))),
        "complete",
    ),
}


@pytest.mark.parametrize(("name", "write", "says"), BAD_FILES.values(), ids=BAD_FILES.keys())
def test_files_that_are_no_weights(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fails: Fails,
    name: str,
    write: Callable[[Path], object],
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / name)
    assert says in fails(load_backbone, str(tmp_path / name))
    assert not (tmp_path / "sprung").exists()


BAD_CONFIGS = {
    "no configuration": None,
    "not JSON": "{",
    "a list": "[]",
    "no model": "{}",
    "null": '{"model_cfg": null}',
    "no text": json.dumps({"model_cfg": {"embed_dim": 48, "vision_cfg": {"layers": 2}}}),
    "unknown setting": json.dumps({"model_cfg": model_settings({"colour": "red"})}),
    "unknown timm model": json.dumps({"model_cfg": {**model_settings(), "vision_cfg": {"timm_model_name": "nope"}}}),
    "impossible width": json.dumps({"model_cfg": model_settings(text={"width": 63})}),
    "another size": json.dumps({"model_cfg": model_settings({"image_size": 64})}),
    "more layers": json.dumps({"model_cfg": model_settings(text={"layers": 4})}),
    "wrong type": json.dumps({"model_cfg": model_settings(text={"layers": "many"})}),
}


@pytest.mark.parametrize("config", BAD_CONFIGS.values(), ids=BAD_CONFIGS.keys())
def test_folders_with_a_bad_configuration(tmp_path: Path, fails: Fails, config: str | None) -> None:
    folder = write_folder(tmp_path / "model", model_settings(), random_model(model_settings()))
    (folder / "open_clip_config.json").unlink()
    if config is not None:
        (folder / "open_clip_config.json").write_text(config)
    fails(load_backbone, str(folder))


def test_several_weight_files_and_no_usual_name(tmp_path: Path, fails: Fails) -> None:
    folder = write_folder(tmp_path / "model", model_settings())
    for name in ("a.safetensors", "b.safetensors"):
        save_file({"x": torch.zeros(1)}, folder / name)
    assert "several" in fails(load_backbone, str(folder))


@pytest.mark.parametrize(
    ("device", "precision"), [("gpu", None), ("cuda:99", None), ("cpu", "bf16"), ("cpu", "int3"), ("meta?", None)]
)
def test_devices_that_are_not_there(device: str, precision: str | None, fails: Fails, tmp_path: Path) -> None:
    save_file(parity_weights.tiny_clip_state_dict(), tmp_path / "tiny.safetensors")
    fails(load_backbone, str(tmp_path / "tiny.safetensors"), device=device, precision=precision)


def test_weights_are_read_once_needed(tmp_path: Path) -> None:
    """A loaded model shares the file's memory: nothing is copied for towers that are never used."""
    save_file(openai_like().state_dict(), tmp_path / "w.safetensors")
    backbone = load_backbone(str(tmp_path / "w.safetensors"))
    again = load_file(tmp_path / "w.safetensors")
    assert torch.equal(backbone.model.visual.proj, again["visual.proj"])
    assert not backbone.model.visual.proj.requires_grad
