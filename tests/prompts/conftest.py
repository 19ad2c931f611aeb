"""A tiny CLIP and clearly separable made-up features, so that training takes moments."""

import pytest
import torch

from engines.backbones import Backbone
from engines.prompts.trainer import Examples
from tests.parity import parity_weights


@pytest.fixture(scope="session")
def tiny() -> Backbone:
    return Backbone.from_state_dict(parity_weights.tiny_clip_state_dict())


@pytest.fixture
def examples(tiny: Backbone) -> Examples:
    """40 images of 5 classes in 3 views, features around a centre of each class."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(40) % 5
    centres = torch.randn(5, tiny.embed_dim, generator=generator)
    noise = 0.3 * torch.randn(3, 40, tiny.embed_dim, generator=generator)
    return Examples(labels, centres[labels] + noise, val_features=centres, val_labels=torch.arange(5))
