"""How well a mini-CLIP names what it sees: zero-shot accuracy on pictures it was not trained on.

``python -m engines.miniworld.evaluate DIR`` measures the model in DIR, writes ``evaluation.json`` and the model card.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from engines.miniworld import blood, fabric, phrases, samples, scenes
from engines.miniworld import model as mini
from engines.miniworld.canvas import Pixels

HELD_OUT_SEED = 7_000_003
PHOTO = phrases.TEMPLATES[0]
LABELLED_PER_CLASS = 16


@dataclass(frozen=True, slots=True)
class Question:
    """Pictures to draw, the texts to choose from, and the right text of each picture."""

    title: str
    render: Callable[[Sequence[Any], int, int], Pixels]
    specs: Sequence[Any]
    texts: Sequence[str]
    answers: Sequence[int]

    def accuracy(self, model: open_clip.CLIP) -> float:
        """Share of pictures whose nearest text is the right one."""
        pixels = self.render(self.specs, mini.IMAGE_SIZE, HELD_OUT_SEED)
        inputs = mini.normalise(torch.from_numpy(pixels))
        chosen = (image_features(model, inputs) @ text_features(model, self.texts).T).argmax(dim=1)
        return float((chosen.cpu().numpy() == np.asarray(self.answers)).mean())


def text_features(model: open_clip.CLIP, texts: Sequence[str]) -> Tensor:
    """Unit text features [C, D]."""
    tokens = open_clip.SimpleTokenizer()(list(texts)).to(model.logit_scale.device)
    with torch.inference_mode():
        return F.normalize(mini.encode_captions(model, tokens), dim=-1)


def image_features(model: open_clip.CLIP, inputs: Tensor, batch: int = 128) -> Tensor:
    """Unit image features [N, D] of network inputs [N, 3, 64, 64]."""
    device = model.logit_scale.device
    with torch.inference_mode():
        return torch.cat([F.normalize(model.encode_image(part.to(device)), dim=-1) for part in inputs.split(batch)])


def _ask(title: str, family: Any, specs: Sequence[Any], texts: dict[Any, str], key: Callable[[Any], Any]) -> Question:
    """A question whose right answer is ``texts[key(spec)]``."""
    order = list(texts)
    return Question(title, family.render, specs, list(texts.values()), [order.index(key(spec)) for spec in specs])


def questions(each: int) -> list[Question]:
    """Held-out pictures of every family, ``each`` per kind; "unseen" ones combine what training never combined."""
    rng = np.random.default_rng(HELD_OUT_SEED)
    return [*_about_blood(rng, each), *_about_fabric(rng, each), *_about_scenes(rng, each)]


def _about_blood(rng: np.random.Generator, each: int) -> list[Question]:
    smears = [blood.sample(rng, name) for name in blood.CELLS for _ in range(each)]
    spoken = [spec for spec in smears if spec.name not in blood.UNNAMED]
    names = {name: PHOTO.format(name) for name in blood.CELLS}
    named = {name: text for name, text in names.items() if name not in blood.UNNAMED}
    described = {name: sentences[0] for name, sentences in samples.BLOOD_DESCRIPTIONS.items()}
    return [
        _ask("blood: 14 classes by name", blood, smears, names, lambda s: s.name),
        _ask("blood: the 9 classes named in training", blood, spoken, named, lambda s: s.name),
        _ask("blood: 14 classes by description", blood, smears, described, lambda s: s.name),
    ]


def _about_fabric(rng: np.random.Generator, each: int) -> list[Question]:
    seen = [fabric.sample(rng, pair) for pair in fabric.SEEN for _ in range(each)]
    unseen = [fabric.sample(rng, pair) for pair in sorted(fabric.LEFT_OUT) for _ in range(each)]
    patterns = {pattern: f"{pattern} texture." for pattern in fabric.PATTERNS}
    defects = {defect: f"fabric with {words}" for defect, words in fabric.DEFECT_WORDS.items()}
    pairs = {
        (pattern, defect): f"{phrases.with_article(pattern)} fabric with {fabric.DEFECT_WORDS[defect]}"
        for pattern, defect in fabric.PAIRS
    }
    return [
        _ask("fabric: 8 patterns", fabric, seen, patterns, lambda s: s.pattern),
        _ask("fabric: 8 defects", fabric, seen, defects, lambda s: s.defect),
        _ask("fabric: 64 pattern-defect pairs, seen ones", fabric, seen, pairs, lambda s: (s.pattern, s.defect)),
        _ask("fabric: 64 pattern-defect pairs, unseen ones", fabric, unseen, pairs, lambda s: (s.pattern, s.defect)),
    ]


def _about_scenes(rng: np.random.Generator, each: int) -> list[Question]:
    seen = [scenes.sample(rng, pair) for pair in scenes.SEEN for _ in range(each)]
    unseen = [scenes.sample(rng, pair) for pair in sorted(scenes.LEFT_OUT) for _ in range(each)]
    pairs = {(colour, shape): PHOTO.format(f"{colour} {shape}") for colour, shape in scenes.PAIRS}
    first, second = scenes.Thing("green", "star", "large"), scenes.Thing("pink", "ring", "large")
    places = list(scenes.BACKGROUNDS)
    beside = [
        scenes.SceneSpec((first, second), relation, places[number % len(places)])
        for relation in scenes.RELATIONS
        for number in range(each * 4)
    ]
    relations = {relation: f"a green star {relation} a pink ring" for relation in scenes.RELATIONS}

    def pair(spec: scenes.SceneSpec) -> tuple[str, str]:
        return spec.things[0].colour, spec.things[0].shape

    return [
        _ask("scenes: 64 colour-shape pairs, seen ones", scenes, seen, pairs, pair),
        _ask("scenes: 64 colour-shape pairs, unseen ones", scenes, unseen, pairs, pair),
        _ask("scenes: 4 positions of two things", scenes, beside, relations, lambda s: s.relation),
    ]


def zero_shot(model: open_clip.CLIP, each: int) -> dict[str, float]:
    """Accuracy of every question, to four digits; small ``each`` is cheap enough to run during training."""
    training = model.training
    model.eval()
    result = {question.title: round(question.accuracy(model), 4) for question in questions(each)}
    model.train(training)
    return result


def _read_sample(folder: Path, split: str, preprocess: Callable[[Image.Image], Tensor]) -> tuple[Tensor, NDArray[Any]]:
    """Network inputs [N, 3, 64, 64] and labels [N] of one split of the blood-smear sample."""
    inputs, labels = [], []
    for label, name in enumerate(blood.CELLS):
        for path in sorted((folder / split / name).glob("*.png")):
            with Image.open(path) as picture:
                inputs.append(preprocess(picture.convert("RGB")))
            labels.append(label)
    return torch.stack(inputs), np.array(labels)


def evaluate_sample(folder: Path, seeds: Sequence[int] = (1, 2, 3)) -> dict[str, Any]:
    """The blood-smear sample as its users meet it: PNG files of 128 pixels through open_clip's own loading.

    Returns zero-shot accuracy on the test split (over all, by class, and with the seven-template ensemble) and the
    accuracy of a linear probe on 16 labelled images per class, the mean over ``seeds``.
    """
    from sklearn.linear_model import LogisticRegression

    model, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    model.eval()
    with TemporaryDirectory() as place:
        data = samples.write_blood_smear(Path(place) / "sample")
        train_inputs, train_labels = _read_sample(data, "train", preprocess)
        test_inputs, test_labels = _read_sample(data, "test", preprocess)
    train, test = image_features(model, train_inputs), image_features(model, test_inputs)
    single = text_features(model, [PHOTO.format(name) for name in blood.CELLS])
    several = torch.stack(
        [text_features(model, [template.format(name) for name in blood.CELLS]) for template in phrases.SELECTED]
    )
    right = (test @ single.T).argmax(dim=1).numpy() == test_labels
    ensemble = (test @ several.mean(dim=0).T).argmax(dim=1).numpy() == test_labels
    probes = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        chosen = np.concatenate(
            [rng.permutation(np.flatnonzero(train_labels == c))[:LABELLED_PER_CLASS] for c in range(len(blood.CELLS))]
        )
        probe = LogisticRegression(C=100.0, max_iter=2000).fit(train[chosen].numpy(), train_labels[chosen])
        probes.append(probe.score(test.numpy(), test_labels))
    return {
        "zero_shot": round(float(right.mean()), 4),
        "zero_shot_seven_templates": round(float(ensemble.mean()), 4),
        "zero_shot_by_class": {
            name: round(float(right[test_labels == label].mean()), 4) for label, name in enumerate(blood.CELLS)
        },
        "linear_probe_16": round(float(np.mean(probes)), 4),
    }


def main() -> None:
    """Measures a finished model and writes its numbers and its card."""
    from engines.miniworld.card import write_card

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--each", type=int, default=40, help="pictures per kind")
    options = parser.parse_args()
    model = mini.load_folder(options.folder)
    measured = {"each": options.each, "zero_shot": zero_shot(model, options.each)}
    measured["blood_smear_sample"] = evaluate_sample(options.folder)
    (options.folder / "evaluation.json").write_text(json.dumps(measured, indent=2) + "\n")
    write_card(options.folder)
    print(json.dumps(measured, indent=2))


if __name__ == "__main__":
    main()
