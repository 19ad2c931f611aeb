"""The frame around all pages: navigation, look, keys, jobs drawer, tour."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, Route, expect
from playwright.sync_api import TimeoutError as TooLate

from app.shell import find_pages
from tests.browser.conftest import Workbench

pytestmark = pytest.mark.browser
ROUTES = [found.page.route for found in find_pages()]


def test_the_first_page_says_what_there_is_and_what_to_do_next(page: Page, workbench: Workbench) -> None:
    page.goto(workbench.url)
    expect(page.locator(".pl-steps li")).to_have_count(4)
    expect(page.locator(".pl-steps .done").first).to_contain_text(re.compile(r"[\d,]+ images in \d+ data set"))
    expect(page.locator(".pl-steps .next")).to_contain_text("Train")
    expect(page.locator("#start-status")).to_contain_text("mini-CLIP (shipped)")
    expect(page.locator("#start-status")).to_contain_text("the processor")
    expect(page.locator("#start-results .pl-button")).to_be_visible()
    page.get_by_role("link", name="Data", exact=True).click()
    expect(page).to_have_url(re.compile("/data"))
    expect(page.locator("#pl-nav [aria-current=page]")).to_have_text("Data")


@pytest.mark.parametrize("width", [1280, 1920])
def test_no_page_is_wider_than_the_window(page: Page, workbench: Workbench, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    for route in ROUTES:
        page.goto(workbench.url + route)
        expect(page.locator("#pl-main h1")).to_be_visible()
        expect(page.locator("#pl-status .pl-pill")).to_be_visible()
        expect(page.locator("body")).not_to_have_attribute("data-loading", "")
        page.wait_for_timeout(300)  # figures draw themselves
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, route


def test_dark_is_chosen_once_and_kept_on_every_page(page: Page, workbench: Workbench) -> None:
    background = "getComputedStyle(document.querySelector('#pl-top')).backgroundColor"
    page.goto(workbench.url)
    expect(page.locator("#pl-top")).to_be_visible()
    expect(page.locator("body")).not_to_have_class(re.compile("dark"))
    light = page.evaluate(background)
    page.get_by_role("button", name="Light or dark").click()
    expect(page.locator("body")).to_have_class(re.compile("dark"))
    dark = page.evaluate(background)
    assert dark != light
    page.goto(workbench.url + "jobs")
    expect(page.locator("body")).to_have_class(re.compile("dark"))
    expect(page.locator("#pl-top")).to_be_visible()
    assert page.evaluate(background) == dark


def test_keys_open_the_key_sheet_and_the_jobs(page: Page, workbench: Workbench) -> None:
    page.goto(workbench.url + "data")
    expect(page.locator("#data-gallery .pl-gallery")).to_be_visible()
    page.keyboard.press("?")
    expect(page.locator("#pl-keys")).to_contain_text("Page of images before, next")
    page.keyboard.press("Escape")
    expect(page.locator("#pl-keys")).not_to_be_visible()
    page.keyboard.press("j")
    expect(page.locator("#pl-drawer h2")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#pl-drawer h2")).not_to_be_visible()


def test_the_tour_has_six_steps_and_can_be_skipped_and_repeated(page: Page, workbench: Workbench) -> None:
    page.goto(workbench.url)
    begin = page.get_by_role("button", name="Take the tour")
    begin.click()
    for step in range(1, 7):
        expect(page.locator(".pl-tour-step:visible")).to_contain_text(f"Step {step} of 6")
        page.locator("[data-tour=next]").click()
    begin.click()
    expect(page.locator(".pl-tour-step:visible")).to_contain_text("Step 1 of 6")
    page.get_by_role("button", name="Skip the tour").click()
    expect(begin).to_be_visible()


def test_a_page_takes_no_clicks_before_it_knows_what_to_show(page: Page, workbench: Workbench) -> None:
    held: list[Route] = []
    holding = True
    page.route("**/queue/join*", lambda route: held.append(route) if holding else route.continue_())
    page.goto(workbench.url + "backlit")
    button = page.locator("#backlit-open")
    expect(button).to_be_visible()
    expect(page.locator("body")).to_have_attribute("data-loading", "")
    with pytest.raises(TooLate):
        button.click(timeout=1500)
    holding = False
    for route in held:
        route.continue_()
    expect(page.locator("body")).not_to_have_attribute("data-loading", "")
    button.click()
    expect(page.get_by_text("Nothing was chosen yet.")).to_be_visible()


def test_a_server_that_does_not_answer_gives_the_page_free(page: Page, workbench: Workbench) -> None:
    page.route("**/queue/join*", lambda route: None)
    page.goto(workbench.url + "backlit")
    expect(page.locator("body")).to_have_attribute("data-loading", "")
    expect(page.locator("body")).not_to_have_attribute("data-loading", "")
    page.unroute_all(behavior="ignoreErrors")
