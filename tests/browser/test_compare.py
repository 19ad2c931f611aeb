"""Two methods are trained on the same images, and the comparison says which is better."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from engines.data import ImportRequest, import_dataset
from engines.store import Job, JobState, Workspace
from tests.browser.conftest import Workbench
from tests.runs.conftest import write_shapes

pytestmark = [pytest.mark.browser, pytest.mark.slow]
LONG = 240_000
"""Milliseconds for what computes: starting the worker, training."""


@pytest.fixture(scope="module")
def shapes(start_workbench: Callable[[Workspace], Workbench], tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    """A workbench with one small data set and no result; nobody wants its first tour."""
    folder = tmp_path_factory.mktemp("compare")
    workspace = Workspace.open(folder / "clinic")
    import_dataset(workspace, ImportRequest(source=str(write_shapes(folder / "shapes"))))
    with workspace.session() as session:
        session.add(Job(kind="sample", title="Sample data", state=JobState.CANCELLED))
    return start_workbench(workspace)


def choose(page: Page, method: str) -> None:
    """Choose a method and the shortest training of it."""
    page.get_by_role("radio", name=re.compile(f"^{method} ")).click()
    page.locator("#train-shots").get_by_text("4", exact=True).click()
    page.locator("#train-seeds").get_by_text("once").click()
    expect(page.get_by_role("radio", name=re.compile(f"^{method} "))).to_be_checked()


def train(page: Page, method: str) -> None:
    page.goto(page.url.split("/train")[0] + "/train")
    choose(page, method)
    expect(page.locator("#train-choices .pl-estimate")).to_contain_text("memory", timeout=LONG)
    page.get_by_role("button", name="Start training").click()
    sentence = page.locator("#train-outcome .pl-sentence")
    expect(sentence).to_contain_text(re.compile(f"^{method} got"), timeout=LONG)


def test_without_results_it_says_what_to_do(
    start_workbench: Callable[[Workspace], Workbench], page: Page, tmp_path: Path
) -> None:
    page.goto(start_workbench(Workspace.open(tmp_path / "clinic")).url + "compare")
    expect(page.get_by_text("Train two methods on the same images first")).to_be_visible()


def test_two_methods_are_trained_and_compared(shapes: Workbench, page: Page) -> None:
    page.goto(shapes.url + "train")
    train(page, "Linear probe")
    train(page, "Tip-Adapter")
    page.locator("#pl-nav").get_by_role("link", name="Compare").click()
    table = page.locator("#compare-table")
    for name in ("Linear probe, 4 per class", "Tip-Adapter, 4 per class", "Ready-made prompt"):
        expect(table).to_contain_text(name)
    expect(table.locator("tbody tr")).to_have_count(3)
    expect(page.locator("#compare-bars .barlayer")).to_be_visible()
    expect(page.locator("#compare-classes .heatmaplayer")).to_be_visible()
    sentence = page.locator("#compare-sentence")
    expect(sentence).to_contain_text(re.compile("chance|equally many"))
    page.locator("#compare-second input").click()
    page.get_by_role("option", name="Ready-made prompt").click()
    expect(sentence).to_contain_text("Ready-made prompt")
    expect(page.locator("#compare-images")).to_contain_text(re.compile("do not agree|alike"))
    page.locator("#compare-results").get_by_role("button", name=re.compile("Remove|Clear")).first.click()
    expect(table.locator("tbody tr")).to_have_count(2)
    page.reload()
    expect(page.locator("#compare-table tbody tr")).to_have_count(2)


def test_no_result_is_wider_than_the_window(shapes: Workbench, page: Page) -> None:
    page.set_viewport_size({"width": 1280, "height": 800})
    page.goto(shapes.url + "compare")
    expect(page.locator("#compare-table tbody tr").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
