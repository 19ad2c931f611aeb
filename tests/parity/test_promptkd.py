"""PromptKD against the official implementation, and its teachers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from engines.backbones import Backbone
from engines.errors import Cancelled, ConfigError, PromptloupeError
from engines.prompts import create_method, load_prompt
from engines.prompts.base import PromptMethod
from engines.prompts.promptkd import PromptKD, PromptTeacher
from engines.prompts.settings import TrainingConfig
from engines.prompts.trainer import Examples, train
from tests.parity import parity_weights
from tests.parity.checks import assert_close, assert_same_value, fill_official, load_case

CLASSES = parity_weights.CLASSES
PIXELS, LABELS = parity_weights.images(), parity_weights.labels()
UNKNOWN = torch.full((8,), -1)
OTHERS = ["lung", "a_spleen"]
NORM = "VPT_image_trans.conv1.1"
DEAD = "VPT_image_trans.conv1.0.bias"
"""A bias in front of a batch norm: its gradient is 0 but for rounding."""


class NoiseTeacher:
    """Answers made of noise, wider than the student's: those of the official cases."""

    def __init__(self, width: int = 96) -> None:
        self.logit_scale = torch.tensor(1 / 0.07)
        self.text = F.normalize(torch.from_numpy(parity_weights.noise("promptkd.teacher.text", (5, width))), dim=-1)
        images = torch.from_numpy(parity_weights.noise("promptkd.teacher.image", (8, width)))
        self.images = F.normalize(images + 0.3 * width**0.5 * self.text[LABELS], dim=-1)

    def class_vectors(self, class_names: list[str]) -> Tensor:
        return self.text[[CLASSES.index(name) for name in class_names]]

    def image_features(self, pixels: Tensor) -> Tensor:
        """Of images in the order of the cases."""
        return self.images[: len(pixels)]


def learned_prompt(backbone: Backbone, folder: Path) -> Path:
    """The official teacher: prompts of 4 words and 4 patches through 3 layers of both towers."""
    lengths = {"n_ctx_text": 4, "n_ctx_vision": 4, "prompt_depth_text": 3, "prompt_depth_vision": 3}
    prompt = create_method("promptsrc", backbone, CLASSES, **lengths)
    names = {name: value.shape for name, value in prompt.official_state_dict().items()}
    prompt.load_official(
        {name: torch.from_numpy(parity_weights.parameter(f"teacher.{name}", shape)) for name, shape in names.items()}
    )
    return prompt.save(folder / "teacher")


def fresh(backbone: Backbone, **settings: Any) -> PromptKD:
    torch.manual_seed(0)
    method = create_method("promptkd", backbone, CLASSES, **settings)
    assert isinstance(method, PromptKD)
    return method


CASES: dict[str, dict[str, Any]] = {
    "promptkd_d2_n2": {"n_ctx_vision": 2, "prompt_depth_vision": 2, "weight": 20 / 5},
    "promptkd_d3_n4": {"n_ctx_vision": 4, "prompt_depth_vision": 3, "weight": 40 / 5},
    "promptkd_teacher_d3_n4": {"n_ctx_vision": 4, "prompt_depth_vision": 3, "weight": 200 / 5},
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, backbone: Backbone, tmp_path: Path) -> tuple[dict[str, np.ndarray], PromptKD]:
    """What the official code answered, and the student with its starting values."""
    settings = CASES[request.param]
    if "teacher" in request.param:
        method = fresh(backbone, teacher_prompt=str(learned_prompt(backbone, tmp_path)), **settings)
        method.learn_from(method.teacher)
    else:
        method = fresh(backbone, **settings)
        method.learn_from(NoiseTeacher())
    fill_official(method, keep=[f"{NORM}.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")])
    return load_case(request.param), method


