"""CoOp: context optimisation (Zhou et al., IJCV 2022)."""

from __future__ import annotations

from typing import Any, ClassVar

from engines.prompts.base import MethodInfo
from engines.prompts.context import ContextPrompt
from engines.prompts.fields import ClassPosition, ClassSpecific, ContextLength, CountTokens, StartingWords
from engines.prompts.settings import MethodConfig, TrainingConfig


class CoOpConfig(MethodConfig):
    n_ctx: ContextLength = 16
    ctx_init: StartingWords = ""
    class_token_position: ClassPosition = "end"
    csc: ClassSpecific = False
    count_tokens: CountTokens = False


class CoOp(ContextPrompt):
    """Learns context `ctx` [M, d], or [C, M, d] class-specific, by cross-entropy (section 3.2, equations 2-4)."""

    info = MethodInfo(
        name="coop",
        title="CoOp",
        summary="Learns the words in front of the class name from a few labelled images, where people would have tried"
        " sentence after sentence. The image side stays as it is, so training takes seconds.",
        when="A few labelled images of every class, and only these classes matter.",
        paper="Zhou, Yang, Loy, Liu, “Learning to Prompt for Vision-Language Models”, IJCV 2022, arXiv 2109.01134",
        cost="seconds",
        parity="Features, logits, loss, gradient and context after 5 steps equal the official code's to 1e-4 (unified"
        " and class-specific context; end, middle, front; random and worded start).",
        reported="ViT-B/16, 16 labelled images per class, mean of 11 data sets, base / new / harmonic mean:"
        " 82.69 / 63.22 / 71.66.",
    )
    Config = CoOpConfig
    config: CoOpConfig
    setting_presets: ClassVar[dict[str, dict[str, Any]]] = {
        # The baseline that later papers compare with (CoCoOp, section 4.1).
        protocol: {"n_ctx": 4, "ctx_init": "a photo of a"}
        for protocol in ("base-to-new", "cross-dataset", "domain-generalisation")
    }

    @classmethod
    def training_defaults(cls, protocol: str = "few-shot", shots: int = 16) -> TrainingConfig:
        """200 passes, fewer for few images: 50 for one, 100 for two to four (the official rn50_ep50, _ep100)."""
        if protocol == "few-shot" and 0 < shots < 8:
            return TrainingConfig(epochs=50 if shots == 1 else 100)
        return TrainingConfig(epochs=50 if protocol in ("cross-dataset", "domain-generalisation") else 200)
