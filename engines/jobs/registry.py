"""Kinds of jobs: each is one function with a payload model, found in `engines/jobs/kinds/` or in a plug-in."""

from __future__ import annotations

import importlib
import os
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, get_type_hints

from pydantic import BaseModel

from engines.errors import JobError
from engines.prompts.settings import parse

if TYPE_CHECKING:
    from engines.jobs.context import JobContext

Lane = Literal["long", "waited-for", "interactive"]
"""Long jobs; jobs that a person sits and waits for, which no training may hold up; answers within seconds."""
PLUGINS = "PROMPTLOUPE_JOB_KINDS"
"""Environment variable: names of further modules that define kinds, separated by commas."""


@dataclass(frozen=True)
class JobKind:
    """What a worker can be asked to do."""

    name: str
    lane: Lane
    payload: type[BaseModel]
    run: Callable[[JobContext, Any], dict[str, Any]]
    title: Callable[[Any], str]

    def parse(self, payload: BaseModel | dict[str, Any]) -> Any:
        """The payload as this kind's model, or a `ConfigError` in words."""
        values = payload.model_dump() if isinstance(payload, BaseModel) else payload
        return parse(self.payload, values, f"the job “{self.name}”")


_KINDS: dict[str, JobKind] = {}


def job_kind(name: str, lane: Lane = "long", title: Callable[[Any], str] | None = None) -> Callable[[Any], Any]:
    """Make a function `(job: JobContext, payload: Model) -> dict` a kind of job; its result must be JSON."""

    def register(function: Callable[[Any, Any], dict[str, Any]]) -> Callable[[Any, Any], dict[str, Any]]:
        model = get_type_hints(function)["payload"]
        _KINDS[name] = JobKind(name, lane, model, function, title or (lambda payload: name))
        return function

    return register


@cache
def _discover(plugins: str) -> None:
    import engines.jobs.kinds as package

    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    for plugin in filter(None, plugins.split(",")):
        importlib.import_module(plugin)


def find_kind(name: str) -> JobKind:
    """The kind called `name`.

    Raises:
        JobError: this program does not know it (any more).
    """
    _discover(os.environ.get(PLUGINS, ""))
    if name not in _KINDS:
        raise JobError(
            f"This program does not know the kind of job “{name}”.", "Update Promptloupe, then retry the job."
        )
    return _KINDS[name]
