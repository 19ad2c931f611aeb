"""Errors that a person reads: what happened, and what to do about it."""

from __future__ import annotations


class PromptloupeError(Exception):
    """An expected failure, told in words.

    Args:
        what: one sentence saying what happened and why, in the user's terms.
        remedy: one sentence saying what to do about it.
        detail: technical detail (shown folded in the workbench, after the sentence on the command line).
    """

    def __init__(self, what: str, remedy: str = "", detail: str = "") -> None:
        super().__init__(" ".join(part for part in (what, remedy) if part))
        self.what = what
        self.remedy = remedy
        self.detail = detail

    def __reduce__(self) -> tuple[type[PromptloupeError], tuple[str, str, str]]:
        # Errors travel between worker processes: keep all three parts.
        return type(self), (self.what, self.remedy, self.detail)


class WorkspaceError(PromptloupeError):
    """A workspace cannot be opened, migrated or written."""


class DataError(PromptloupeError):
    """Images or labels cannot be read."""


class BackboneError(PromptloupeError):
    """A model cannot be found, loaded or used for what is asked of it."""


class ConfigError(PromptloupeError):
    """A setting has a value that cannot work."""


class JobError(PromptloupeError):
    """A job cannot be queued, found, or finished."""


class Cancelled(Exception):  # noqa: N818 - a request that was obeyed, not an error
    """Raised inside a job at the next safe point after somebody asked to cancel it."""