def test_features_equal_official_promptkd(case: tuple[dict[str, np.ndarray], PromptKD]) -> None:
    stored, method = case
    first, *deep = method.image_prompts()
    states = method.backbone.vision.hidden_states(PIXELS, first, deep)
    assert_close(method.class_vectors, stored, "teacher_text_features")
    assert_close(method.teacher.image_features(PIXELS), stored, "teacher_image_features")
    assert_close(method.teacher_logits(PIXELS), stored, "teacher_logits")
    assert_close(torch.stack([state[:, 0] for state in states]), stored, "image_block_cls")
    assert_close(method.raw_image_features(PIXELS), stored, "image_features_raw")
    assert_close(method.image_features(PIXELS), stored, "projected_eval_step0")
    assert_close(method.logits(PIXELS), stored, "logits")
    in_training = method.adapt(method.raw_image_features(PIXELS), batch_statistics=True)
    assert_close(in_training, stored, "projected_train_step0")
    assert_close(method.student_logits(PIXELS), stored, "student_logits_train_step0")


def test_training_equals_official_promptkd(case: tuple[dict[str, np.ndarray], PromptKD]) -> None:
    stored, method = case
    learned = {method.official_name(name): p for name, p in method.trainable_parameters().items()}
    optimizer = torch.optim.SGD(learned.values(), lr=0.002, momentum=0.9, weight_decay=5e-4)
    losses, terms = [], []
    for step in range(5):
        optimizer.zero_grad()
        terms.append([method.divergence(PIXELS).item()])
        losses.append(float(method.backward(PIXELS, UNKNOWN)))
        for name, parameter in learned.items() if step == 0 else ():
            assert parameter.grad is not None
            if name == DEAD:
                assert_same_value(parameter.grad, stored, f"grad.{name}", absolute=1e-4)
            else:
                assert_close(parameter.grad, stored, f"grad.{name}")
        optimizer.step()
    losses.append(method.loss(PIXELS).item())
    assert_close(np.array(losses), stored, "losses")
    assert_close(np.array(terms), stored, "loss_terms")
    for name, parameter in learned.items():
        assert_same_value(parameter, stored, f"after5.{name}")
    state = method.official_state_dict()
    assert_close(state[f"{NORM}.running_mean"], stored, "running_mean")
    assert_close(state[f"{NORM}.running_var"], stored, "running_var")
    assert_close(method.for_classes(CLASSES[:3]).logits(PIXELS), stored, "logits_after5_base")
    assert_close(method.for_classes(CLASSES[3:]).logits(PIXELS), stored, "logits_after5_novel")


def test_softness(backbone: Backbone) -> None:
    """tau^2 keeps the size of the gradient where answers are made softer."""
    student, teacher = torch.randn(8, 5), torch.randn(8, 5)
    method = fresh(backbone, temperature=2.0, weight=4.0)
    method.student_logits, method.teacher_logits = (lambda pixels: student), (lambda pixels: teacher)  # type: ignore[method-assign]
    soft = F.kl_div((student / 2).log_softmax(1), (teacher / 2).softmax(1), reduction="sum")
    assert float(method.loss(PIXELS)) == pytest.approx(20 * 2**2 / (8 * 5) * float(soft), rel=1e-5)


# --- the norm -------------------------------------------------------------------


def test_only_a_step_moves_the_running_statistics(backbone: Backbone) -> None:
    method = fresh(backbone)
    before = method.logits(PIXELS)
    method.loss(PIXELS)
    assert torch.equal(method.logits(PIXELS), before)
    method.backward(PIXELS, UNKNOWN)
    assert not torch.allclose(method.logits(PIXELS), before, atol=1e-3)


def test_parts_of_a_batch_move_them_as_one_batch_does(backbone: Backbone) -> None:
    """Each by its share: the same images twice over move them about as far as once."""
    moved = []
    for parts in (1, 2):
        method = fresh(backbone)
        for _ in range(parts):
            method.backward(PIXELS, UNKNOWN, weight=1 / parts)
        moved.append(method.state_dict()["projector.1.running_mean"])
    assert torch.allclose(moved[1], (1 - 0.95**2) / 0.1 * moved[0], atol=1e-6)


