"""promptloupe inspect: looking inside runs. One file a subject, found by itself.

A file `app/commands/_inspect_<name>.py` offers `register(inspect)` and adds its commands there, such as
`inspect.command("map")(map_)`. Nothing heavy is imported by it before a command runs.
"""

from __future__ import annotations

import importlib
import pkgutil

import typer

import app.commands

inspect = typer.Typer(
    help="Look inside runs: what the learned prompt changed, what it says, where it looks.", no_args_is_help=True
)


def register(cli: typer.Typer) -> None:
    for found in pkgutil.iter_modules(app.commands.__path__):
        if found.name.startswith("_inspect_"):
            importlib.import_module(f"app.commands.{found.name}").register(inspect)
    cli.add_typer(inspect, name="inspect")
