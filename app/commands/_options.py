"""Options of a command from a settings model: defined once, they are the same in the form, in Python and here."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer
from pydantic import BaseModel, ValidationError

from engines.errors import ConfigError

_LIMITS = {"ge": "min", "le": "max"}


def with_options(model: type[BaseModel], panel: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a command one option for each field of `model`, under the heading `panel`.

    The command gets those that were named as its argument `chosen`, a dict that the model accepts.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def called(**arguments: Any) -> None:
            chosen = {name: value for name in model.model_fields if (value := arguments.pop(name)) is not None}
            command(**arguments, chosen=_checked(model, chosen))

        plain = inspect.signature(command, eval_str=True)
        own = [each for each in plain.parameters.values() if each.name != "chosen"]
        parameters = [*own, *(_parameter(model, name, panel) for name in model.model_fields)]
        ordered = sorted(parameters, key=lambda each: each.default is not inspect.Parameter.empty)
        called.__signature__ = plain.replace(parameters=ordered)  # type: ignore[attr-defined]
        called.__annotations__ = {each.name: each.annotation for each in ordered}
        return called

    return decorate


def _checked(model: type[BaseModel], chosen: dict[str, Any]) -> dict[str, Any]:
    """
    Raises:
        ConfigError: a value does not fit.
    """
    try:
        model.model_validate(chosen)
    except ValidationError as error:
        first = error.errors()[0]
        option = "--" + str(first["loc"][0]).replace("_", "-")
        raise ConfigError(f"{option}: {first['msg'][:1].lower()}{first['msg'][1:]}.", "See --help.") from error
    return chosen


def _parameter(model: type[BaseModel], name: str, panel: str) -> inspect.Parameter:
    field = model.model_fields[name]
    kind: Any = field.annotation  # an option that was not named has no value: it is None
    how: dict[str, Any] = {"help": f"{field.title}. {field.description}", "rich_help_panel": panel}
    for limit in field.metadata:
        how |= {word: getattr(limit, key) for key, word in _LIMITS.items() if hasattr(limit, key)}
    if field.default not in (None, "", False):
        how["help"] += f" Default: {field.default}."
    option = typer.Option(f"--{name.replace('_', '-')}", show_default=False, **how)
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
    )
