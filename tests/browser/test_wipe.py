"""The divider between two pictures, in a page of its own: mouse, touch, keyboard, and HTML that is drawn again."""

from __future__ import annotations

import io

import pytest
from PIL import Image
from playwright.sync_api import Page

from app.components.gallery import picture_url
from app.components.wipe import Picture, wipe
from app.theme import STATIC

pytestmark = pytest.mark.browser
NAME = "<b>cell</b> 7"
WHITE, BLUE = (255, 255, 255), (0, 80, 160)


@pytest.fixture
def wiped(page: Page) -> Page:
    page.set_content(f"<style>{(STATIC / 'wipe.css').read_text()}</style><main>{markup()}</main>")
    page.add_script_tag(path=STATIC / "wipe.js")
    return page


def markup() -> str:
    sides = [picture_url(Image.new("RGB", (64, 48), colour)) for colour in (WHITE, BLUE)]
    return wipe(Picture("Before", sides[0]), Picture("After <i>", sides[1]), NAME)


def left_of_the_divider(page: Page) -> float:
    """Share of the picture's middle row, above the knob, that shows the left picture."""
    stage = page.locator(".pl-wipe-stage")
    with Image.open(io.BytesIO(stage.screenshot())) as found:
        row = found.convert("RGB").crop((0, found.height // 4, found.width, found.height // 4 + 1))
    return sum(pixel == WHITE for pixel in row.getdata()) / row.width


def test_mouse_and_keyboard_move_the_divider(wiped: Page) -> None:
    divider = wiped.get_by_role("slider", name=f"{NAME}: divider between Before and After <i>")
    assert left_of_the_divider(wiped) == pytest.approx(0.5, abs=0.02)
    box = divider.bounding_box()
    assert box is not None
    wiped.mouse.move(box["x"] + box["width"] / 2, box["y"] + 60)
    wiped.mouse.down()
    wiped.mouse.move(box["x"] + 0.2 * box["width"], box["y"] + 60, steps=4)
    wiped.mouse.up()
    assert left_of_the_divider(wiped) == pytest.approx(0.2, abs=0.02)
    divider.focus()
    for _ in range(5):
        wiped.keyboard.press("ArrowRight")
    assert left_of_the_divider(wiped) == pytest.approx(0.3, abs=0.02)
    wiped.keyboard.press("End")
    assert left_of_the_divider(wiped) > 0.98


def test_a_divider_begins_where_it_is_wanted(wiped: Page) -> None:
    sides = [picture_url(Image.new("RGB", (64, 48), colour)) for colour in (WHITE, BLUE)]
    drawn = wipe(Picture("Before", sides[0]), Picture("After", sides[1]), "Another", at=20)
    wiped.evaluate("html => { document.querySelector('main').innerHTML = html; }", drawn)
    assert left_of_the_divider(wiped) == pytest.approx(0.2, abs=0.02)
    assert wiped.get_by_role("slider").input_value() == "20"


def test_a_divider_stays_when_the_page_is_drawn_again(wiped: Page) -> None:
    wiped.get_by_role("slider").focus()
    for _ in range(4):
        wiped.keyboard.press("PageDown")
    assert left_of_the_divider(wiped) == pytest.approx(0.1, abs=0.02)
    wiped.evaluate("html => document.querySelector('main').innerHTML = html", markup())
    wiped.wait_for_function("document.querySelector('.pl-wipe').style.getPropertyValue('--pl-wipe')")
    assert left_of_the_divider(wiped) == pytest.approx(0.1, abs=0.02)
    wiped.keyboard.press("Tab")
    wiped.keyboard.press("ArrowLeft")
    assert left_of_the_divider(wiped) == pytest.approx(0.08, abs=0.02)
