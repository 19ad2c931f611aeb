"""Answers that overtake each other: the last question counts, in each window for itself."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import gradio as gr
import pytest

from app.components.latest import Turn, latest


class Slow:
    """Answers when it is told to."""

    def __init__(self, answer: Callable[[str], Any]) -> None:
        self.answer, self.asked, self.told = answer, Event(), Event()

    def __call__(self, question: str) -> Any:
        if question == "slow":
            self.asked.set()
            assert self.told.wait(10)
        return self.answer(question)


@pytest.mark.parametrize(
    ("outputs", "answer", "nothing"),
    [(1, str.upper, gr.skip()), (2, lambda question: [question.upper(), 1], [gr.skip()] * 2)],
)
def test_an_answer_that_was_overtaken_changes_nothing(outputs: int, answer: Callable[[str], Any], nothing: Any) -> None:
    slow = Slow(answer)
    ask, mine, other = latest(slow, outputs), Turn(), Turn()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(ask, mine, "slow")
        assert slow.asked.wait(10)
        assert ask(mine, "fast") == answer("fast")
        slow.told.set()
        assert first.result() == nothing
        slow.asked.clear()
        slow.told.clear()
        alone = pool.submit(ask, mine, "slow")
        assert slow.asked.wait(10)
        assert ask(other, "fast") == answer("fast")  # of another window
        slow.told.set()
        assert alone.result() == answer("slow")


def test_what_fails_is_raised_and_counts_as_asked() -> None:
    def fail(question: str) -> str:
        raise ValueError(question)

    turn = Turn()
    with pytest.raises(ValueError, match="why"):
        latest(fail)(turn, "why")
    assert latest(str.upper)(turn, "now") == "NOW"
