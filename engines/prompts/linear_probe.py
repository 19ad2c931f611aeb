"""Linear probe: logistic regression on frozen image features (Radford et al., ICML 2021, appendix A.3)."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from engines.backbones import Backbone
from engines.errors import DataError
from engines.prompts.base import MethodInfo, PromptMethod
from engines.prompts.settings import MethodConfig

SWEEP = np.logspace(-3, 3, 13)
"""Inverse regularisation strengths C that are tried where validation images exist."""


class LinearProbeConfig(MethodConfig):
    strength: float = Field(
        0.316,
        gt=0,
        le=1e6,
        title="Freedom (C)",
        description="How freely the classifier may follow the labelled images, when nothing is tried out.",
    )
    sweep: bool = Field(
        True,
        title="Try out several",
        description="Choose the freedom that does best on validation images, where there are any.",
    )
    max_iterations: int = Field(
        1000,
        ge=1,
        le=100_000,
        title="Iterations",
        description="Upper limit of solver steps.",
        json_schema_extra={"advanced": True},
    )


class LinearProbe(PromptMethod):
    """Logits are `weight @ feature + bias`, on features as the image tower gives them after normalisation."""

    info = MethodInfo(
        name="linear-probe",
        title="Linear probe",
        summary="Ignores the text and draws straight borders between the classes in the model's picture space."
        " The classical yardstick: if a prompt does not beat it, the words did not help.",
        when="As a yardstick, and where class names mean nothing to the model.",
        paper="Radford et al., “Learning Transferable Visual Models From Natural Language Supervision”, ICML 2021,"
        " arXiv 2103.00020, appendix A.3",
        cost="seconds",
        parity="Equal to scikit-learn's logistic regression on the same features.",
    )
    Config = LinearProbeConfig
    config: LinearProbeConfig
    fitting = "closed-form"
    new_classes = False

    def __init__(self, backbone: Backbone, class_names: list[str], config: Any) -> None:
        super().__init__(backbone, class_names, config)

    presets: ClassVar[dict[str, dict[str, Any]]] = {"few-shot": {"views": 0}, "base-to-new": {"views": 0}}

    def build(self) -> None:
        self.weight = nn.Parameter(torch.zeros(len(self.class_names), self.backbone.embed_dim))
        self.bias = nn.Parameter(torch.zeros(len(self.class_names)))

    def logits(self, pixels: Tensor | None = None, *, features: Tensor | None = None) -> Tensor:
        return self._images(pixels, features) @ self.weight.T + self.bias

    def fit(
        self,
        features: Tensor,
        labels: Tensor,
        val_features: Tensor | None = None,
        val_labels: Tensor | None = None,
    ) -> float:
        """Solve for weight and bias; returns the strength C that was used.

        Args:
            features: [N, D], or [V, N, D] of V views of every image; labels: [N].

        Raises:
            DataError: there are fewer than two classes with a labelled image.
        """
        x = _unit(features.reshape(-1, features.shape[-1]))
        y = labels.repeat(len(x) // len(labels)).cpu().numpy()
        if len(set(y.tolist())) < 2:
            raise DataError("A linear probe needs labelled images of at least two classes.", "Label more images.")
        strength = self.config.strength
        if self.config.sweep and val_features is not None and val_labels is not None and len(val_labels):
            xv, yv = _unit(val_features), val_labels.cpu().numpy()
            scores = [self._solve(x, y, c).score(xv, yv) for c in SWEEP]
            # Among equals the middle of the plateau: the edges are there by luck.
            best = np.flatnonzero(np.asarray(scores) == max(scores))
            strength = float(SWEEP[best[len(best) // 2]])
        model = self._solve(x, y, strength)
        coefficients, intercepts = model.coef_, model.intercept_
        if len(model.classes_) == 2:  # scikit-learn keeps one row for two classes
            coefficients = np.concatenate([-coefficients, coefficients]) / 2
            intercepts = np.concatenate([-intercepts, intercepts]) / 2
        with torch.no_grad():
            self.weight.zero_()
            self.bias.fill_(-1e4)  # classes without a labelled image are never predicted
            self.weight[model.classes_] = torch.as_tensor(coefficients).to(self.weight)
            self.bias[model.classes_] = torch.as_tensor(intercepts).to(self.bias)
        return strength

    def _solve(self, x: np.ndarray, y: np.ndarray, strength: float) -> Any:
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression(C=strength, max_iter=self.config.max_iterations).fit(x, y)


def _unit(features: Tensor) -> np.ndarray:
    return np.asarray(nn.functional.normalize(features.float(), dim=-1).cpu().numpy(), dtype=np.float64)
