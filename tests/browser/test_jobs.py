"""Following and cancelling work, on the Jobs page and in the drawer of every page."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from engines import jobs
from engines.jobs import registry
from tests.browser.conftest import Workbench

pytestmark = pytest.mark.browser


@pytest.fixture(autouse=True)
def slow_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(registry.PLUGINS, "tests.browser.slow_kinds")


def test_a_job_is_followed_cancelled_and_tried_again(page: Page, workbench: Workbench) -> None:
    job = jobs.submit(workbench.workspace, "wait", {"seconds": 200})
    page.goto(workbench.url + "jobs")
    running = page.locator("#jobs-list article.running")
    expect(running).to_contain_text("Count the <b>cells</b>")
    expect(running).to_contain_text("10 cells/s")
    expect(running).to_contain_text("min left")
    expect(page.locator(".pl-pill")).to_contain_text("1 running")
    running.get_by_role("button", name="Log").click()
    expect(page.locator("#jobs-list .pl-log")).to_contain_text("counting")
    assert job not in page.locator("body").inner_text()
    running.get_by_role("button", name="Cancel").click()
    expect(page.locator("#jobs-list article.cancelled").first).to_contain_text("Cancelled")
    expect(page.locator(".pl-pill")).to_contain_text("No jobs running")
    page.get_by_text("Running and waiting").click()
    expect(page.locator("#jobs-list")).to_contain_text("Nothing is running or waiting.")
    page.get_by_text("Finished").click()
    page.locator("#jobs-list article.cancelled").first.get_by_role("button", name="Try again").click()
    expect(page.locator(".pl-pill")).to_contain_text("1 running")
    page.goto(workbench.url)
    page.locator(".pl-pill").click()
    page.locator("#pl-drawer").get_by_role("button", name="Cancel").click()
    expect(page.locator(".pl-pill")).to_contain_text("No jobs running")


def test_a_failed_import_says_why(page: Page, workbench: Workbench) -> None:
    jobs.submit(workbench.workspace, "import", {"source": "/nowhere/at/all"})
    page.goto(workbench.url + "jobs")
    failed = page.locator("#jobs-list article.failed").first
    expect(failed.locator(".pl-problem")).to_be_visible()
    assert "Traceback" not in failed.locator(".pl-problem").inner_text()
    expect(failed.get_by_role("button", name="Try again")).to_be_visible()
