"""The example of docs/add-a-method.md: a learned correction of every class's text feature."""

from pydantic import Field
from torch import Tensor, nn, zeros
from torch.nn import functional as F

from engines.prompts.base import MethodInfo, PromptMethod
from engines.prompts.settings import MethodConfig


class ResidualConfig(MethodConfig):
    strength: float = Field(
        0.5, gt=0, le=2, title="Strength", description="How much the learned correction counts beside the words."
    )


class Residual(PromptMethod):
    """w_c = unit(t_c + strength * r_c), where t_c is the ready-made text feature and r_c [D] is learned."""

    info = MethodInfo(
        name="residual",
        title="Residual",
        summary="Keeps the ready-made sentence and learns a small correction for every class.",
        when="As an example of how a method is written.",
        paper="An example, not a published method.",
    )
    Config = ResidualConfig
    config: ResidualConfig

    def build(self) -> None:
        sentences = [f"a photo of a {name.replace('_', ' ')}." for name in self.class_names]
        self.register_buffer("words", F.normalize(self.backbone.encode_text(sentences), dim=-1), persistent=False)
        self.residual = nn.Parameter(zeros(len(self.class_names), self.backbone.embed_dim))

    @property
    def class_bound(self) -> bool:
        return True

    def text_features(self) -> Tensor:
        return F.normalize(self.words + self.config.strength * self.residual, dim=-1)
