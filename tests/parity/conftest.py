"""The tiny CLIP that every official answer was taken from."""

import pytest

from engines.backbones import Backbone
from tests.parity import parity_weights


@pytest.fixture(scope="session")
def backbone() -> Backbone:
    return Backbone.from_state_dict(parity_weights.tiny_clip_state_dict())
