"""The trainer: it learns, the same for a seed, goes on exactly where it was stopped, and survives lack of memory."""

from dataclasses import replace
from math import cos, pi
from pathlib import Path

import pytest
import torch

from engines.backbones import Backbone
from engines.errors import Cancelled, ConfigError
from engines.prompts import create_method
from engines.prompts.base import PromptMethod, required
from engines.prompts.settings import TrainingConfig
from engines.prompts.trainer import Epoch, Examples, probabilities, train
from tests.parity import parity_weights

CLASSES = parity_weights.CLASSES
QUICK = TrainingConfig(epochs=6, batch_size=16, learning_rate=0.02)


def fresh(tiny: Backbone, name: str = "coop", **settings: object) -> PromptMethod:
    torch.manual_seed(3)
    return create_method(name, tiny, CLASSES, **({"n_ctx": 4} if name == "coop" else {}), **settings)


def state(method: PromptMethod) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in method.state_dict().items()}


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_it_learns(tiny: Backbone, examples: Examples) -> None:
    method = fresh(tiny)
    epochs = list(train(method, examples, QUICK.model_copy(update={"epochs": 20}), seed=1))
    assert [epoch.number for epoch in epochs] == list(range(1, 21))
    assert epochs[-1].loss < 0.8 * epochs[0].loss
    assert epochs[-1].train_accuracy is not None
    assert epochs[-1].train_accuracy > 0.6
    assert epochs[-1].val_accuracy is not None


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_same_seed_same_prompt(tiny: Backbone, examples: Examples, optimizer: str) -> None:
    config = QUICK.model_copy(update={"optimizer": optimizer})
    first, second, other = fresh(tiny), fresh(tiny), fresh(tiny)
    for method, seed in ((first, 1), (second, 1), (other, 2)):
        list(train(method, examples, config, seed))
    assert equal(state(first), state(second))
    assert not equal(state(first), state(other))


@pytest.mark.parametrize("stop_after", range(1, 12, 3))
def test_resume_is_exact(tiny: Backbone, examples: Examples, tmp_path: Path, stop_after: int) -> None:
    undisturbed = fresh(tiny)
    list(train(undisturbed, examples, QUICK, seed=1))

    def stop(done: int, total: int) -> None:
        if done == stop_after:
            raise Cancelled

    with pytest.raises(Cancelled):
        list(train(fresh(tiny), examples, QUICK, 1, tmp_path / "c.pt", stop))
    resumed = fresh(tiny)
    torch.manual_seed(99)  # whatever happened in between
    steps: list[int] = []
    epochs = list(train(resumed, examples, QUICK, 1, tmp_path / "c.pt", lambda done, total: steps.append(done)))
    assert [epoch.number for epoch in epochs] == list(range(1, 7))
    assert steps[0] == (stop_after - 1) // 2 * 2 + 1  # 40 images in batches of 16 are 2 steps a pass
    assert equal(state(resumed), state(undisturbed))


@pytest.mark.parametrize("damage", [b"", b"no checkpoint", None])
def test_damaged_checkpoint_costs_time_only(
    tiny: Backbone, examples: Examples, tmp_path: Path, damage: bytes | None
) -> None:
    file, undisturbed = tmp_path / "c.pt", fresh(tiny)
    list(train(undisturbed, examples, QUICK, 1, file))
    file.write_bytes(file.read_bytes()[:100] if damage is None else damage)
    method = fresh(tiny)
    assert len(list(train(method, examples, QUICK, 1, file))) == QUICK.epochs
    assert equal(state(method), state(undisturbed))


def test_checkpoint_of_other_settings_is_not_used(tiny: Backbone, examples: Examples, tmp_path: Path) -> None:
    list(train(fresh(tiny), examples, QUICK, 1, tmp_path / "c.pt"))
    longer = QUICK.model_copy(update={"epochs": 7})
    assert len(list(train(fresh(tiny), examples, longer, 1, tmp_path / "c.pt"))) == 7


