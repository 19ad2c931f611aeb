"""A sample picture: words are pressed, the repair runs, a word is swapped, and sliders move."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from engines.diffusion.leakage.repairs import repairs
from engines.diffusion.leakage.studies import studies
from engines.store import Job, JobState, Workspace
from tests.browser.conftest import Workbench
from tests.diffusion.tiny import tiny_pipeline

pytestmark = [pytest.mark.browser, pytest.mark.slow]
LONG = 200_000
"""Milliseconds for what computes: starting the worker, loading the model."""
CAPTION = "a red circle and a blue star on grass"


@pytest.fixture(scope="module")
def leaking(start_workbench: Callable[..., Workbench], tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    """A workbench with a tiny random text-to-image model; nobody wants its first tour."""
    folder = tmp_path_factory.mktemp("leakage")
    tiny_pipeline("sd1").save_pretrained(folder / "models" / "tiny")
    workspace = Workspace.open(folder / "clinic")
    with workspace.session() as session:
        session.add(Job(kind="sample", title="Sample data", state=JobState.CANCELLED))
    return start_workbench(workspace, PROMPTLOUPE_MODELS=str(folder / "models"))


def opened(page: Page, leaking: Workbench) -> None:
    page.goto(leaking.url + "leakage")
    page.locator("#leakage-model input").click()
    page.get_by_role("option", name="tiny", exact=True).click()
    expect(page.locator("#leakage-pictures .pl-gallery button").first).to_be_visible()


def open_fold(page: Page, name: str, inside: str) -> None:
    if not page.locator(inside).is_visible():
        page.locator(name).locator("button.label-wrap").click()
    expect(page.locator(inside)).to_be_visible()


def test_a_sample_is_looked_at_repaired_and_edited(leaking: Workbench, page: Page, tmp_path: Path) -> None:
    opened(page, leaking)
    expect(page.locator("#leakage-safety")).to_contain_text("Edited pictures are synthetic")
    open_fold(page, "#leakage-advanced", "#leakage-steps input[type=number]")
    page.locator("#leakage-steps input[type=number]").fill("4")
    page.locator("#leakage-pictures").get_by_role("button", name=CAPTION).first.click()
    expect(page.locator("#leakage-caption textarea")).to_have_value(CAPTION)
    words = page.locator("#leakage-words")
    for word in ("circle", "star"):
        words.get_by_role("button", name=word, exact=True).click()
        expect(words.get_by_role("button", name=word, exact=True)).to_have_attribute("aria-pressed", "true")
    page.locator("#leakage-go").click()
    maps = page.locator("#leakage-maps")
    expect(maps.locator("canvas").first).to_be_visible(timeout=LONG)
    expect(maps.locator("canvas")).to_have_count(2)
    expect(maps).to_contain_text("of “circle” falls on the")

    open_fold(page, "#leakage-repair-advanced", "#leakage-updates input[type=number]")
    page.locator("#leakage-updates input[type=number]").fill("2")
    page.locator("#leakage-repair").click()
    expect(page.locator("#leakage-told")).to_contain_text("“circle” now keeps", timeout=LONG)
    expect(maps.locator("canvas")).to_have_count(4)
    expect(page.locator("#leakage-curves .scatterlayer .trace").first).to_be_visible()
    expect(page.locator("#leakage-preview img")).to_be_visible()

    page.locator("#leakage-prompt textarea").fill(CAPTION.replace("circle", "heart"))
    page.locator("#leakage-edit").click()
    ways = page.locator("#leakage-edited .pl-wipe")
    expect(ways.first).to_be_visible(timeout=LONG)
    expect(ways).to_have_count(3)
    divider = ways.first.locator("input[type=range]")
    at_first = float(divider.input_value())
    assert 15 < at_first < 35  # through the circle
    divider.focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    assert float(divider.input_value()) == pytest.approx(at_first + 10)
    with page.expect_download() as saved:
        page.locator("[data-way=dpl]").get_by_role("link", name="Download PNG").click()
    assert saved.value.suggested_filename == "synthetic-dpl.png"
    with Image.open(io.BytesIO(Path(saved.value.path()).read_bytes())) as picture:
        assert picture.info["synthetic"] == "true"

    edited = page.locator("#leakage-edited")
    expect(edited).to_contain_text("dB")
    page.get_by_text("weaken or strengthen a word").click()
    page.locator("#leakage-weight-word input").click()
    page.get_by_role("option", name="star", exact=True).click()
    page.locator("#leakage-edit").click()
    expect(edited).to_contain_text(f"In “{CAPTION}”, “star” now counts 2 times as much.", timeout=LONG)

    page.reload()  # nothing is lost
    expect(edited.locator(".pl-wipe")).to_have_count(3)
    expect(words.get_by_role("button", name="star", exact=True)).to_have_attribute("aria-pressed", "true")
    step = maps.locator("[data-part=step]")
    before = maps.locator("canvas").first.evaluate("canvas => canvas.toDataURL()")
    step.focus()
    page.keyboard.press("End")
    expect(maps.locator("[data-part=step-said]")).to_have_text("4 of 4")
    assert maps.locator("canvas").first.evaluate("canvas => canvas.toDataURL()") != before
    maps.locator("select").select_option("own")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_what_cannot_work_is_said(leaking: Workbench, page: Page, tmp_path: Path) -> None:
    opened(page, leaking)
    page.locator("#leakage-go").click()
    expect(page.locator(".toast-body")).to_contain_text("No picture is chosen")
    page.locator(".toast-close").first.click()
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    upload = page.locator("#leakage-upload input[type=file]")
    upload.set_input_files(tmp_path / "dot.png")
    expect(page.locator(".toast-body")).to_contain_text("too small to show anything")


def test_an_own_picture_needs_a_caption_and_its_mask_is_painted(leaking: Workbench, page: Page, tmp_path: Path) -> None:
    opened(page, leaking)
    Image.radial_gradient("L").save(tmp_path / "cell.png")
    page.locator("#leakage-upload input[type=file]").set_input_files(tmp_path / "cell.png")
    expect(page.locator("#leakage-picture img")).to_be_visible()
    open_fold(page, "#leakage-advanced", "#leakage-steps input[type=number]")
    page.locator("#leakage-steps input[type=number]").fill("4")
    page.locator("#leakage-caption textarea").fill("a grey cell 🔬")
    words = page.locator("#leakage-words")
    words.get_by_role("button", name="cell", exact=True).click()
    expect(words).to_contain_text("1 word chosen")
    page.locator("#leakage-go").click()
    expect(page.locator("#leakage-maps canvas")).to_have_count(1, timeout=LONG)
    expect(page.locator("#leakage-note")).to_contain_text("Draw masks below")

    open_fold(page, "#leakage-masks", "#leakage-mask-word input")
    page.locator("#leakage-mask-word input").click()
    page.get_by_role("option", name="cell", exact=True).click()
    canvas = page.locator("#leakage-editor canvas").first
    expect(canvas).to_be_visible()
    page.wait_for_timeout(2000)  # the editor draws its picture in its own time
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x - 60, y)
    page.mouse.down()
    page.mouse.move(x + 60, y, steps=8)
    page.mouse.up()
    page.wait_for_timeout(1000)
    page.locator("#leakage-mask-keep").click()
    expect(page.locator("#leakage-maps")).to_contain_text("on the cell itself", timeout=LONG)

    page.reload()  # an editor that was opened draws all the time, which is slow without a graphics card
    open_fold(page, "#leakage-repair-advanced", "#leakage-updates input[type=number]")
    page.locator("#leakage-updates input[type=number]").fill("2")
    page.locator("#leakage-adjectives input").check()
    page.locator("#leakage-repair").click()
    expect(page.locator(".toast-body.error")).to_contain_text("Bind the words to masks, too")
    page.locator("#leakage-bind input").check()
    page.locator("#leakage-repair").click()
    expect(page.locator("#leakage-told")).to_contain_text("“cell” now keeps", timeout=LONG)
    made = [repair.request for study in studies(leaking.workspace) for repair in repairs(study)]
    assert {2: 1} in [request.adjectives for request in made]  # “grey” belongs to “cell”
