"""The list of runs as the values of the components that show it, and the way back from the bin."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import gradio as gr

from app.components.html import Html, empty_state, link, tag
from app.components.icons import BARS
from app.components.methods import method_title
from app.components.runs import filtered, runs_table, sorted_by
from engines.store import Workspace
from engines.store.run_queries import experiments, put_back

ANY = ""
NEWEST = ["started", True]
"""Sorted by this column, descending."""


def listing(workspace: Workspace, opened: str, asked_for: Sequence[Any]) -> list[Any]:
    """Values of the filters' row, the table, and the two choosers.

    Args:
        asked_for: words to find, data set, method, whether to show the bin, and [column, descending].
    """
    find, images, by, bin_, how = asked_for
    everything = experiments(workspace, deleted=bool(bin_))
    datasets = list(dict.fromkeys(each.dataset for each in everything if each.dataset))
    methods = list(dict.fromkeys(each.method for each in everything))
    images = images if images in datasets else ANY
    by = by if by in methods else ANY
    found = sorted_by(filtered(everything, find or "", images, by), str(how[0]), bool(how[1]))
    any_run = bool(everything) or bool(bin_) or bool(experiments(workspace, deleted=True, limit=1))
    if not any_run:
        shown = _nothing_yet()
    elif not found:
        shown = tag("p", "The bin is empty." if bin_ else "No result fits what you look for.", class_="pl-quiet")
    else:
        shown = runs_table(found, opened, str(how[0]), bool(how[1]), bool(bin_))
    return [
        gr.update(visible=any_run),
        shown,
        gr.update(choices=[("all", ANY), *((name, name) for name in datasets)], value=images),
        gr.update(choices=[("all", ANY), *((method_title(name), name) for name in methods)], value=by),
    ]


def _nothing_yet() -> Html:
    return empty_state(
        BARS,
        "Results will stand here. Train a first prompt: with the sample images it takes a minute.",
        link("Train a prompt", "train", "pl-button primary"),
    )


def keys_of(text: str) -> list[str]:
    """The experiments that an undo button names."""
    try:
        found = json.loads(text)
    except ValueError:
        return []
    return [key for key in found if isinstance(key, str)] if isinstance(found, list) else []


def restore(workspace: Workspace, keys: list[str]) -> list[str]:
    """Put experiments back from the bin; returns those that were there."""
    found = [each for each in experiments(workspace, deleted=True) if each.key in keys]
    for each in found:
        put_back(workspace, each.all_ids)
    return [each.key for each in found]
