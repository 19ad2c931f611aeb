"""Reasons as sentences and as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from engines.active import Reason, pick
from tests.active.pools import STRATEGIES, made_up

NAMES = ["eosinophil", "neutrophil", "basophil", "monocyte"]


@pytest.mark.parametrize(
    ("reason", "sentence"),
    [
        (Reason("uncertain", (0, 1), (0.412, 0.379)), "the model is unsure: 0.41 eosinophil, 0.38 neutrophil"),
        (
            Reason("uncertain", (0, 1), (0.412, 0.379), fills=0, rarest=True),
            "the rarest class so far: eosinophil; the model is unsure: 0.41 eosinophil, 0.38 neutrophil",
        ),
        (
            Reason("random", fills=1),
            "a class with few labels: neutrophil; drawn at random",
        ),
        (Reason("torn", (1, 0), (0.5, 0.49)), "the model is torn between 0.50 neutrophil and 0.49 eosinophil"),
        (Reason("far", distance=0.823), "unlike everything labelled so far (distance 0.82)"),
        (Reason("typical"), "the most typical image of those without a label"),
        (
            Reason("varied", (0, 1), (0.6, 0.3)),
            "the model is unsure: 0.60 eosinophil, 0.30 neutrophil; unlike the others of this batch",
        ),
        (
            Reason("words", fills=2, rarest=True),
            "no image looks like basophil to the model; this one is closest to the words for it",
        ),
        (Reason("uncertain", (0, 9), (0.6, 0.3)), "the model is unsure: 0.60 eosinophil, 0.30 class 10"),
    ],
)
def test_sentences(reason: Reason, sentence: str) -> None:
    assert reason.sentence(NAMES) == sentence


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_pick_has_a_reason_that_survives_json(name: str) -> None:
    pool = made_up()
    for balanced in (False, True):
        for chosen in pick(name, *pool.arrays, 10, labels=pool.labels, balanced=balanced):
            stored = Reason(**json.loads(json.dumps(asdict(chosen.reason))))
            assert stored.sentence(NAMES) == chosen.reason.sentence(NAMES)
            assert chosen.predicted == int(pool.probabilities[chosen.index].argmax())
            assert (chosen.reason.fills is not None) == balanced
            assert not balanced or chosen.reason.fills == chosen.predicted


def test_a_model_with_one_class() -> None:
    pool = made_up(classes=1)
    reason = pick("entropy", *pool.arrays, 1)[0].reason
    assert reason.sentence(["cell"]) == "the model is unsure: 1.00 cell"
