"""What the settings of the Train page say about a training: the request, its problems, what it would cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from app.components.choices import DEFAULTS, request_of
from app.components.forms import Field, collect
from app.components.html import Html, notice, tag
from app.components.methods import methods
from app.components.results import estimate_sentence
from app.context import AppContext
from engines.errors import ConfigError, PromptloupeError
from engines.prompts.catalog import MethodEntry
from engines.runs.request import TrainRequest

CHOICES = len(DEFAULTS) - 1
"""Components of the choice before those of the settings form."""
METHOD = list(DEFAULTS).index("method")


class TrainForm:
    """What the settings form of a method says about values; `given` is the choice, then the form's values."""

    def __init__(self, entry: MethodEntry, fields: Sequence[Field]) -> None:
        self.entry, self.fields = entry, list(fields)

    def problems(self, given: Sequence[Any]) -> list[str]:
        found = collect(self.fields, given[CHOICES:])[1] if given[METHOD] == self.entry.name else []
        return [str(problem) for problem in found]

    def changed(self, given: Sequence[Any]) -> dict[str, Any]:
        return collect(self.fields, given[CHOICES:])[0] if given[METHOD] == self.entry.name else {}

    def request(self, given: Sequence[Any]) -> TrainRequest:
        """Raises ConfigError where something does not fit."""
        if given[0] is None:
            raise ConfigError("There are no images to learn from.", "Choose some at the top of the page.")
        if problems := self.problems(given):
            raise ConfigError("A setting does not fit.", " ".join(problems))
        # A click may come before the form of a method just chosen is drawn: it means that method, as it usually is.
        return request_of(methods()[given[METHOD]], given[:CHOICES], self.changed(given))


# --- what the page reads and says ----------------------------------------------------


def estimate(context: AppContext, form: TrainForm, given: Sequence[Any]) -> Html:
    """What the training would cost, or why it cannot start."""
    if problems := form.problems(given):
        return notice("warning", "A setting does not fit.", _listed(problems))
    try:
        request = form.request(given)
        answer = context.call("check-settings", request, timeout=120)
    except PromptloupeError as error:
        return notice("warning", error.what, error.remedy, error.detail)
    if not answer["ok"]:
        titles = {field.name: field.title for field in form.fields}
        return notice("warning", "This cannot be trained yet.", _listed([_said(p, titles) for p in answer["problems"]]))
    repeats = len(request.seeds) if form.entry.trains else 1
    return quiet(estimate_sentence(answer["seconds"], answer["memory_mb"], repeats, answer["note"]))


def _said(problem: Mapping[str, str], titles: Mapping[str, str]) -> str:
    title = titles.get(problem["field"].rsplit(".", 1)[-1])
    return f"{title}: {problem['message']}" if title else problem["message"]


def _listed(sentences: Sequence[str]) -> Html:
    return tag("ul", *(tag("li", sentence) for sentence in sentences), class_="pl-problems")


def quiet(words: str) -> Html:
    return tag("p", words, class_="pl-estimate")
