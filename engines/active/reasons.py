"""Why an image was picked, as data and as one sentence for the person who labels it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["uncertain", "torn", "far", "typical", "varied", "random", "words"]


@dataclass(frozen=True)
class Reason:
    """Why one image was picked. `dataclasses.asdict` gives JSON, `Reason(**that)` the reason again.

    Attributes:
        kind: what the strategy saw in the image:
            `uncertain` (entropy: the probabilities are spread), `torn` (margin: two classes are close),
            `far` (coreset: far from everything labelled), `typical` (coreset without any label: the middle of the
            pool), `varied` (BADGE: unsure, and unlike the others of the batch), `random` (drawn at random),
            `words` (nothing looks like the class; this image is closest to the words for it).
        classes, probabilities: the two likeliest classes and what the model gives them; empty without a model.
        distance: Euclidean distance of the unit features to the nearest labelled or picked image (0 to 2).
        fills: the class that the balanced pick wanted to fill; None when balance had no say.
        rarest: True when that class had the fewest labels of all at the time.
    """

    kind: Kind
    classes: Sequence[int] = ()
    probabilities: Sequence[float] = ()
    distance: float | None = None
    fills: int | None = None
    rarest: bool = False

    def sentence(self, class_names: Sequence[str]) -> str:
        """One plain sentence without a full stop; `class_names` in the order of the probabilities' columns."""
        seen = self._seen(class_names)
        if self.fills is None or self.kind == "words":
            return seen
        role = "the rarest class so far" if self.rarest else "a class with few labels"
        return f"{role}: {_name(self.fills, class_names)}; {seen}"

    def _seen(self, names: Sequence[str]) -> str:
        if self.kind == "random":
            return "drawn at random"
        if self.kind == "typical":
            return "the most typical image of those without a label"
        if self.kind == "far":
            return f"unlike everything labelled so far (distance {self.distance or 0:.2f})"
        if self.kind == "words":
            wanted = "a class" if self.fills is None else _name(self.fills, names)
            return f"no image looks like {wanted} to the model; this one is closest to the words for it"
        if self.kind == "torn":
            return f"the model is torn between {self._answers(names, ' and ')}"
        doubt = f"the model is unsure: {self._answers(names, ', ')}"
        return f"{doubt}; unlike the others of this batch" if self.kind == "varied" else doubt

    def _answers(self, names: Sequence[str], between: str) -> str:
        pairs = zip(self.probabilities, self.classes, strict=True)
        return between.join(f"{value:.2f} {_name(index, names)}" for value, index in pairs)


def _name(index: int, names: Sequence[str]) -> str:
    return names[index] if 0 <= index < len(names) else f"class {index + 1}"
