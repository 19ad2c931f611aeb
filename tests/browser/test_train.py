"""The main job, as a newcomer does it: sample images, a first training, its result."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from engines.data import ImportRequest, import_dataset
from engines.store import Job, JobState, Sample, Workspace
from tests.browser.conftest import Workbench, write_images

pytestmark = [pytest.mark.browser, pytest.mark.slow]
LONG = 240_000
"""Milliseconds for what computes: drawing the sample images, starting the worker, training."""


@pytest.fixture
def fresh(start_workbench: Callable[[Workspace], Workbench], tmp_path: Path) -> Workbench:
    """A workbench without images whose first tour somebody has cancelled; a second try begins anew."""
    workspace = Workspace.open(tmp_path / "clinic")
    with workspace.session() as session:
        session.add(Job(kind="sample", title="Sample data", state=JobState.CANCELLED))
    return start_workbench(workspace)


def settled(page: Page) -> None:
    """Wait until the page has worked out what the training would cost: then no answer is on its way any more."""
    estimate = page.locator("#train-choices .pl-estimate")
    expect(estimate).to_contain_text("4 passes over the labelled images", timeout=LONG)


def test_a_newcomer_trains_a_prompt_and_sees_where_it_fails(fresh: Workbench, page: Page, tmp_path: Path) -> None:
    page.goto(fresh.url)
    expect(page.get_by_role("heading", name="Start", exact=True)).to_be_visible()
    page.locator("#pl-nav").get_by_role("link", name="Data").click()
    page.get_by_role("button", name="Use the blood-smear sample").click()
    expect(page.locator("#data-following .pl-job")).to_be_visible()
    page.locator("#pl-nav").get_by_role("link", name="Train").click()
    start = page.get_by_role("button", name="Start training")
    expect(start).to_be_visible(timeout=LONG)  # as soon as the sample images are there
    expect(page.locator("#train-dataset input")).to_have_value(re.compile("Blood smear"))
    expect(page.get_by_role("radio", name=re.compile("^CoOp seconds"))).to_be_checked()

    page.locator("#train-shots").get_by_text("1", exact=True).click()
    page.locator("#train-seeds").get_by_text("once").click()
    page.get_by_role("button", name="Model and settings").click()
    epochs = page.locator("#setting-epochs input")
    expect(epochs).to_have_value("50")  # the paper's number for one labelled image
    epochs.fill("20000")
    expect(page.locator("#setting-epochs.pl-wrong")).to_contain_text("20,000 does not work here")
    start.click()
    expect(page.locator(".toast-body")).to_contain_text("Passes over the images: 20,000 does not work here")
    expect(page.locator("#train-progress .pl-job")).to_have_count(0)
    epochs.fill("4")
    expect(page.locator("#setting-epochs.pl-wrong")).to_have_count(0)
    settled(page)
    start.click()
    expect(page.locator("#train-progress .pl-job")).to_be_visible()
    page.reload()
    expect(page.locator("#train-progress .pl-job")).to_contain_text("CoOp on Blood smear")
    expect(page.locator("#train-outcome .pl-sentence")).to_contain_text("the ready-made prompt", timeout=LONG)
    expect(page.locator("#train-loss .main-svg").first).to_be_visible()
    settled(page)

    page.get_by_role("link", name="See the result").click()
    expect(page.locator("#run-head .pl-sentence")).to_contain_text("CoOp got")
    expect(page.locator("#runs-table tbody tr")).to_have_count(1)
    see_the_mistakes(page)
    try_an_image(page, fresh.workspace, tmp_path)
    keep_the_result(page)


def test_a_method_chosen_while_the_model_is_looked_at_stays_chosen(fresh: Workbench, page: Page) -> None:
    images = write_images(fresh.workspace.path.parent / "cells", {"lymphocyte": 12, "monocyte": 12})
    import_dataset(fresh.workspace, ImportRequest(source=str(images)))
    page.goto(fresh.url + "train")
    chosen = page.get_by_role("radio", name=re.compile("^Tip-Adapter "))
    chosen.click()  # the worker that says what the model can carry is only starting by now
    expect(chosen).to_be_checked()
    expect(page.locator("#train-choices .pl-estimate")).to_contain_text("memory", timeout=LONG)
    page.wait_for_timeout(2000)
    expect(chosen).to_be_checked()


def see_the_mistakes(page: Page) -> None:
    expect(page.locator("#run-confusion .heatmaplayer")).to_be_visible()
    expect(page.locator("#run-mistakes h3")).to_contain_text("it got wrong")
    picture = page.locator("#run-mistakes img").first
    expect(picture).to_be_visible()
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    matrix = page.locator("#run-confusion .nsewdrag")
    box = matrix.bounding_box()
    assert box is not None
    first_cell = {"x": box["width"] / 28, "y": box["height"] / 28}
    matrix.click(position=first_cell, force=True)  # the first of 14 classes, answered rightly
    expect(page.locator("#run-mistakes h3")).to_contain_text(re.compile("answered rightly|no such images"))
    page.get_by_role("button", name="Show all mistakes").click()
    expect(page.locator("#run-mistakes h3")).to_contain_text("it got wrong")
    page.get_by_role("tab", name="Class by class").click()
    expect(page.locator("#run-classes .barlayer")).to_be_visible()
    page.get_by_role("tab", name="How sure it is").click()
    expect(page.locator("#run-sure")).to_contain_text("calibration error")


def try_an_image(page: Page, workspace: Workspace, folder: Path) -> None:
    with workspace.session() as session:
        source = workspace.resolve(session.query(Sample).filter_by(split="test").first().file)
    image = folder / "my own.png"
    image.write_bytes(source.read_bytes())
    broken = folder / "broken.png"
    broken.write_bytes(b"this is no image")
    page.get_by_role("tab", name="Try your own image").click()
    page.locator("#run-upload input[type=file]").set_input_files([str(image), str(broken)])
    answer = page.locator("#run-answer")
    expect(answer.locator(".pl-share")).to_have_count(6, timeout=LONG)
    expect(answer).to_contain_text("Ready-made prompt")
    expect(answer.locator(".pl-problem")).to_be_visible()


def keep_the_result(page: Page) -> None:
    with page.expect_download(timeout=LONG) as saved:
        page.get_by_role("button", name="Save the learned prompt").click()
    assert saved.value.suggested_filename.endswith(".zip")
    page.get_by_role("button", name="Move to the bin").click()
    expect(page.locator("#run")).to_be_hidden()
    page.get_by_role("button", name="Undo").click()
    expect(page.locator("#run-head .pl-sentence")).to_contain_text("CoOp got")
    page.get_by_role("button", name="Use these settings again").click()
    page.wait_for_url(re.compile("/train"))
    page.get_by_role("button", name="Model and settings").click()
    expect(page.locator("#setting-epochs input")).to_have_value("4")
    settled(page)
