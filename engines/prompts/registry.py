"""Finding methods. A method is one file in this package, or a plug-in, that defines a `PromptMethod` with an `info`."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import os
import pkgutil
import sys
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.errors import ConfigError

if TYPE_CHECKING:
    from engines.backbones import Backbone
    from engines.prompts.base import PromptMethod

PLUGINS = "PROMPTLOUPE_METHODS"
"""Environment variable: further method files or modules, separated like PATH. Installed packages may also offer the
entry-point group `promptloupe.methods`."""


def plugin_sources() -> list[str]:
    """What the user added: files or module names from `PROMPTLOUPE_METHODS`, then installed entry points."""
    listed = [source for source in os.environ.get(PLUGINS, "").split(os.pathsep) if source]
    return listed + [point.value for point in entry_points(group="promptloupe.methods")]


@cache
def _methods(plugins: tuple[str, ...]) -> dict[str, type[PromptMethod]]:
    import engines.prompts as package
    from engines.prompts.base import METHODS

    modules = [f"{package.__name__}.{module.name}" for module in pkgutil.iter_modules(package.__path__)]
    for module in modules:
        importlib.import_module(module)
    modules += [_import_plugin(source) for source in plugins]
    return {name: cls for name, cls in METHODS.items() if cls.__module__ in modules}


def _import_plugin(source: str) -> str:
    """Import a plug-in (once) and return its module name."""
    if not source.endswith(".py"):
        return importlib.import_module(source).__name__
    if not Path(source).is_file():
        raise ConfigError(f"The method file “{source}” does not exist.", f"Correct the variable {PLUGINS}.")
    name = f"promptloupe_method_{Path(source).stem}"
    if name in sys.modules:
        return name
    spec = importlib.util.spec_from_file_location(name, source)
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(sys.modules[name])
    except BaseException:
        del sys.modules[name]
        raise
    return name


def available_methods() -> list[str]:
    """Registry names of all methods, sorted."""
    return sorted(_methods(tuple(plugin_sources())))


def method_class(name: str) -> type[PromptMethod]:
    """The class of the method called `name`.

    Raises:
        ConfigError: there is no such method; names the nearest ones.
    """
    known = _methods(tuple(plugin_sources()))
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3) or sorted(known)
        raise ConfigError(f"There is no method called “{name}”.", f"Did you mean {' or '.join(near)}?")
    return known[name]


def create_method(name: str, backbone: Backbone, class_names: list[str], **settings: Any) -> PromptMethod:
    """A fresh method `name` for `class_names` on `backbone`; `settings` are the fields of its config model.

    Learnable values are drawn from torch's global generator: seed it first for a reproducible start.

    Raises:
        ConfigError: unknown method or setting, or class names that cannot be used.
        BackboneError: the backbone cannot carry the method.
    """
    from engines.prompts.settings import parse

    cls = method_class(name)
    return cls(backbone, class_names, parse(cls.Config, settings, cls.info.title))
