"""What a start means that is pressed while the form of another method is still on screen."""

from __future__ import annotations

import pytest

from app.components.choices import settings_fields
from app.components.methods import methods
from app.components.train_form import TrainForm
from engines.errors import ConfigError


@pytest.fixture
def form() -> TrainForm:
    entry = methods()["coop"]
    return TrainForm(entry, settings_fields(entry, "few-shot", 16))


def given(form: TrainForm, method: str, **values: object) -> list[object]:
    chosen = [1, "mini-clip", method, 16, 3, "few-shot", []]
    return [*chosen, *(values.get(field.name, field.default) for field in form.fields)]


def test_changed_settings_are_in_the_request(form: TrainForm) -> None:
    assert form.request(given(form, "coop", n_ctx=4)).settings == {"n_ctx": 4}


def test_a_method_chosen_since_is_trained_as_it_usually_is(form: TrainForm) -> None:
    request = form.request(given(form, "tip-adapter", n_ctx=4))
    assert (request.method, request.settings, request.training) == ("tip-adapter", {}, {})


def test_wrong_settings_of_the_method_before_stop_nothing(form: TrainForm) -> None:
    with pytest.raises(ConfigError, match="does not fit"):
        form.request(given(form, "coop", n_ctx=-1))
    assert form.request(given(form, "tip-adapter", n_ctx=-1)).method == "tip-adapter"


def test_without_images_it_says_so(form: TrainForm) -> None:
    with pytest.raises(ConfigError, match="no images"):
        form.request([None, *given(form, "coop")[1:]])
