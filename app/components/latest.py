"""Of several answers that are under way in one window, only that of the last question is shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr


@dataclass
class Turn:
    """Counts the questions of one window; it lives in a `gr.State` of its own."""

    asked: int = 0


def latest(fn: Callable[..., Any], outputs: int = 1) -> Callable[..., Any]:
    """`fn`, for listeners that may overtake each other: an answer that a later question has passed changes nothing.

    Args:
        fn: answers for `outputs` components.
        outputs: how many.

    Returns:
        A handler whose first input is the window's `Turn`, and the others those of `fn`.
    """

    def answer(turn: Turn, *given: Any) -> Any:
        turn.asked += 1
        mine = turn.asked
        found = fn(*given)
        if mine == turn.asked:
            return found
        return gr.skip() if outputs == 1 else [gr.skip()] * outputs

    return answer
