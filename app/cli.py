"""The command line: everything the pages can do, headless.

Exit codes: 0 done, 1 could not be done (the reason is on standard error), 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys

# Before anything imports a model library: nothing is fetched unless the user asked for it.
if not os.environ.get("PROMPTLOUPE_ONLINE"):
    os.environ.setdefault("HF_HUB_OFFLINE", "1")

import typer

import app.commands
from engines.errors import Cancelled, PromptloupeError

cli = typer.Typer(
    name="promptloupe",
    help="Few-shot prompt learning on your own machine: import images, train a prompt, see whether it helped.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
for _found in pkgutil.iter_modules(app.commands.__path__):
    if not _found.name.startswith("_"):
        importlib.import_module(f"app.commands.{_found.name}").register(cli)


def main() -> None:
    """Entry of the console script: expected failures become one sentence and exit code 1."""
    try:
        cli()
    except PromptloupeError as error:
        typer.secho(str(error), fg="red", err=True)
        if error.detail and os.environ.get("PROMPTLOUPE_DETAIL"):
            typer.echo(error.detail, err=True)
        sys.exit(1)
    except (KeyboardInterrupt, Cancelled):
        typer.echo("Interrupted. Jobs that were started go on in the background: promptloupe jobs.", err=True)
        sys.exit(130)


if __name__ == "__main__":
    main()
