"""A comparison is kept, shown full screen and paged by keys; a report is made and opened without any network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Browser, FrameLocator, Page, expect

from engines.labelling import Entry, record
from engines.reports import saved
from engines.store import Dataset, Sample, Verdict, Workspace
from tests.browser.conftest import Workbench
from tests.reports.trained import DATASET, READER, trained_workspace

pytestmark = [pytest.mark.browser, pytest.mark.slow]
LONG = 240_000
"""Milliseconds for what computes: starting the worker."""
NAME = "Tumour board <b>May</b>"


@pytest.fixture(scope="module")
def clinic(start_workbench: Callable[[Workspace], Workbench], tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    """A workbench with three trained results and one labelled image."""
    workspace = trained_workspace(tmp_path_factory.mktemp("present"))
    with workspace.session() as session:
        dataset = session.query(Dataset).one()
        sample = session.query(Sample).filter_by(split="train").first()
        assert sample is not None
        said = {"sample_id": sample.id, "class_id": dataset.classes[0].id, "verdict": Verdict.LABEL}
        entry = Entry(dataset_id=dataset.id, annotator=READER, event="0" * 8, comment="", **said)
    record(workspace, entry)
    return start_workbench(workspace)


def slides(page: Page) -> FrameLocator:
    return page.frame_locator(".pl-stage iframe")


def begin(page: Page, clinic: Workbench, name: str) -> None:
    page.goto(clinic.url + "present")
    page.get_by_title(f"Present: {name}", exact=True).click()
    expect(page.locator(".pl-stage")).to_be_visible()
    expect(slides(page).locator("#place")).to_contain_text("1 / ", timeout=LONG)


def test_a_comparison_is_kept_on_the_compare_page(clinic: Workbench, page: Page) -> None:
    page.goto(clinic.url + "compare")
    expect(page.locator("#compare-table tbody tr")).to_have_count(4)
    page.locator("#compare-name input, #compare-name textarea").fill(NAME)
    page.locator("#compare-save").click()
    expect(page.locator("#compare-kept")).to_contain_text(f"“{NAME}” is kept.")
    page.locator("#compare-kept").get_by_role("link", name="Present it").click()
    expect(page.locator("#present-list h3").first).to_have_text(NAME)
    kept = saved.comparisons(clinic.workspace)
    assert [each.name for each in kept] == [NAME]
    assert len(kept[0].results) == 3


@pytest.fixture
def kept(clinic: Workbench) -> None:
    """The comparison is there, whatever earlier tests did."""
    from engines.store.run_queries import experiments

    if not saved.comparisons(clinic.workspace):
        saved.save(clinic.workspace, NAME, DATASET, [each.key for each in experiments(clinic.workspace)])


@pytest.mark.usefixtures("kept")
def test_slides_are_paged_by_keys(clinic: Workbench, page: Page) -> None:
    begin(page, clinic, NAME)
    place, shown = slides(page).locator("#place"), slides(page).locator("main > section:not([hidden])")
    expect(shown).to_have_count(1)
    expect(shown).to_contain_text("The question")
    last = int(place.inner_text().split("/")[1])
    assert last >= 7
    for key, expected in (
        ("ArrowRight", 2),
        (" ", 3),
        ("ArrowDown", 4),
        ("ArrowLeft", 3),
        ("ArrowUp", 2),
        ("End", last),
        ("ArrowRight", last),
        ("Home", 1),
        ("ArrowLeft", 1),
    ):
        page.keyboard.press(key)
        expect(place).to_have_text(f"{expected} / {last}")
    page.keyboard.press("?")
    expect(slides(page).locator("#keys")).to_be_visible()
    page.keyboard.press("Escape")
    expect(slides(page).locator("#keys")).to_be_hidden()
    page.keyboard.press("Escape")
    expect(page.locator(".pl-stage")).to_have_count(0)
    expect(page.locator("#present-list")).to_be_visible()


@pytest.mark.usefixtures("kept")
def test_slides_show_results_and_nothing_that_names_a_person(clinic: Workbench, page: Page) -> None:
    begin(page, clinic, NAME)
    whole = slides(page).locator("html").evaluate("root => root.outerHTML")
    text = slides(page).locator("main").evaluate("main => main.textContent")
    assert "Linear probe, 4 per class" in text
    assert "p <" in text or "p =" in text or "equally many" in text
    assert text.rstrip().endswith("Not for diagnosis or any other decision about a person.")
    for secret in ("patient-7", ".png", READER):
        assert secret not in whole
    images = slides(page).locator("section img")
    assert images.count() >= 1
    assert all(source.startswith("data:image/jpeg") for source in images.evaluate_all("all => all.map(i => i.src)"))
    assert slides(page).locator("button, input, a, select, textarea").count() == 0


@pytest.mark.usefixtures("kept")
def test_slides_go_on_without_the_network(clinic: Workbench, page: Page, problems: list[str]) -> None:
    begin(page, clinic, NAME)
    page.context.set_offline(True)
    page.keyboard.press("End")
    expect(slides(page).locator("main > section:not([hidden])")).to_contain_text("The limits")
    page.keyboard.press("ArrowLeft")
    expect(slides(page).locator("main > section:not([hidden]) img").first).to_be_visible()
    page.context.set_offline(False)
    problems.clear()  # the workbench behind the slides misses its clock meanwhile


@pytest.mark.usefixtures("kept")
def test_slides_follow_light_and_dark(clinic: Workbench, page: Page) -> None:
    colours = []
    for theme in ("light", "dark"):
        page.goto(f"{clinic.url}present?__theme={theme}")
        page.get_by_title(f"Present: {NAME}", exact=True).click()
        body = slides(page).locator("body")
        expect(body).to_contain_text("The question", timeout=LONG)
        colours.append(body.evaluate("body => getComputedStyle(body).backgroundColor"))
    assert colours == ["rgb(255, 255, 255)", "rgb(18, 23, 26)"]


def test_a_labelling_study_is_presented(clinic: Workbench, page: Page) -> None:
    begin(page, clinic, DATASET)
    text = slides(page).locator("main").evaluate("main => main.textContent")
    assert "Reader 1" in text
    assert READER not in text


@pytest.mark.usefixtures("kept")
def test_a_comparison_goes_to_the_bin_and_comes_back(clinic: Workbench, page: Page) -> None:
    page.goto(clinic.url + "present")
    page.get_by_title(f"Move to the bin: {NAME}", exact=True).click()
    expect(page.get_by_text("It stays there for 30 days.")).to_be_visible()
    expect(page.get_by_title(f"Present: {NAME}", exact=True)).to_have_count(0)
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_title(f"Present: {NAME}", exact=True)).to_be_visible()


@pytest.mark.usefixtures("kept")
def test_a_comparison_whose_results_are_gone_says_so(clinic: Workbench, page: Page) -> None:
    saved.save(clinic.workspace, "Gone", DATASET, ["000000000000"])
    page.goto(clinic.url + "present")
    page.get_by_title("Present: Gone", exact=True).click()
    expect(page.locator(".pl-stage")).to_contain_text("There is no result", timeout=LONG)
    page.keyboard.press("Escape")
    expect(page.locator(".pl-stage")).to_have_count(0)


@pytest.mark.usefixtures("kept")
def test_a_report_is_downloaded_and_read_without_the_network(
    clinic: Workbench, page: Page, browser: Browser, tmp_path: Path
) -> None:
    page.goto(clinic.url + "present")
    with page.expect_download(timeout=LONG) as waited:
        page.get_by_title(f"Report: {NAME}", exact=True).click()
    file = tmp_path / "report.html"
    waited.value.save_as(file)
    context = browser.new_context()
    context.set_offline(True)
    asked: list[str] = []
    opened = context.new_page()
    opened.on("request", lambda request: asked.append(request.url))
    opened.on("pageerror", lambda error: asked.append(str(error)))
    opened.goto(file.as_uri())
    expect(opened.locator("h1")).to_have_text(NAME)
    expect(opened.locator("svg.figure").first).to_be_visible()
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    outside = "[...document.querySelectorAll('.pl-scroll')].filter(e => e.scrollWidth > e.clientWidth + 1).length"
    assert opened.evaluate(outside) == 0, "a column of a table cannot be seen"
    opened.emulate_media(media="print")
    opened.set_viewport_size({"width": 680, "height": 1000})  # what an A4 page leaves between its margins
    assert opened.evaluate(outside) == 0, "a column of a table is not printed"
    context.close()


def test_nothing_to_present_says_what_to_do(
    start_workbench: Callable[[Workspace], Workbench], page: Page, tmp_path: Path
) -> None:
    page.goto(start_workbench(Workspace.open(tmp_path / "empty")).url + "present")
    expect(page.get_by_text("Keep one on the page Compare first.")).to_be_visible()
