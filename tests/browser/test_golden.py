"""Golden noise from prompts to a verdict: pairs come, NPNet learns, noises are judged, five blind votes, export."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from engines.diffusion.golden.judged import judgements
from engines.diffusion.golden.study import studies
from engines.diffusion.golden.votes import Votes
from engines.store import Job, JobState, Workspace
from tests.browser.conftest import HARMFUL, Workbench
from tests.diffusion.tiny import tiny_pipeline

pytestmark = [pytest.mark.browser, pytest.mark.slow]
LONG = 240_000
"""Milliseconds for what computes."""
PROMPTS = f"a red circle and a blue star\n\na green heart on grass\n{HARMFUL} pink ring"


@pytest.fixture(scope="module")
def golden(start_workbench: Callable[..., Workbench], tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    """A workbench with a random model; nobody wants its first tour."""
    folder = tmp_path_factory.mktemp("golden")
    tiny_pipeline("sd1").save_pretrained(folder / "models" / "tiny")
    workspace = Workspace.open(folder / "clinic")
    with workspace.session() as session:
        session.add(Job(kind="sample", title="Sample data", state=JobState.CANCELLED))
    return start_workbench(workspace, PROMPTLOUPE_MODELS=str(folder / "models"))


def fill(page: Page, field: str, value: str) -> None:
    page.locator(f"#golden-{field} input").first.fill(value)


def opened(page: Page, golden: Workbench) -> None:
    """The page, with a collection of nine pairs."""
    page.goto(golden.url + "golden")
    expect(page.locator("#golden-model input")).not_to_have_value("", timeout=LONG)
    if not studies(golden.workspace):
        page.locator("#golden-model input").click()
        page.get_by_role("option", name="tiny", exact=True).click()
        page.locator("#golden-scorer input").click()
        page.get_by_role("option", name="Check by rules").click()
        page.locator("#golden-prompts textarea").fill(PROMPTS)
        fill(page, "collect-steps", "2")
        fill(page, "collect-each", "3")
        page.get_by_role("button", name="Collect pairs").click()
    expect(page.locator("#golden-pairs .pl-golden-pairs button")).to_have_count(9, timeout=LONG)
    expect(page.locator("#golden-collect-progress .pl-job")).to_have_count(0, timeout=LONG)


def judged(page: Page, golden: Workbench) -> None:
    """The page, with an NPNet and six comparisons."""
    opened(page, golden)
    study = studies(golden.workspace)[0]
    if study.newest() is None:
        fill(page, "train-epochs", "2")
        page.locator("#golden-all-pairs input").check()
        page.get_by_role("button", name="Train NPNet").click()
    expect(page.locator("#golden-curve-said")).to_contain_text("of changing nothing", timeout=LONG)
    if not judgements(study):
        fill(page, "judge-each", "6")
        page.get_by_role("button", name="Judge", exact=True).click()
    expect(page.locator("#golden-judge-progress .pl-job")).to_have_count(0, timeout=LONG)
    votes = page.locator("#golden-votes")
    expect(votes.get_by_role("button").first).to_be_visible(timeout=LONG)


def test_pairs_come_and_are_looked_at(golden: Workbench, page: Page) -> None:
    opened(page, golden)
    said = page.locator("#golden-pairs")
    expect(said.locator(".pl-sentence")).to_contain_text(re.compile(r"95% interval|tied"))
    expect(said).to_contain_text("Line 2 is empty and left out.")
    said.locator(".pl-golden-pairs button").nth(1).click()
    divider = said.locator(".pl-wipe input")
    divider.focus()
    page.keyboard.press("PageUp")
    expect(divider).to_have_attribute("aria-valuetext", "60% from the left")
    said.get_by_role("button", name="Close").click()
    expect(divider).to_have_count(0)
    page.reload()
    expect(said.locator(".pl-golden-pairs img").first).to_be_visible()
    expect(page.locator("#golden-prompts textarea")).to_have_value(PROMPTS)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert page.title() != "harmed"


def test_network_and_noises_are_judged(golden: Workbench, page: Page) -> None:
    judged(page, golden)
    expect(page.locator("#golden-curve .scatterlayer .trace")).to_have_count(2)
    expect(page.locator("#golden-curve")).to_contain_text("changing nothing")
    expect(page.locator("#golden-verdict")).to_contain_text("By the scores")
    images = page.locator("#golden-images")
    expect(images.locator(".pl-golden-rows > button")).to_have_count(6)
    expect(images.locator(".pl-golden-three").first.locator("img")).to_have_count(3)
    page.locator("#golden-rival").get_by_text("NPNet").click()
    images.locator(".pl-golden-rows > button").first.click()
    expect(images.locator(".pl-wipe-title.right")).to_have_text("NPNet")
    expect(images).to_contain_text("kurtosis")


def test_five_blind_votes(golden: Workbench, page: Page) -> None:
    judged(page, golden)
    log = Votes(judgements(studies(golden.workspace)[0])[-1])
    if (begun := log.newest()) and begun.votes:  # of a try before this one
        log.reveal()
    votes = page.locator("#golden-votes")
    page.reload()
    expect(votes.get_by_role("button").first).to_be_visible(timeout=LONG)
    begin = votes.get_by_role("button", name="Vote blind: standard or NPNet")
    if begin.count():
        begin.click()
    expect(votes.locator(".pl-vote-pair img")).to_have_count(2)
    expect(page.locator("#golden-verdict")).to_contain_text("hidden while you vote blind")
    expect(page.locator("#golden-images img")).to_have_count(0)
    for image in votes.locator(".pl-vote-pair img").all():
        assert (image.get_attribute("src") or "").startswith("data:image/png"), "a name would tell what it is"
    assert "NPNet" not in votes.inner_html()
    page.locator("#golden-name input, #golden-name textarea").first.press("s")  # a letter in a field is no vote
    expect(votes).to_contain_text("Pair 1 of 6")
    page.locator("h1").click()
    for number, key in enumerate(["ArrowLeft", "ArrowRight", "s", "ArrowLeft", "ArrowRight"], 2):
        page.keyboard.press(key)
        expect(votes).to_contain_text(f"Pair {number} of 6")
    page.keyboard.press("z")
    expect(votes).to_contain_text("Pair 5 of 6")
    page.reload()  # nothing is lost
    expect(votes).to_contain_text("Pair 5 of 6")
    votes.get_by_role("button", name="Right is better").click()
    expect(votes).to_contain_text("Pair 6 of 6")
    votes.get_by_role("button", name="End and show the verdict").click()
    expect(votes.locator(".pl-sentence")).to_contain_text("You voted 5 pairs: NPNet won")
    expect(page.locator("#golden-images img").first).to_be_visible()
    assert log.rounds()[-1].votes == ["left", "right", "same", "left", "right"]


def test_all_is_packed(golden: Workbench, page: Page, tmp_path: Path) -> None:
    opened(page, golden)
    page.get_by_role("button", name="Export").click()
    link = page.get_by_role("link", name="Download golden-noise-")
    expect(link).to_be_visible(timeout=LONG)
    with page.expect_download() as found:
        link.click()
    found.value.save_as(tmp_path / "all.zip")
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        assert {"README.md", "pairs/about.json"} <= set(archive.namelist())


def test_without_a_prompt_it_says_so(golden: Workbench, page: Page) -> None:
    page.goto(golden.url + "golden")
    expect(page.locator("#golden-model input")).not_to_have_value("", timeout=LONG)
    page.locator("#golden-study input").click()
    page.get_by_role("option", name="New collection").click()
    expect(page.locator("#golden-pairs .pl-golden-pairs")).to_have_count(0)
    page.locator("#golden-prompts textarea").fill("  \n")
    page.get_by_role("button", name="Collect pairs").click()
    expect(page.locator(".toast-body")).to_contain_text("There is no prompt.")
