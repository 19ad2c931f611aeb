"""The reading screen: one image large, or the queue as a grid; one key is one verdict.

The page sends every verdict to the server functions of its `gr.HTML` and shows the next image when it is kept. All
state is in the database and in the page, so that any number of tabs and readers can work at once.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from pydantic import ValidationError

from app.components.label_answers import ReaderAnswers
from app.components.label_reader_markup import KEYS, MARKUP
from app.context import AppContext
from engines.errors import PromptloupeError
from engines.store import Occasion

__all__ = ["KEYS", "LabelReader"]
_STATIC = Path(__file__).parents[1] / "static"
_SCRIPTS = tuple(f"label{part}.js" for part in ("_picture", "_send", "_grid", "", "_verdicts", "_show", "_keys"))
log = logging.getLogger("promptloupe")


class LabelReader:
    """The reading screen as one component.

    `component` is its `gr.HTML`; give it `open(...)`, `open_list(...)` or `closed()` as a new value. Its events carry
    nothing, ask the workspace:

    - `component.kept`: verdicts were kept, taken back or put back (at most one event a second)
    - `component.done`: nothing is left in the queue or the list
    """

    def __init__(self, context: AppContext, elem_id: str = "label-reader") -> None:
        answers = ReaderAnswers(context.workspace)
        asked = (answers.look, answers.picture, answers.keep, answers.turn)
        self.component = gr.HTML(
            "",
            html_template=MARKUP,
            js_on_load="\n".join((_STATIC / name).read_text(encoding="utf-8") for name in _SCRIPTS),
            server_functions=[_told(each) for each in asked],
            apply_default_css=False,
            padding=False,
            elem_id=elem_id,
        )

    def open(self, dataset_id: int, annotator: str, first: bool = False) -> str:
        """The component's value that shows a reader's queue, as `engines.labelling.tasks` has it just then.

        An image of this queue that is being read stays on screen, unless the reader asked for the `first` one.
        """
        return _request(dataset=dataset_id, annotator=annotator, first=first)

    def open_list(
        self, dataset_id: int, annotator: str, sample_ids: Sequence[int], occasion: Occasion, title: str
    ) -> str:
        """The component's value that shows these images in this order, decided or not, under `title`."""
        return _request(
            dataset=dataset_id, annotator=annotator, samples=list(sample_ids), occasion=occasion.value, title=title
        )

    def closed(self) -> str:
        """The component's value that shows nothing."""
        return ""


def _request(**asked: object) -> str:
    # The stamp makes the same request a new value, so that the page asks again.
    return json.dumps({**asked, "stamp": uuid.uuid4().hex})


def _told(answer: Callable[[Any], dict[str, Any]]) -> Callable[[Any], dict[str, Any]]:
    """`answer` with its failures in words. Gradio's page cannot tell a failed call from a server that is gone, so
    failures are answers: `problem` with `again` where the same call may succeed later."""

    def told(asked: Any) -> dict[str, Any]:
        try:
            return answer(asked)
        except PromptloupeError as error:
            return {"problem": str(error), "again": False}
        except ValidationError:
            return {
                "problem": "The page sent something that the program does not understand. Reload it.",
                "again": False,
            }
        except Exception:
            log.exception("The reading screen could not be answered")
            return {"problem": "The program could not do this just now; its log says why.", "again": True}

    told.__name__ = answer.__name__
    return told
