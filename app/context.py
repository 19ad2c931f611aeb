"""What a page gets from the shell, and what the shell needs to know of a page.

A page is a file in `app/pages/` with

    PAGE = Page(route="data", title="Data", order=20)

    def build(context: AppContext) -> None:
        ...  # components and listeners, inside the page's blocks

and is found by itself: it appears in the navigation in the order of its number.
"""

from __future__ import annotations

import functools
import logging
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import gradio as gr
from pydantic import BaseModel

from app.components.html import esc, fold, tag
from engines import jobs
from engines.errors import PromptloupeError
from engines.store import Workspace

Function = TypeVar("Function", bound=Callable[..., Any])
log = logging.getLogger("promptloupe")
# Not a secret: it only makes what the browser remembers readable again after a restart of the program.
BROWSER_KEY = "promptloupe"


@dataclass(frozen=True)
class Page:
    """A page of the workbench; `route` is its address, empty for the first page."""

    route: str
    title: str
    order: int
    icon: str = ""
    keys: Mapping[str, str] = field(default_factory=dict)
    """Keys that the page understands and what each does, for the sheet that `?` opens."""


@dataclass(frozen=True)
class AppContext:
    """A page's way to the workspace, to jobs, and to the clock of the page."""

    workspace: Workspace
    blocks: gr.Blocks
    timer: gr.Timer
    """The one clock of the page: it ticks every second."""
    routes: frozenset[str]
    """Addresses of all pages there are."""
    loads: list[Any] = field(default_factory=list)
    """What is called when the page opens."""

    def on_load(self, fn: Callable[..., Any], inputs: Any = None, outputs: Any = None) -> Any:
        """Call `fn` whenever the page is opened or reloaded. Keep it under 100 ms.

        Until it has answered, the page takes no clicks: what a click shows would be overwritten by what comes late.
        """
        event = self.blocks.load(
            tell_errors(fn), inputs, outputs, concurrency_limit=None, show_progress="hidden", api_visibility="private"
        )
        event.then(None, js="() => window.promptloupe.loaded()", api_visibility="private")
        self.loads.append(event)
        return event

    def hold_until_loaded(self) -> None:
        """Called once, when the page knows all its `loads`."""
        count = len(self.loads)
        self.blocks.load(None, js=f"() => window.promptloupe.loading({count})", api_visibility="private")

    def on_tick(self, fn: Callable[..., Any], inputs: Any = None, outputs: Any = None) -> Any:
        """Call `fn` every second while the page is open. Keep it under 50 ms; return `gr.skip()` for no change."""
        return self.timer.tick(
            tell_errors(fn), inputs, outputs, queue=False, show_progress="hidden", api_visibility="private"
        )

    def listen(
        self,
        event: Callable[..., Any],
        fn: Callable[..., Any],
        inputs: Any = None,
        outputs: Any = None,
        every: bool = False,
    ) -> Any:
        """Answer an event such as `button.click` with `fn`; queue a job for what takes long.

        With `every`, a click also counts that comes before the last one was answered. Gradio drops such clicks, which
        is right for buttons that begin something, and wrong for those that lead on.

        Listeners never wait for each other. They go through Gradio's queue all the same: only there do errors reach
        the page as messages, and only there does a changed `gr.State` fire its `change`. (A handler of `on_tick`
        gives a `gr.State` a new value without that.)
        """
        return event(
            tell_errors(fn),
            inputs,
            outputs,
            concurrency_limit=None,
            show_progress="hidden",
            api_visibility="private",
            trigger_mode="multiple" if every else None,
        )

    def remembered(self, key: str, default: Any = None) -> gr.BrowserState:
        """A value that this browser keeps over reloads, pages and restarts: an id or a choice, never data.

        Every page that uses `key` shares the value. It comes back from the browser: check it before use.
        """
        return gr.BrowserState(default, storage_key=f"promptloupe-{key}", secret=BROWSER_KEY)

    def submit(
        self, kind: str, payload: BaseModel | Mapping[str, Any], run_id: str | None = None, priority: int = 0
    ) -> str:
        """Queue a job; returns its id at once."""
        content = payload if isinstance(payload, BaseModel) else dict(payload)
        return jobs.submit(self.workspace, kind, content, run_id=run_id, priority=priority)

    def call(self, kind: str, payload: BaseModel | Mapping[str, Any], timeout: float = 60) -> dict[str, Any]:
        """Have a small job done at once and wait for what it answers."""
        content = payload if isinstance(payload, BaseModel) else dict(payload)
        return jobs.call(self.workspace, kind, content, timeout=timeout)


def tell_errors(fn: Function) -> Function:
    """Let `fn` fail in words: every handler that may raise is wrapped in this.

    Expected failures say what happened and what to do; anything else is logged, and told without internals first.
    """

    @functools.wraps(fn)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return fn(*args, **kwargs)
        except PromptloupeError as error:
            raise gr.Error(_message(error.what, error.remedy, error.detail), print_exception=False) from error
        except gr.Error:
            raise
        except Exception as error:
            log.exception("A page could not answer")
            detail = "".join(traceback.format_exception_only(error))
            what, remedy = "The program made a mistake here.", "Nothing was lost; try again, or reload the page."
            raise gr.Error(_message(what, remedy, detail), print_exception=False) from error

    return wrapped  # type: ignore[return-value]


def _message(what: str, remedy: str, detail: str) -> str:
    return str(
        tag(
            "span",
            tag("strong", what),
            " ",
            esc(remedy),
            fold("Technical detail", tag("pre", detail)) if detail else "",
        )
    )
