"""Failures of handlers, told in words."""

from __future__ import annotations

import gradio as gr
import pytest

from app.context import tell_errors
from engines.errors import DataError


def test_an_expected_failure_says_what_and_what_to_do() -> None:
    @tell_errors
    def fail() -> None:
        raise DataError("“<b>cells</b>” is empty.", "Choose another folder.", "listdir: 0")

    with pytest.raises(gr.Error) as told:
        fail()
    message = told.value.message
    assert "<strong>“&lt;b&gt;cells&lt;/b&gt;” is empty.</strong> Choose another folder." in message
    assert message.index("listdir: 0") > message.index("<details")


def test_a_mistake_of_the_program_is_not_shown_as_a_traceback(caplog: pytest.LogCaptureFixture) -> None:
    @tell_errors
    def fail() -> None:
        raise ZeroDivisionError("division by zero")

    with pytest.raises(gr.Error) as told:
        fail()
    assert "The program made a mistake here." in told.value.message
    assert "Traceback" not in told.value.message
    assert "division by zero" in caplog.text


def test_handlers_keep_their_signature_for_gradio() -> None:
    @tell_errors
    def answer(name: str, request: gr.Request) -> str:
        return name

    assert answer("cells", None) == "cells"  # type: ignore[arg-type]
    assert answer.__annotations__["request"] in (gr.Request, "gr.Request")
