"""The reading screen alone: verdicts by key, undo, flags, the grid, two tabs, and a server that is gone for a while."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import httpx
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, Route, expect
from sqlalchemy import select

from app.components.html import tag
from app.components.label_reader import LabelReader
from app.context import AppContext
from app.main import launch
from engines.data import ImportRequest, import_dataset, thumbnail_path
from engines.data.thumbnails import write_thumbnail
from engines.labelling import PoolAnswers, label_settings, save_label_settings, save_pool_answers, standing
from engines.store import Annotation, Occasion, Sample, SelectionRound, Verdict, Workspace
from engines.store.browse import classes
from engines.store.edit import set_classes
from tests.browser.conftest import HARMFUL, PATIENCE, WINDOW, Workbench, watch, write_images

pytestmark = [pytest.mark.browser, pytest.mark.slow]
_numbers = itertools.count(1)
ASKED = "**/component_server/**"
"""What the reading screen says to the server."""


def reader_page(workspace: Workspace) -> gr.Blocks:
    """A page with nothing but the reading screen; its address says which images it opens for whom."""
    with gr.Blocks(title="Reading", fill_width=True, analytics_enabled=False) as demo:
        context = AppContext(workspace, demo, gr.Timer(1.0, active=False), frozenset())
        reader = LabelReader(context)
        told = gr.HTML(elem_id="told")

        def opened(request: gr.Request) -> str:
            asked = dict(request.query_params)
            if "list" not in asked:
                return reader.open(int(asked["dataset"]), asked["who"])
            ids = [int(each) for each in asked["list"].split(",")]
            return reader.open_list(
                int(asked["dataset"]), asked["who"], ids, Occasion(asked["occasion"]), "Likely errors"
            )

        demo.load(opened, None, reader.component)
        gr.Button("Open again", elem_id="again").click(opened, None, reader.component)
        reader.component.done(lambda: tag("p", "All is done."), None, told)
    return demo


@pytest.fixture(scope="module")
def reading(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workbench]:
    workspace = Workspace.open(tmp_path_factory.mktemp("reading") / "clinic")
    demo = reader_page(workspace)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    yield Workbench(launch(demo, workspace, port=port), workspace)
    demo.close(verbose=False)
    workspace.close()


class Batch:
    """A data set with a batch of images that wait for readers."""

    def __init__(self, reading: Workbench, folder: Path, images: int = 30, **settings: Any) -> None:
        self.workspace, self.url = reading.workspace, reading.url
        name = f"cells {next(_numbers)}"
        share = images // 3
        source = write_images(folder / name, {"lymphocyte": share, "monocyte": share, HARMFUL: images - 2 * share})
        report = import_dataset(self.workspace, ImportRequest(source=str(source), name=name))
        assert report.dataset_id
        self.id = report.dataset_id
        self.classes = [each.id for each in classes(self.workspace, self.id)]
        chosen = label_settings(self.workspace, self.id).model_copy(update=settings)
        save_label_settings(self.workspace, self.id, chosen)
        with self.workspace.session() as session:
            rows = session.scalars(select(Sample).where(Sample.dataset_id == self.id).order_by(Sample.position))
            self.samples = [sample.id for sample in rows]
        self.round = self.pick(self.samples)

    def pick(self, samples: Sequence[int], **more: Any) -> int:
        """One more round that asks for these images."""
        with self.workspace.session() as session:
            number = len(session.scalars(select(SelectionRound).where(SelectionRound.dataset_id == self.id)).all()) + 1
            picks = [
                {"sample": s, "why": f"uncertain, place {place}", "predicted": self.classes[0], "readers": 1} | more
                for place, s in enumerate(samples)
            ]
            row = SelectionRound(dataset_id=self.id, number=number, strategy="entropy", budget=len(picks), picks=picks)
            session.add(row)
            session.flush()
            return row.id

    def open(self, page: Page, who: str = "anna", **more: str) -> None:
        page.goto(f"{self.url}?dataset={self.id}&who={who}" + "".join(f"&{k}={v}" for k, v in more.items()))
        expect(page.locator("[data-part=root]")).to_be_visible()

    def rows(self) -> list[Annotation]:
        with self.workspace.session() as session:
            query = select(Annotation).where(Annotation.sample_id.in_(self.samples)).order_by(Annotation.id)
            return list(session.scalars(query))

    def said(self, who: str = "anna") -> dict[int, Verdict]:
        return {sample: each.verdict for sample, each in standing(self.workspace, self.id, who).items()}


@pytest.fixture
def batch(reading: Workbench, tmp_path: Path) -> Callable[..., Batch]:
    return lambda images=30, **settings: Batch(reading, tmp_path, images, **settings)


def shown(page: Page) -> int:
    """The image that is on screen and can be decided."""
    found = page.locator("[data-part=root][data-shown]")
    expect(found).to_have_count(1)
    return int(found.get_attribute("data-shown") or 0)


def press(page: Page, key: str) -> int:
    """Press a key that decides, and wait for another image or the end; the image that was decided."""
    before = shown(page)
    page.keyboard.press(key)
    expect(page.locator(f"[data-part=root][data-shown='{before}']")).to_have_count(0)
    return before


def part(page: Page, name: str) -> Locator:
    return page.locator(f"#label-reader [data-part={name}]")


def expect_shown(page: Page, sample: int) -> None:
    expect(page.locator(f"[data-part=root][data-shown='{sample}']")).to_be_visible()


def second_tab(browser: Browser, problems: list[str], page: Page | None = None) -> Page:
    """Another tab of the same browser, or a browser of its own."""
    context = page.context if page else browser.new_context(**WINDOW)
    context.set_default_timeout(PATIENCE)
    opened = context.new_page()
    watch(opened, problems)
    return opened


def asks_for(route: Route, name: str) -> bool:
    return f'"fn_name":"{name}"' in (route.request.post_data or "")


# --- one image after the other --------------------------------------------------------


def test_thirty_images_by_keyboard_alone(batch: Callable[..., Batch], page: Page) -> None:
    cells = batch(30)
    cells.open(page)
    given: dict[int, int] = {}
    for place in range(20):
        given[press(page, str(place % 3 + 1))] = cells.classes[place % 3]
    assert list(given) == cells.samples[:20]
    for place in (19, 18, 17):  # back three, and forth
        page.keyboard.press("z")
        expect_shown(page, cells.samples[place])
    assert len(cells.said()) == 17
    page.keyboard.press("y")
    expect_shown(page, cells.samples[18])
    page.keyboard.press("Shift+Z")
    expect_shown(page, cells.samples[19])
    page.keyboard.press("y")
    expect_shown(page, cells.samples[20])
    assert len(cells.said()) == 20
    page.reload()
    expect_shown(page, cells.samples[20])
    page.keyboard.press("z")  # undo reaches back behind the reload
    expect_shown(page, cells.samples[19])
    for place in range(19, 30):
        given[press(page, str(place % 3 + 1))] = cells.classes[place % 3]
    expect(part(page, "empty")).to_contain_text("This batch is done")
    expect(page.locator("#told")).to_contain_text("All is done.")
    kept = standing(cells.workspace, cells.id, "anna")
    assert {sample: each.class_id for sample, each in kept.items()} == given
    assert len(cells.rows()) == 20 + 3 + 3 + 1 + 11  # nothing was overwritten
    assert all((row.seconds or 0) >= 0 and row.round_id == cells.round for row in cells.rows())


LISTEN = """window.pressed = []; window.addEventListener('keydown', event => {
  const root = document.querySelector('[data-part=root]');
  window.pressed.push([event.key, root && !root.hidden && root.dataset.shown || '']);
}, true);"""


def test_every_key_from_the_first_moment_on_means_the_image_that_was_on_screen(
    batch: Callable[..., Batch], page: Page
) -> None:
    cells = batch(12)
    page.add_init_script(LISTEN)
    page.goto(f"{cells.url}?dataset={cells.id}&who=anna", wait_until="commit")
    keys, ended = itertools.cycle("1213321"), part(page, "empty")
    at_rest = page.locator("[data-part=root]:not([data-busy])")
    for count in itertools.count():
        for _ in range(1 + count % 4):  # faster than any server keeps verdicts
            page.keyboard.press(next(keys))
        if count % 5 == 3 and page.locator("#again").count():
            page.evaluate("document.getElementById('again').click()")  # the page opens the same queue once more
        if page.locator("[data-part=root]").count():
            expect(at_rest).to_have_count(1)
        if ended.is_visible():
            break
    pressed: dict[int, list[int]] = {}
    for key, sample in page.evaluate("window.pressed"):
        if sample:
            pressed.setdefault(int(sample), []).append(cells.classes[int(key) - 1])
    written: dict[int, list[int | None]] = {}
    for row in cells.rows():
        written.setdefault(row.sample_id, []).append(row.class_id)
    assert set(written) == set(cells.samples)

    def changes(said: Sequence[int | None]) -> list[int | None]:
        return [value for value, _ in itertools.groupby(said)]  # the same key twice says the same

    assert {sample: changes(said) for sample, said in written.items()} == {
        sample: changes(said) for sample, said in pressed.items()
    }
    kept = standing(cells.workspace, cells.id, "anna")
    assert {sample: each.class_id for sample, each in kept.items()} == {s: said[-1] for s, said in pressed.items()}


def test_unsure_not_gradable_skip_and_flag_are_four_things(batch: Callable[..., Batch], page: Page) -> None:
    cells = batch(6)
    cells.open(page)
    first = cells.samples
    assert [press(page, key) for key in "ugs"] == first[:3]
    page.keyboard.press("f")
    expect(part(page, "comment")).to_be_focused()
    page.keyboard.type("1 of 2 looks wrong")  # keys mean nothing while a comment is typed
    page.keyboard.press("Escape")
    expect(part(page, "flag-box")).to_be_hidden()
    assert shown(page) == first[3]
    page.keyboard.press("f")
    expect(part(page, "comment")).to_have_value("")
    page.keyboard.press("Enter")  # a flag without a comment is none
    expect(part(page, "flag-box")).to_be_visible()
    page.keyboard.type("two cells, u and g")
    page.keyboard.press("Enter")
    expect_shown(page, first[4])
    assert [press(page, key) for key in "12"] == first[4:]
    assert press(page, "3") == first[2]  # only what was skipped comes back
    expect(part(page, "empty")).to_contain_text("This batch is done")
    verdicts = [Verdict.UNSURE, Verdict.NOT_GRADABLE, Verdict.LABEL, Verdict.FLAG, Verdict.LABEL, Verdict.LABEL]
    assert [cells.said()[sample] for sample in first] == verdicts
    (flag,) = [row for row in cells.rows() if row.verdict is Verdict.FLAG]
    assert flag.comment == "two cells, u and g"


def test_arrows_look_without_deciding(batch: Callable[..., Batch], page: Page) -> None:
    cells = batch(6)
    cells.open(page)
    for place in (1, 2, 1):
        page.keyboard.press("ArrowLeft" if place == 1 and shown(page) == cells.samples[2] else "ArrowRight")
        expect_shown(page, cells.samples[place])
    assert cells.rows() == []
    press(page, "1")
    assert list(cells.said()) == [cells.samples[1]]
    page.keyboard.press("ArrowLeft")
    expect(part(page, "state")).to_contain_text("You called it")
    page.keyboard.press("2")  # a correction is a new row
    expect_shown(page, cells.samples[2])
    rows = cells.rows()
    assert [row.class_id for row in rows] == cells.classes[:2]
    assert {row.sample_id for row in rows} == {cells.samples[1]}


def test_the_mouse_can_do_all_of_it(batch: Callable[..., Batch], page: Page) -> None:
    cells = batch(6)
    cells.open(page)
    page.get_by_role("button", name="lymphocyte").click()
    expect_shown(page, cells.samples[1])
    page.get_by_role("button", name="Not gradable").click()
    expect_shown(page, cells.samples[2])
    part(page, "past").get_by_role("button", name="lymphocyte").click()  # looked up again
    expect_shown(page, cells.samples[0])
    expect(part(page, "again-said")).to_contain_text("looking again")
    page.locator(f"[data-class='{cells.classes[2]}']").click()
    expect_shown(page, cells.samples[2])
    last = cells.rows()[-1]
    assert (last.sample_id, last.class_id, last.occasion) == (cells.samples[0], cells.classes[2], Occasion.REVIEW)
    page.get_by_role("button", name="Undo").click()
    expect_shown(page, cells.samples[0])
    assert standing(cells.workspace, cells.id, "anna")[cells.samples[0]].class_id == cells.classes[1]
    part(page, "canvas").hover()
    before = part(page, "zoom").inner_text()
    page.mouse.wheel(0, -300)
    expect(part(page, "zoom")).not_to_have_text(before)
    part(page, "canvas").dblclick()
    expect(part(page, "zoom")).to_have_text(before)
    assert page.title() == "Reading"  # and no class name became part of the page


# --- what is shown ----------------------------------------------------------------------


def test_a_blind_reader_sees_nothing_before_the_verdict(batch: Callable[..., Batch], page: Page) -> None:
    cells = batch(6)
    cells.open(page)
    shown(page)
    text = page.locator("#label-reader").inner_html()
    assert "uncertain" not in text
    assert ".png" not in text.replace("/display/", "").split("data-part")[0]
    press(page, "1")
    expect(part(page, "before")).to_contain_text("It was picked because: uncertain, place 0")
    assert cells.rows()[0].aids["blind"] is True
    page.keyboard.press("z")
    expect_shown(page, cells.samples[0])
    expect(part(page, "why")).to_be_empty()


def test_an_assisted_reader_sees_three_suggestions(batch: Callable[..., Batch], page: Page) -> None:
    cells = batch(6, blind=False)
    shares = np.tile(np.array([[0.6, 0.1, 0.3]], np.float32), (6, 1))
    answers = PoolAnswers(np.array(cells.samples), shares, np.array(cells.classes))
    save_pool_answers(cells.workspace, cells.id, cells.round, answers)
    cells.open(page)
    shown(page)
    expect(part(page, "why")).to_contain_text("Why this image: uncertain, place 0")
    expect(part(page, "suggested")).to_contain_text("0.60")
    expect(page.locator(f"[data-class='{cells.classes[2]}']")).to_contain_text("0.30")
    expect(page.locator("[data-class][aria-pressed=true]")).to_have_count(0)  # nothing is chosen beforehand
    press(page, "2")
    aids = cells.rows()[0].aids
    assert aids["blind"] is False
    assert [number for number, _ in aids["suggestions"]] == [cells.classes[0], cells.classes[2], cells.classes[1]]


def test_an_image_shown_once_more_looks_like_any_other(batch: Callable[..., Batch], page: Page) -> None:
    cells = batch(3)
    with cells.workspace.session() as session:
        row = session.get_one(SelectionRound, cells.round)
        row.picks = [{**pick, "repeat": place == 1} for place, pick in enumerate(row.picks)]
    cells.open(page)
    for key in "112":
        press(page, key)
    expect_shown(page, cells.samples[1])
    expect(part(page, "state")).to_be_empty()
    press(page, "3")
    expect(part(page, "empty")).to_contain_text("This batch is done")
    last = cells.rows()[-1]
    assert (last.occasion, last.class_id) == (Occasion.REPEAT, cells.classes[2])
    assert standing(cells.workspace, cells.id, "anna")[cells.samples[1]].class_id == cells.classes[0]


def test_a_damaged_image_is_told_and_can_be_called_not_gradable(batch: Callable[..., Batch], page: Page) -> None:
    cells = batch(3)
    with cells.workspace.session() as session:
        sample = session.get_one(Sample, cells.samples[0])
        Path(sample.file).write_bytes(b"\x89PNG\r\n\x1a\nnothing")
        sample.sha256 = "e" * 60 + f"{cells.id:04d}"
        write_thumbnail(Image.new("RGB", (9, 9)), thumbnail_path(cells.workspace, sample))
    cells.open(page)
    assert shown(page) == cells.samples[0]
    expect(part(page, "problem")).to_contain_text("cannot be shown")
    press(page, "g")
    assert cells.said() == {cells.samples[0]: Verdict.NOT_GRADABLE}


def test_sixteen_bits_can_be_windowed(batch: Callable[..., Batch], page: Page, tmp_path: Path) -> None:
    cells = batch(3)
    ramp = np.tile(np.arange(0, 64000, 250, dtype=np.uint16), (64, 1))
    Image.fromarray(ramp).save(tmp_path / "deep.tif")
    with cells.workspace.session() as session:
        sample = session.get_one(Sample, cells.samples[0])
        sample.file, sample.sha256 = str(tmp_path / "deep.tif"), "d" * 60 + f"{cells.id:04d}"
    cells.open(page)
    assert shown(page) == cells.samples[0]
    part(page, "adjust").locator("summary").click()
    expect(part(page, "centre-row")).to_be_visible()
    left, right = greys(page, 0.25), greys(page, 0.75)
    assert 50 < left < 80 < 180 < right < 205
    part(page, "centre").fill("3000")
    part(page, "span").fill("2000")
    assert greys(page, 0.25) == greys(page, 0.75) == 255
    part(page, "canvas").dblclick()
    assert abs(greys(page, 0.25) - left) <= 2


def greys(page: Page, across: float) -> int:
    """The red of the canvas at a share of its width, half-way down."""
    return int(
        page.evaluate(
            """share => { const c = document.querySelector('[data-part=canvas]');
            return c.getContext('2d').getImageData(c.width * share, c.height / 2, 1, 1).data[0]; }""",
            across,
        )
    )


def test_images_that_were_looked_up_show_what_is_decided(batch: Callable[..., Batch], page: Page) -> None:
    cells = batch(6)
    cells.open(page)
    press(page, "1")
    ids = cells.samples[:3]
    cells.open(page, list=",".join(map(str, ids)), occasion="review")
    expect(part(page, "title")).to_have_text("Likely errors")
    expect_shown(page, ids[0])
    expect(part(page, "state")).to_contain_text("You called it")
    assert [press(page, key) for key in "231"] == ids
    expect(part(page, "empty")).to_contain_text("all 3 images of this list")
    assert [row.occasion for row in cells.rows()[1:]] == [Occasion.REVIEW] * 3


@pytest.mark.parametrize("width", [1280, 1920])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_is_wider_than_the_window(batch: Callable[..., Batch], page: Page, width: int, theme: str) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    cells = batch(6)
    cells.open(page, __theme=theme)
    shown(page)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.keyboard.press("v")
    expect(page.get_by_role("option")).to_have_count(6)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_more_classes_than_digits_have_letters_and_a_search(batch: Callable[..., Batch], page: Page) -> None:
    cells = batch(6)
    set_classes(
        cells.workspace,
        cells.id,
        [c.name for c in classes(cells.workspace, cells.id)] + [f"kind {n}" for n in range(4, 41)],
    )
    numbers = [each.id for each in classes(cells.workspace, cells.id)]
    cells.open(page)
    shown(page)
    for key, place in (("9", 8), ("a", 9), ("e", 13), ("h", 14), ("x", 26)):  # f and g are commands
        sample = press(page, key)
        assert standing(cells.workspace, cells.id, "anna")[sample].class_id == numbers[place]
    page.keyboard.press("/")
    page.keyboard.type("kind 39")
    page.keyboard.press("Enter")
    expect(part(page, "empty")).to_be_visible()
    assert cells.rows()[-1].class_id == numbers[38]


# --- the grid ---------------------------------------------------------------------------


def test_a_sweep_through_the_grid(batch: Callable[..., Batch], page: Page) -> None:
    cells = batch(30)
    cells.open(page)
    shown(page)
    page.keyboard.press("v")
    options = page.get_by_role("option")
    expect(options).to_have_count(30)
    page.keyboard.press("1")  # nothing is selected, so nothing is decided
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    options.nth(6).click(modifiers=["Control"])
    expect(part(page, "selected")).to_contain_text("4 selected")
    page.keyboard.press("2")
    expect(part(page, "place")).to_contain_text("26 to decide")
    wanted = [*cells.samples[:3], cells.samples[6]]
    assert {s: each.class_id for s, each in standing(cells.workspace, cells.id, "anna").items()} == dict.fromkeys(
        wanted, cells.classes[1]
    )
    expect(page.get_by_role("option", selected=True)).to_have_count(4)  # they stay selected: another key corrects
    page.keyboard.press("z")  # one press was one step
    expect(part(page, "place")).to_contain_text("30 to decide")
    assert cells.said() == {}
    page.keyboard.press("y")
    expect(part(page, "place")).to_contain_text("26 to decide")
    assert set(cells.said()) == set(wanted)
    page.keyboard.press("Control+A")
    expect(part(page, "selected")).to_contain_text("30 selected")
    page.keyboard.press("Escape")
    options.nth(10).click()
    options.nth(14).click(modifiers=["Shift"])
    page.keyboard.press("g")
    expect(part(page, "place")).to_contain_text("21 to decide")
    assert len(cells.said()) == 9


# --- what can go wrong ------------------------------------------------------------------


@pytest.mark.parametrize("take", [True, False], ids=["take the new one", "keep the old one"])
def test_two_tabs_that_disagree(
    batch: Callable[..., Batch], page: Page, browser: Browser, problems: list[str], take: bool
) -> None:
    cells = batch(6)
    other = second_tab(browser, problems, page)
    for tab in (page, other):
        cells.open(tab)
        assert shown(tab) == cells.samples[0]
    press(page, "2")
    other.keyboard.press("3")
    expect(part(other, "conflict-said")).to_contain_text("In another tab you called this image “lymphocyte”")
    assert shown(other) == cells.samples[0]
    part(other, "take" if take else "stay").click()
    expect_shown(other, cells.samples[1])
    classes_kept = [row.class_id for row in cells.rows()]
    assert classes_kept == ([cells.classes[1], cells.classes[2]] if take else [cells.classes[1]])
    press(other, "1")  # the same verdict in both tabs is one
    press(page, "1")
    assert len(cells.rows()) == len(classes_kept) + 1


def test_undo_in_two_tabs_takes_back_one_verdict(
    batch: Callable[..., Batch], page: Page, browser: Browser, problems: list[str]
) -> None:
    cells = batch(6)
    cells.open(page)
    for _ in range(3):
        press(page, "2")
    other = second_tab(browser, problems, page)
    cells.open(other)
    expect_shown(other, cells.samples[3])
    page.keyboard.press("z")
    expect_shown(page, cells.samples[2])
    other.keyboard.press("z")
    expect(part(other, "before")).to_contain_text("Already taken back in another window.")
    assert set(cells.said()) == set(cells.samples[:2])
    assert shown(other) == cells.samples[3]
    expect(part(other, "past").get_by_role("listitem")).to_have_count(2)  # it shows what holds now
    expect(part(other, "place")).to_contain_text("4 to decide")

    other.keyboard.press("y")  # the other tab may put back what this one took back
    expect(part(other, "before")).to_contain_text("Put back: lymphocyte.")
    page.keyboard.press("y")
    expect(part(page, "before")).to_contain_text("Not put back")
    assert set(cells.said()) == set(cells.samples[:3])
    assert len(cells.rows()) == 5
    expect(part(page, "past").get_by_role("listitem")).to_have_count(3)
    page.keyboard.press("z")
    expect(part(page, "before")).to_contain_text("Taken back: lymphocyte.")
    assert set(cells.said()) == set(cells.samples[:2])


def test_two_readers_at_once(batch: Callable[..., Batch], page: Page, browser: Browser, problems: list[str]) -> None:
    cells = batch(6)
    with cells.workspace.session() as session:
        row = session.get_one(SelectionRound, cells.round)
        row.picks = [{**pick, "readers": 2} for pick in row.picks]
    other = second_tab(browser, problems)
    cells.open(page, "anna")
    cells.open(other, "ben")
    for _ in range(6):
        press(page, "1")
        press(other, "2")
    for tab in (page, other):
        expect(part(tab, "empty")).to_contain_text("This batch is done")
    expect(part(other, "before")).to_contain_text("Another reader has read it, too.")
    assert len(cells.rows()) == 12
    assert set(cells.said("anna")) == set(cells.said("ben")) == set(cells.samples)
    other.context.close()


def intercept(page: Page, handle: Callable[[Route], None]) -> None:
    """Have a test answer what the reading screen says to the server, and wait until the browser really asks it.

    Chromium takes a moment: on a busy machine a key pressed at once still reached the server.
    """
    probes: list[str] = []

    def either(route: Route) -> None:
        if "probe" in route.request.url:
            probes.append(route.request.url)
            route.fulfill(status=204)
        else:
            handle(route)

    page.route(ASKED, either)
    while not probes:
        page.evaluate("fetch('favicon.ico?/component_server/probe').then(() => {})")


def test_a_server_that_is_gone_for_a_while(batch: Callable[..., Batch], page: Page) -> None:
    cells = batch(6)
    cells.open(page)
    assert shown(page) == cells.samples[0]
    intercept(page, lambda route: route.abort())
    page.keyboard.press("2")
    expect(part(page, "trouble-said")).to_contain_text("Not saved yet: “lymphocyte”.")
    expect(part(page, "trouble-said")).to_contain_text("does not answer")
    assert shown(page) == cells.samples[0]  # the page does not move on
    page.keyboard.press("2")  # the same once more is nothing new
    page.keyboard.press("3")  # another one corrects the image that is still there
    expect(part(page, "trouble-said")).to_contain_text("Not saved yet: “lymphocyte”, “monocyte”.")
    page.keyboard.press("f")
    expect(part(page, "before")).to_contain_text("Then press F again")
    page.unroute(ASKED)
    expect_shown(page, cells.samples[1])
    expect(part(page, "trouble")).to_be_hidden()
    assert [row.class_id for row in cells.rows()] == cells.classes[1:3]
    assert set(cells.said()) == {cells.samples[0]}


def test_a_step_back_while_the_verdict_is_on_its_way(batch: Callable[..., Batch], page: Page) -> None:
    cells = batch(6)
    cells.open(page)
    press(page, "1")
    intercept(page, lambda route: route.abort())
    page.keyboard.press("2")
    expect(part(page, "trouble")).to_be_visible()
    page.keyboard.press("z")
    page.unroute(ASKED)
    expect(part(page, "before")).to_contain_text("Taken back: lymphocyte.")
    expect_shown(page, cells.samples[1])
    assert [(row.verdict, row.sample_id) for row in cells.rows()[1:]] == [
        (Verdict.LABEL, cells.samples[1]),
        (Verdict.UNDO, cells.samples[1]),
    ]
    press(page, "3")
    assert set(cells.said()) == set(cells.samples[:2])


def test_an_answer_that_got_lost_doubles_nothing(batch: Callable[..., Batch], page: Page) -> None:
    cells = batch(6)
    cells.open(page)
    shown(page)
    lost: list[str] = []

    def lose_once(route: Route) -> None:
        if asks_for(route, "keep") and not lost:
            route.fetch()  # the server keeps it, but the page never hears of it
            lost.append("keep")
            route.abort()
        else:
            route.continue_()

    intercept(page, lose_once)
    press(page, "1")
    assert lost
    assert len(cells.rows()) == 1
    page.keyboard.press("z")
    expect_shown(page, cells.samples[0])
    assert cells.said() == {}


def test_a_verdict_outlives_a_reload_while_the_server_is_gone(batch: Callable[..., Batch], page: Page) -> None:
    cells = batch(6)
    cells.open(page)
    shown(page)
    intercept(page, lambda r: r.abort() if asks_for(r, "keep") else r.continue_())
    page.keyboard.press("3")
    expect(part(page, "trouble")).to_be_visible()
    page.keyboard.press("2")
    page.reload()
    expect(part(page, "trouble")).to_be_visible()
    assert cells.rows() == []
    page.unroute(ASKED)
    expect_shown(page, cells.samples[1])
    first = cells.samples[0]
    assert [(row.sample_id, row.class_id) for row in cells.rows()] == [
        (first, cells.classes[2]),
        (first, cells.classes[1]),
    ]
    assert page.evaluate("localStorage.length") == 0


def test_without_the_password_nobody_reads(tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path / "clinic")
    demo = reader_page(workspace)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = launch(demo, workspace, port=port, password="tulip")
    try:
        body = {"data": {"dataset": 1, "annotator": "anna"}, "component_id": 1, "session_hash": "x", "fn_name": "look"}
        answer = httpx.post(f"{url}gradio_api/component_server/", json=body, trust_env=False)
        assert answer.status_code == 401
    finally:
        demo.close(verbose=False)
        workspace.close()
