"""Two methods are trained on the same images, and the comparison says which is better, where, and why."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from engines.data import ImportRequest, import_dataset
from engines.store import Job, JobState, Workspace
from tests.browser.conftest import Workbench
from tests.runs.conftest import COLOURS, draw, write_shapes
from tests.runs.test_perform import QUICK, begin, finish

pytestmark = [pytest.mark.browser, pytest.mark.slow]
LONG = 240_000
"""Milliseconds for what computes: starting the worker, training."""


def unwanted_tour(workspace: Workspace) -> None:
    with workspace.session() as session:
        session.add(Job(kind="sample", title="Sample data", state=JobState.CANCELLED))


@pytest.fixture(scope="module")
def shapes(start_workbench: Callable[[Workspace], Workbench], tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    """A workbench with one small data set and no result; nobody wants its first tour."""
    folder = tmp_path_factory.mktemp("compare")
    workspace = Workspace.open(folder / "clinic")
    import_dataset(workspace, ImportRequest(source=str(write_shapes(folder / "shapes"))))
    unwanted_tour(workspace)
    return start_workbench(workspace)


@pytest.fixture(scope="module")
def results(start_workbench: Callable[[Workspace], Workbench], tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    """A workbench with three results, one of them with two seeds, one with two numbers of labelled images."""
    folder = tmp_path_factory.mktemp("results")
    workspace = Workspace.open(folder / "clinic")
    number = import_dataset(workspace, ImportRequest(source=str(write_shapes(folder / "shapes")))).dataset_id
    assert number is not None
    unwanted_tour(workspace)
    for method, shots, seed in (
        ("linear-probe", 1, 1),
        ("linear-probe", 4, 1),
        ("linear-probe", 4, 2),
        ("tip-adapter", 4, 1),
        ("coop", 4, 1),
    ):
        own = {"settings": {"n_ctx": 4}, "training": QUICK} if method == "coop" else {"training": {}}
        finish(workspace, begin(workspace, number, method=method, shots=shots, seeds=[seed], **own))
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
    page.get_by_role("button", name="Start training").click()  # at once: that is the method just chosen
    sentence = page.locator("#train-outcome .pl-sentence")
    expect(sentence).to_contain_text(re.compile(f"^{method} got"), timeout=LONG)


def compare(page: Page, results: Workbench) -> None:
    """The comparison of the three results with four labelled images per class."""
    page.goto(results.url + "compare")
    expect(page.locator("#compare-table tbody tr")).to_have_count(4)
    expect(page.locator("#compare-table")).to_contain_text("Tip-Adapter, 4 per class")


def test_without_results_it_says_what_to_do(
    start_workbench: Callable[[Workspace], Workbench], page: Page, tmp_path: Path
) -> None:
    page.goto(start_workbench(Workspace.open(tmp_path / "clinic")).url + "compare")
    expect(page.get_by_text("Train two methods on the same images first")).to_be_visible()


def fills_its_place(page: Page, figure: str) -> None:
    """A figure is as wide as what holds it, also where that grew after it was drawn."""
    script = "figure => { const place = document.querySelector(figure + ' .pl-figure');"
    script += " return place.querySelector('.main-svg').clientWidth === place.clientWidth && place.clientWidth > 300; }"
    page.wait_for_function(script, arg=figure)


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
    expect(page.locator("#compare-curves")).to_be_hidden()  # one number a method makes no curve
    fills_its_place(page, "#compare-bars")
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


def test_three_results_are_read_and_sorted(results: Workbench, page: Page) -> None:
    compare(page, results)
    table = page.locator("#compare-table")
    right = table.locator("tbody tr td:nth-child(2)")
    shares = [float(text.split("%")[0]) for text in right.all_inner_texts()]
    assert shares == sorted(shares, reverse=True)
    table.get_by_role("button", name="Right").click()
    expect(table.locator("th[aria-sort=ascending]")).to_contain_text("Right")
    expect(right.first).to_contain_text(f"{min(shares):.1f}%")
    table.get_by_role("button", name="Result").click()
    expect(table.locator("tbody tr").first).to_contain_text("CoOp")
    expect(page.locator("#compare-curves .scatterlayer .trace")).to_have_count(2)  # the line and its band


def test_a_dot_is_pressed_and_its_image_seen(results: Workbench, page: Page) -> None:
    compare(page, results)
    page.locator("#compare-second input").click()
    page.get_by_role("option", name="Ready-made prompt").click()
    expect(page.locator("#compare-sentence")).to_contain_text("Ready-made prompt")
    dot = page.locator("#compare-scatter .scatterlayer .point").last
    dot.scroll_into_view_if_needed()
    box = dot.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    opened = page.locator("#compare-opened")
    expect(opened.locator("img")).to_be_visible()
    expect(opened.locator(".pl-said")).to_have_count(4)
    expect(opened.locator(".pl-said").first.locator("span.first .num")).to_have_text(re.compile(r"^[01]\.\d\d$"))
    opened.get_by_role("button", name="Where they look").click()
    expect(page.locator("#compare-looked .pl-tried > div")).to_have_count(4, timeout=LONG)
    opened.get_by_role("button", name="Close").click()
    expect(opened.locator("img")).to_have_count(0)


def test_images_on_which_all_differ(results: Workbench, page: Page) -> None:
    compare(page, results)
    page.locator("#compare-among").get_by_text("all chosen results").click()
    images = page.locator("#compare-images")
    expect(images).to_contain_text("do not agree")
    expect(images.locator("figure").first.locator(".pl-said")).to_have_count(4)
    images.locator("figure button").first.click()
    expect(page.locator("#compare-opened img")).to_be_visible()


def test_how_sure_they_are_and_what_they_say(results: Workbench, page: Page) -> None:
    compare(page, results)
    page.get_by_role("button", name="How sure they are, and what the prompts say").click()
    expect(page.locator("#compare-reliability .scatterlayer .trace")).to_have_count(5)
    fills_its_place(page, "#compare-reliability")
    expect(page.locator("#compare-errors")).to_contain_text("on average")
    words = page.locator("#compare-words")
    read = words.get_by_role("button", name="Read what the prompts say")
    if read.is_visible():  # not on a second try: then they were read already
        read.click()
    expect(words).to_contain_text("none to read", timeout=LONG)  # of the linear probe
    expect(words).to_contain_text(re.compile("farther from every real word|near a real one"))
    expect(page.locator("#compare-after .heatmaplayer")).to_be_visible()


def test_an_image_is_tried(results: Workbench, page: Page, tmp_path: Path) -> None:
    compare(page, results)
    file = tmp_path / "mine.png"
    draw(COLOURS["red thing"], 77).resize((120, 90)).save(file)
    page.locator("#compare-upload input[type=file]").set_input_files(file)
    tried = page.locator("#compare-tried")
    expect(tried.locator(".pl-tried > div")).to_have_count(4, timeout=LONG)
    expect(tried).to_contain_text("looking for")
    expect(tried.locator(".pl-share")).to_have_count(12)
    overlay = tried.locator(".pl-overlay").first
    expect(overlay).to_have_css("opacity", "0.7")
    tried.locator("input[type=range]").fill("20")
    expect(overlay).to_have_css("opacity", "0.2")
    page.locator("#compare-looking input").click()
    page.get_by_role("option", name="grey thing").click()
    expect(tried.get_by_text("looking for “grey thing”").first).to_be_visible()


def test_a_picture_of_the_camera_is_tried(results: Workbench, page: Page) -> None:
    page.context.grant_permissions(["camera"])
    compare(page, results)
    page.get_by_role("tab", name="Camera").click()
    camera = page.locator("#compare-camera")
    camera.get_by_role("button", name="Click to Access Webcam").click()
    camera.get_by_role("button", name="capture photo").click()
    expect(page.locator("#compare-tried .pl-tried > div")).to_have_count(4, timeout=LONG)


def test_what_is_no_image_gets_a_sentence(results: Workbench, page: Page, tmp_path: Path) -> None:
    compare(page, results)
    text = tmp_path / "notes.png"
    text.write_text("not an image")
    page.locator("#compare-upload input[type=file]").set_input_files(text)
    expect(page.locator("#compare-tried").get_by_role("alert")).to_be_visible(timeout=LONG)
    expect(page.locator("#compare-tried .pl-tried")).to_have_count(0)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 1920])
def test_no_result_is_wider_than_the_window(results: Workbench, page: Page, width: int, theme: str) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(f"{results.url}compare?__theme={theme}")
    expect(page.locator("#compare-table tbody tr").first).to_be_visible()
    expect(page.locator("#compare-scatter .scatterlayer")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