def test_a_single_image_has_no_statistics(backbone: Backbone) -> None:
    """It is normed by what was seen before, and does not move it."""
    method = fresh(backbone)
    method.learn_from(method.teacher)
    before = method.state_dict()["projector.1.running_mean"].clone()
    loss = method.backward(PIXELS[:1], UNKNOWN[:1])
    assert loss.isfinite()
    assert torch.equal(method.state_dict()["projector.1.running_mean"], before)
    assert torch.equal(method.student_logits(PIXELS[:1]), method.logits(PIXELS[:1]))
    examples = Examples(UNKNOWN[:3], pixels=lambda indices, epoch: PIXELS[indices])
    assert len(list(train(method, examples, TrainingConfig(epochs=2, batch_size=1), 1))) == 2


# --- teachers -------------------------------------------------------------------


def other_model() -> Backbone:
    """Another model with its own weights, and with pixels of its own."""
    weights = parity_weights.tiny_clip_state_dict()
    torch.manual_seed(5)
    weights["visual.proj"] = torch.randn(128, 48) / 12
    weights["text_projection"] = torch.randn(128, 48) / 12
    weights["logit_scale"] = torch.tensor(3.0)
    return Backbone.from_state_dict(weights, "other")


def test_another_model_teaches(backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wider or narrower than the student; named, or found by the prompt that was learned on it."""
    other, asked = other_model(), []
    monkeypatch.setattr("engines.prompts.promptkd.load_backbone", lambda name, **kind: asked.append(name) or other)
    plain = fresh(backbone, teacher="other", template="a picture of a {}.")
    ready_made = create_method("zero-shot", other, CLASSES, template="a picture of a {}.")
    with torch.no_grad():
        assert torch.allclose(plain.teacher_logits(PIXELS), ready_made.logits(PIXELS), atol=1e-4)
    assert plain.logits(PIXELS).shape == (8, 5)
    folder = create_method("coop", other, CLASSES[:3], n_ctx=2).save(tmp_path)
    taught = fresh(backbone, teacher_prompt=str(folder))
    assert torch.equal(taught.text_features(), load_prompt(folder, other).for_classes(CLASSES).text_features())
    assert asked == ["other", "other"]


def test_pixels_as_the_teacher_sees_them(backbone: Backbone) -> None:
    """The same grey, whatever means, deviations and sizes."""
    other = other_model()
    other.pixels = type(other.pixels)(16, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    teacher = PromptTeacher(create_method("zero-shot", other, CLASSES), backbone)
    grey = (0.6 - torch.tensor(backbone.mean)) / torch.tensor(backbone.std)
    seen = teacher.as_seen(grey[None, :, None, None].expand(2, 3, 32, 32))
    expected = (0.6 - torch.tensor(other.mean)) / torch.tensor(other.std)
    assert torch.allclose(seen, expected[None, :, None, None].expand(2, 3, 16, 16), atol=1e-5)
    own = PromptTeacher(create_method("zero-shot", backbone, CLASSES), backbone)
    assert own.as_seen(PIXELS) is PIXELS


def test_who_cannot_teach(backbone: Backbone, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no learned prompt.*prompt\.json"):
        fresh(backbone, teacher_prompt=str(tmp_path / "nowhere")).logits(PIXELS)
    with pytest.raises(PromptloupeError, match="no-such-model"):
        fresh(backbone, teacher="no-such-model").logits(PIXELS)
    folder = create_method("cocoop", backbone, CLASSES).save(tmp_path)
    with pytest.raises(ConfigError, match="CoCoOp cannot teach"):
        fresh(backbone, teacher_prompt=str(folder)).loss(PIXELS)


# --- the student without its teacher ----------------------------------------------


@pytest.fixture
def student(backbone: Backbone, tmp_path: Path) -> tuple[PromptKD, Path]:
    """Loaded from its folder after the teacher's is gone."""
    folder = learned_prompt(backbone, tmp_path)
    method = fresh(backbone, teacher_prompt=str(folder))
    examples = Examples(UNKNOWN, pixels=lambda indices, epoch: PIXELS[indices])
    list(train(method, examples, TrainingConfig(epochs=3, batch_size=4, learning_rate=0.005), 1))
    saved = method.save(tmp_path / "student")
    folder.rename(tmp_path / "gone")
    loaded = load_prompt(saved, backbone)
    assert isinstance(loaded, PromptKD)
    with torch.no_grad():
        assert torch.equal(loaded.logits(PIXELS), method.logits(PIXELS))
    return loaded, folder


def test_a_student_needs_no_teacher(
    student: tuple[PromptKD, Path], backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    method, folder = student

    def refuse(*args: object) -> None:
        raise AssertionError("text was read")

    monkeypatch.setattr(type(backbone), "encode_text", refuse)
    among = method.for_classes([CLASSES[3], CLASSES[0]])
    assert torch.allclose(among.logits(PIXELS), method.logits(PIXELS)[:, [3, 0]], atol=1e-5)
    monkeypatch.undo()
    with pytest.raises(ConfigError, match="only the classes it was taught"):
        method.for_classes([*CLASSES, "lung"])
    (folder.parent / "gone").rename(folder)
    wider = method.for_classes([*CLASSES, *OTHERS])
    assert torch.allclose(wider.logits(PIXELS)[:, :5], method.logits(PIXELS), atol=1e-4)
    assert not wider.training


def test_another_teacher_is_noticed(student: tuple[PromptKD, Path], backbone: Backbone) -> None:
    method, folder = student
    create_method("coop", backbone, CLASSES, n_ctx=2).save(folder)
    with pytest.raises(ConfigError, match="not the same any more"):
        method.for_classes(OTHERS)


def test_labels_are_never_read(backbone: Backbone) -> None:
    ends = []
    for labels in (UNKNOWN, LABELS):
        method = fresh(backbone)
        examples = Examples(labels, pixels=lambda indices, epoch: PIXELS[indices])
        list(train(method, examples, TrainingConfig(epochs=2, batch_size=4, learning_rate=0.005), 1))
        ends.append(method.state_dict())
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())


@pytest.mark.parametrize("stop_after", [1, 3])
def test_a_stopped_training_ends_the_same(backbone: Backbone, tmp_path: Path, stop_after: int) -> None:
    """Also the running statistics, and the projector, which is made when the teacher is known."""
    examples = Examples(UNKNOWN, pixels=lambda indices, epoch: PIXELS[indices])
    config = TrainingConfig(epochs=3, batch_size=4, learning_rate=0.005)

    def stop(done: int, total: int) -> None:
        if done == stop_after:
            raise Cancelled

    undisturbed = fresh(backbone)
    list(train(undisturbed, examples, config, 1))
    with pytest.raises(Cancelled):
        list(train(fresh(backbone), examples, config, 1, tmp_path / "c.pt", stop))
    resumed = fresh(backbone)
    torch.manual_seed(99)  # whatever looking up the teacher has drawn
    list(train(resumed, examples, config, 1, tmp_path / "c.pt"))
    state: dict[str, Tensor] = resumed.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in undisturbed.state_dict().items())


def test_official_checkpoints(backbone: Backbone) -> None:
    method: PromptMethod = fresh(backbone)
    method.logits(PIXELS)
    official = method.official_state_dict()
    assert official["VPT_image_trans.conv1.0.weight"].shape == (64, 64, 1, 1)
    assert "class_vectors" not in official
    again = create_method("promptkd", backbone, CLASSES)
    again.load_official({"state_dict": official})
    assert torch.equal(again.logits(PIXELS), method.logits(PIXELS))
    with pytest.raises(ConfigError, match="has the shape"):
        again.load_official(official | {"VPT_image_trans.conv1.3.bias": torch.zeros(768)})
    with pytest.raises(ConfigError, match="no place for"):
        create_method("promptkd", backbone, CLASSES, prompt_depth_vision=2).load_official(official)
