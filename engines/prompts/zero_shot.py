"""Zero-shot CLIP: class names in ready-made sentences, nothing learned (Radford et al., ICML 2021, section 3.1)."""

from __future__ import annotations

import json
from typing import Literal

from pydantic import Field
from torch import Tensor

from engines.paths import assets
from engines.prompts.base import MethodInfo, PromptMethod
from engines.prompts.fields import PLAIN, Sentence
from engines.prompts.settings import MethodConfig


def shipped_templates(name: str) -> list[str]:
    """General sentences of the papers: `imagenet-7` or `imagenet-80`."""
    return list(json.loads((assets() / "templates.json").read_text(encoding="utf-8"))[name])


class ZeroShotConfig(MethodConfig):
    template: Sentence = PLAIN
    ensemble: Literal["none", "imagenet-7", "imagenet-80"] = Field(
        "none",
        title="Sentences averaged",
        description="Averages 7 or 80 general sentences with yours, which usually helps a little on everyday photos.",
    )
    append: bool = Field(
        True,
        title="Add my sentence to the average",
        description="The official code adds the data set's own sentence for every data set but ImageNet.",
        json_schema_extra={"advanced": True},
    )


class ZeroShot(PromptMethod):
    """w_c = unit(mean over templates of unit(text(template(c)))); the mean is of features, not of logits."""

    info = MethodInfo(
        name="zero-shot",
        title="Zero-shot CLIP",
        summary="Compares each image with a plain sentence about each class, such as “a photo of a monocyte.”"
        " Nothing is trained; this is what every learned prompt has to beat.",
        when="First, always: it shows what the model knows of your classes already.",
        needs="Class names only.",
        paper="Radford et al., “Learning Transferable Visual Models From Natural Language Supervision”, ICML 2021,"
        " arXiv 2103.00020",
        cost="none",
        parity="Equal to the official CoOp repository's zero-shot trainers (one sentence; 7, 8, 80 averaged) to 1e-4.",
        reported="ViT-B/16, mean of 11 data sets, base / new / harmonic mean: 69.34 / 74.22 / 71.70.",
    )
    Config = ZeroShotConfig
    config: ZeroShotConfig
    fitting = "none"

    def templates(self) -> list[str]:
        """The sentences in use."""
        if self.config.ensemble == "none":
            return [self.config.template]
        shipped = shipped_templates(self.config.ensemble)
        return [*shipped, self.config.template] if self.config.append else shipped

    def text_features(self) -> Tensor:
        return self.sentence_features(self.templates())
