"""Finding strategies: each is one file in `engines/active/strategies` that defines a `Strategy` with an `info`."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from functools import cache

from engines.active.base import STRATEGIES, Strategy, StrategyInfo
from engines.errors import ConfigError

BALANCED = "pcb-"
"""Prefix of a strategy's name that puts the pseudo-class balanced pick around it."""


@cache
def _strategies() -> dict[str, type[Strategy]]:
    from engines.active import strategies as package

    modules = [f"{package.__name__}.{module.name}" for module in pkgutil.iter_modules(package.__path__)]
    for module in modules:
        importlib.import_module(module)
    return {name: cls for name, cls in sorted(STRATEGIES.items()) if cls.__module__ in modules}


def available_strategies() -> list[StrategyInfo]:
    """All strategies, by name. Each may also be asked for as `pcb-<name>`: balanced over the classes."""
    return [cls.info for cls in _strategies().values()]


def strategy_class(name: str) -> type[Strategy]:
    """The strategy called `name` (without the prefix `pcb-`).

    Raises:
        ConfigError: there is no such strategy; names the nearest ones.
    """
    known = _strategies()
    if name not in known:
        near = difflib.get_close_matches(str(name), known, n=3) or sorted(known)
        raise ConfigError(f"There is no selection strategy called “{name}”.", f"Did you mean {' or '.join(near)}?")
    return known[name]