def test_full_disk_while_saving_keeps_the_older_checkpoint(
    tiny: Backbone, examples: Examples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "c.pt"
    training = train(fresh(tiny), examples, QUICK, 1, file)
    next(training)
    before = file.read_bytes()
    monkeypatch.setattr(torch, "save", lambda *args: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        next(training)
    assert file.read_bytes() == before


def test_lack_of_memory_splits_the_batch_and_changes_nothing(
    tiny: Backbone, examples: Examples, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed, method = fresh(tiny), fresh(tiny)
    list(train(undisturbed, examples, QUICK, 1))
    plain = type(method).backward

    def short_of_memory(self: PromptMethod, pixels: object, labels: torch.Tensor, **kwargs: object) -> torch.Tensor:
        if len(labels) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(self, pixels, labels, **kwargs)

    monkeypatch.setattr(type(method), "backward", short_of_memory)
    epochs = list(train(method, examples, QUICK, 1))
    assert "4 at a time" in epochs[0].note
    assert torch.allclose(method.ctx, undisturbed.ctx, atol=1e-6)


def test_an_unrelated_error_is_not_taken_for_lack_of_memory(
    tiny: Backbone, examples: Examples, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = fresh(tiny)

    def broken(*args: object, **kwargs: object) -> torch.Tensor:
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(type(method), "backward", broken)
    with pytest.raises(RuntimeError, match="shapes differ"):
        list(train(method, examples, QUICK, 1))


def test_live_pixels(tiny: Backbone) -> None:
    pixels, seen = parity_weights.images(), []

    def live(indices: torch.Tensor, epoch: int) -> torch.Tensor:
        seen.append((epoch, indices.tolist()))
        return pixels[indices]

    config = TrainingConfig(epochs=2, batch_size=4)
    (first, second) = train(fresh(tiny), Examples(parity_weights.labels(), pixels=live), config, seed=1)
    assert isinstance(first, Epoch)
    assert second.train_accuracy is None
    for epoch in (0, 1):
        assert sorted(i for e, indices in seen if e == epoch for i in indices) == list(range(8))


def test_step_size_falls_from_step_to_step(tiny: Backbone, examples: Examples) -> None:
    config = TrainingConfig(epochs=2, batch_size=10, learning_rate=0.1, schedule="cosine-steps", warmup_epochs=0)
    epochs = list(train(fresh(tiny), examples, config, 1))
    # Four steps a pass: the last of the first pass is step 3 of 8, the last of all step 7.
    assert [e.learning_rate for e in epochs] == pytest.approx([0.05 * (1 + cos(pi * s / 8)) for s in (3, 7)])


def test_a_training_that_diverges_says_so_and_leaves_the_last_good_state(
    tiny: Backbone, examples: Examples, tmp_path: Path
) -> None:
    method = create_method("coop", tiny, CLASSES, n_ctx=4)
    checkpoint = tmp_path / "checkpoint.pt"
    next(train(method, examples, QUICK, 1, checkpoint))
    good = checkpoint.read_bytes()
    broken = replace(examples, features=torch.full_like(required(examples.features), torch.inf))
    with pytest.raises(ConfigError, match=r"diverged in pass 2.*smaller step size"):
        list(train(create_method("coop", tiny, CLASSES, n_ctx=4), broken, QUICK, 1, checkpoint))
    assert checkpoint.read_bytes() == good


def test_zero_shot_trains_nothing(tiny: Backbone, examples: Examples) -> None:
    assert list(train(fresh(tiny, "zero-shot"), examples, QUICK, 1)) == []


def test_linear_probe(tiny: Backbone, examples: Examples) -> None:
    from sklearn.linear_model import LogisticRegression

    method = fresh(tiny, "linear-probe", sweep=False, strength=1.0)
    (epoch,) = train(method, examples, QUICK, 1)
    assert epoch.train_accuracy == 1.0
    x = torch.nn.functional.normalize(examples.features, dim=-1).flatten(0, 1).numpy()
    reference = LogisticRegression(C=1.0, max_iter=1000).fit(x, examples.labels.repeat(3))
    ours = probabilities(method, examples.features[0])
    theirs = reference.predict_proba(torch.nn.functional.normalize(examples.features[0], dim=-1).numpy())
    assert abs(ours - theirs).max() < 1e-3


def test_linear_probe_of_two_classes_and_a_class_without_images(tiny: Backbone, examples: Examples) -> None:
    keep = examples.labels < 2
    two = Examples(examples.labels[keep], examples.features[:, keep])
    method = fresh(tiny, "linear-probe")
    (epoch,) = train(method, two, QUICK, 1)
    assert epoch.train_accuracy == 1.0
    assert (probabilities(method, two.features[0])[:, 2:] == 0).all()


def test_probabilities_sum_to_one(tiny: Backbone, examples: Examples) -> None:
    rows = probabilities(fresh(tiny), examples.features[0], batch=7)
    assert rows.shape == (40, 5)
    assert abs(rows.sum(axis=1) - 1).max() < 1e-5
