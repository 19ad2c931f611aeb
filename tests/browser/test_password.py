"""A workbench with a password lets nobody in without it."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from engines.store import Job, JobState, Workspace
from tests.browser.conftest import Workbench

pytestmark = pytest.mark.browser


def test_the_password_is_asked_for_and_checked(
    page: Page, problems: list[str], start_workbench: Callable[..., Workbench], tmp_path: Path
) -> None:
    workspace = Workspace.open(tmp_path / "clinic")
    with workspace.session() as session:
        session.add(Job(kind="import", title="Old work", state=JobState.DONE))
    workbench = start_workbench(workspace, PROMPTLOUPE_PASSWORD="only for us")
    for place in ("config", "gradio_api/info", f"gradio_api/file={workspace.path / 'workspace.db'}"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(workbench.url + place, timeout=30)
        assert refused.value.code in (401, 403)
    page.goto(workbench.url)
    log_in(page, "a guess")
    expect(page.locator("body")).to_contain_text("Incorrect Credentials")
    problems.clear()  # the refusal that was provoked
    log_in(page, "only for us")
    expect(page.locator(".pl-steps li")).to_have_count(4)


def log_in(page: Page, password: str) -> None:
    page.get_by_label("username").fill("anybody")
    page.get_by_label("password").fill(password)
    page.get_by_role("button", name="Login").click()
