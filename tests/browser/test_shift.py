"""A run is looked into: its shift is measured, its map drawn, points are lassoed, and figures are saved."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from engines.data import ImportRequest, import_dataset
from engines.runs.perform import Observer, perform
from engines.runs.request import TrainRequest, create_runs
from engines.store import Job, JobState, Run, Workspace
from tests.browser.conftest import Workbench
from tests.runs.conftest import COLOURS, write_shapes

pytestmark = [pytest.mark.browser, pytest.mark.slow]
LONG = 300_000
"""Milliseconds for what computes: starting the worker, compiling the map's layout."""


def train(workspace: Workspace, method: str, **training: float) -> None:
    request = {"dataset_id": 1, "method": method, "shots": 4, "seeds": [1], "protocol": "base-to-new"}
    run = create_runs(workspace, TrainRequest(**request, training=training))[0]
    summary = perform(workspace, run, Observer())
    with workspace.session() as session:
        row = session.get_one(Run, run.id)
        row.summary, row.state = summary, "done"


@pytest.fixture(scope="module")
def shapes(start_workbench: Callable[[Workspace], Workbench], tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    """A workbench with two runs that nobody looked into; nobody wants its first tour."""
    folder = tmp_path_factory.mktemp("shift")
    workspace = Workspace.open(folder / "clinic")
    import_dataset(workspace, ImportRequest(source=str(write_shapes(folder / "shapes"))))
    train(workspace, "maple", epochs=2, learning_rate=0.05)
    train(workspace, "coop", epochs=3, views=1, learning_rate=0.05)
    with workspace.session() as session:
        session.add(Job(kind="sample", title="Sample data", state=JobState.CANCELLED))
    return start_workbench(workspace)


def choose_run(page: Page, name: str) -> None:
    page.locator("#shift-run input").click()
    page.get_by_role("option", name=re.compile(f"^{name},")).click()


def measured(page: Page, shapes: Workbench, name: str = "MaPLe") -> None:
    """Open the page on a run, and measure it where nobody has yet."""
    page.goto(shapes.url + "shift")
    choose_run(page, name)
    sentence = page.locator("#shift-sentence")
    expect(sentence).to_contain_text(re.compile(rf"^\s*{name} moved|Not measured yet"))
    page.locator("#shift-go").click()
    expect(sentence.locator(".pl-sentence")).to_contain_text(f"{name} moved the words", timeout=LONG)
    expect(page.locator("#shift-map .scatterlayer .point").first).to_be_visible(timeout=LONG)


def draw_loop(page: Page, plot: Locator) -> None:
    """A loop around everything that is drawn in a plot."""
    area = plot.locator(".nsewdrag").first
    area.scroll_into_view_if_needed()
    box = area.bounding_box()
    assert box is not None
    corners = [(0.01, 0.01), (0.99, 0.01), (0.99, 0.99), (0.01, 0.99), (0.01, 0.02)]
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in corners]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=6)
    page.mouse.up()


def test_without_runs_it_says_what_to_do(
    start_workbench: Callable[[Workspace], Workbench], page: Page, tmp_path: Path
) -> None:
    page.goto(start_workbench(Workspace.open(tmp_path / "clinic")).url + "shift")
    expect(page.get_by_text("What a prompt moved will stand here. Train one first.")).to_be_visible()
    expect(page.locator("#pl-main").get_by_role("link", name="Train")).to_have_attribute("href", "train")


def test_a_run_is_measured_and_read(shapes: Workbench, page: Page) -> None:
    measured(page, shapes)
    expect(page.locator("#shift-sentence")).to_contain_text("moved the images by")
    for name in ("classes", "depth", "relation"):
        expect(page.locator(f"#shift-{name} .scatterlayer .point").first).to_be_visible()
    expect(page.locator("#shift-most figure img").first).to_be_visible()
    expect(page.locator("#shift-related")).to_contain_text("only the points are shown")
    expect(page.locator("#shift-map-told")).to_contain_text("24 images")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.reload()
    expect(page.locator("#shift-sentence .pl-sentence")).to_contain_text("MaPLe")


def test_points_inside_a_loop_open_their_images(shapes: Workbench, page: Page) -> None:
    measured(page, shapes)
    plot, selected = page.locator("#shift-map"), page.locator("#shift-selected")
    expect(selected).to_contain_text("Draw a loop")
    draw_loop(page, plot)
    expect(selected).to_contain_text("24 images selected")
    expect(selected.locator(".pl-gallery img")).to_have_count(24)
    selected.locator(".pl-gallery button").nth(2).click()
    expect(selected.locator(".pl-viewer img")).to_be_visible()
    selected.get_by_role("button", name="Close").click()
    expect(selected.locator(".pl-viewer")).to_have_count(0)
    page.evaluate("document.documentElement.style.scrollBehavior = 'auto'")
    page.locator("[data-theme=toggle]").click()  # drawn again, and still wired
    draw_loop(page, plot)
    expect(selected).to_contain_text("24 images selected")


def test_a_press_opens_one_image_and_the_pointer_shows_its_picture(shapes: Workbench, page: Page) -> None:
    measured(page, shapes)
    plot = page.locator("#shift-map")
    page.locator("#shift-shown").get_by_text("before", exact=True).click()
    expect(plot.locator(".annotation")).to_have_count(0)
    plot.locator(".nsewdrag").first.scroll_into_view_if_needed()
    picture = plot.locator(".pl-peek img")
    for point in plot.locator(".scatterlayer .trace .point").all()[:24]:
        box = point.bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + box["width"] / 2 + 1, box["y"] + box["height"] / 2)
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.wait_for_timeout(300)
        if picture.is_visible():  # not where words lie on the image
            break
    expect(picture).to_be_visible()
    page.mouse.down()
    page.mouse.up()
    expect(page.locator("#shift-selected")).to_contain_text("1 image selected")
    expect(page.locator("#shift-selected .pl-viewer img")).to_be_visible()


def test_the_map_changes_its_colours_and_its_layout(shapes: Workbench, page: Page) -> None:
    measured(page, shapes)
    plot = page.locator("#shift-map")
    page.locator("#shift-coloured").get_by_text("trained on or never seen").click()
    expect(plot.locator(".legendtext").filter(has_text="classes it never saw")).to_be_visible()
    page.locator("#shift-advanced").get_by_text("Advanced").click()
    page.locator("#shift-layout").get_by_text("PCA").click()
    expect(plot.locator(".scatterlayer .point").first).to_be_visible(timeout=LONG)
    with page.expect_download() as saved:
        plot.get_by_role("button", name="CSV").click()
    assert saved.value.suggested_filename == "map-pca.csv"


def test_a_run_that_leaves_images_alone_says_so(shapes: Workbench, page: Page) -> None:
    measured(page, shapes, "CoOp")
    expect(page.locator("#shift-most")).to_contain_text("No image moved")


def test_figures_are_saved_as_png_svg_and_csv(shapes: Workbench, page: Page, tmp_path: Path) -> None:
    measured(page, shapes)
    saved = {}
    for kind in ("PNG", "SVG", "CSV"):
        with page.expect_download() as found:
            page.locator("#shift-classes").get_by_role("button", name=kind).click()
        assert found.value.suggested_filename == f"shift-by-class-maple.{kind.lower()}"
        saved[kind] = tmp_path / found.value.suggested_filename
        found.value.save_as(saved[kind])
    with Image.open(saved["PNG"]) as picture:
        assert picture.width > 800
        assert picture.convert("RGB").getpixel((2, 2)) == (255, 255, 255)
    assert saved["SVG"].read_text("utf-8").startswith("<svg")
    rows = list(csv.DictReader(saved["CSV"].open(encoding="utf-8")))
    assert {row["class"] for row in rows} == set(COLOURS)
    assert {row["group"] for row in rows} == {"base", "new"}
    assert all(float(row["words"]) > 0 for row in rows)
