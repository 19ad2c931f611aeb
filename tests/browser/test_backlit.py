"""Backlit photos on the page: opened, compared under one zoom, confirmed, saved; an enhancer trained and used."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from engines.enhance.checkpoint import write_tensors
from engines.enhance.network import LightMapNet
from engines.enhance.own import add_enhancer
from engines.enhance.requests import AddRequest
from engines.store import Job, JobState, Workspace
from tests.browser.conftest import Workbench
from tests.data.test_dicom import SECRETS, encode, scan

pytestmark = pytest.mark.browser
LONG = 120_000
"""Milliseconds for what computes: starting the worker, loading its libraries."""


def backlit(seed: int) -> Image.Image:
    values = np.random.default_rng(seed).integers(4, 40, (48, 72, 3), np.uint8)
    values[:16] = 230
    return Image.fromarray(values)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two photos, a text that is called a photo and one of 16 bits; a folder of well-lit ones beside it."""
    root = tmp_path_factory.mktemp("photos")
    for name in ("dark", "bright"):
        (root / name).mkdir()
        for number in range(2):
            image = backlit(number)
            (image if name == "dark" else image.point(lambda v: 255 - v)).save(root / name / f"{number}.png")
    (root / "dark" / "text.jpg").write_text("no photo")
    tifffile.imwrite(root / "dark" / "zdeep.tif", np.full((48, 72), 9_000, np.uint16))
    return root


@pytest.fixture(scope="module")
def bench(start_workbench: Callable[[Workspace], Workbench], tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    """A workbench with an enhancer that somebody added; nobody wants its first tour."""
    place = tmp_path_factory.mktemp("backlit")
    workspace = Workspace.open(place / "clinic")
    network = LightMapNet()
    network.cond_add1.bias.data.fill_(0.6)
    write_tensors(place / "own.safetensors", network.state_dict())
    add_enhancer(workspace, AddRequest(file=str(place / "own.safetensors"), name="Camera 1"))
    with workspace.session() as session:
        session.add(Job(kind="sample", title="Sample data", state=JobState.CANCELLED))
    return start_workbench(workspace)


def open_folder(page: Page, bench: Workbench, place: Path) -> None:
    page.goto(bench.url + "backlit")
    expect(page.locator("#backlit-empty")).to_be_visible()
    page.locator("#backlit-place").locator("input, textarea").fill(str(place))
    page.locator("#backlit-open").click()
    expect(page.locator("#backlit-numbers table")).to_be_visible(timeout=LONG)


def choose(page: Page, side: str, method: str) -> None:
    page.locator(f"#backlit-{side} input").click()
    page.get_by_role("option", name=method).click()
    title = "Photo" if method.startswith("The photo") else method
    expect(page.locator("#backlit-viewer .pl-wipe img").nth(1 if side == "right" else 0)).to_have_attribute(
        "alt", title, timeout=LONG
    )


def turn(page: Page, to: str) -> None:
    pager = page.locator("#backlit-pager")
    before = pager.inner_text()
    pager.get_by_role("button", name=to).click()
    expect(pager).not_to_have_text(before, use_inner_text=True)  # until then the button means the same page


def pixels(page: Page, image: Locator) -> Image.Image:
    """What the browser was sent for an image."""
    found = page.request.get(page.evaluate("image => image.src", image.element_handle()))
    return Image.open(io.BytesIO(found.body()))


def test_without_a_photo_there_are_samples(bench: Workbench, page: Page) -> None:
    page.goto(bench.url + "backlit")
    page.get_by_role("button", name="Try it with sample photos").click()
    expect(page.locator("#backlit-pager")).to_contain_text("1 of 4: sample cat.png")
    expect(page.locator("#backlit-numbers .pl-sentence")).to_contain_text("With Shipped enhancer", timeout=LONG)


def test_a_folder_is_compared_and_nothing_is_lost_on_reload(bench: Workbench, page: Page, folder: Path) -> None:
    open_folder(page, bench, folder / "dark")
    expect(page.get_by_text("Enhancement changes intensities.")).to_be_visible()
    expect(page.locator("#backlit-pager")).to_contain_text("1 of 4: 0.png")
    viewer = page.locator("#backlit-viewer")
    assert pixels(page, viewer.locator(".pl-wipe img").first).tobytes() == backlit(0).tobytes()
    choose(page, "right", "Auto gamma")
    expect(page.locator("#backlit-numbers .pl-sentence")).to_contain_text("With Auto gamma")
    expect(page.locator("#backlit-light .scatterlayer .trace")).to_have_count(2)
    before = page.locator("#backlit-numbers").inner_text()
    page.locator("#backlit-strength input[type=number]").fill("0.3")
    page.locator("#backlit-strength input[type=number]").press("Enter")
    page.locator("#backlit-strength input[type=range]").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#backlit-numbers")).not_to_have_text(before, timeout=LONG)
    page.locator("body").click(position={"x": 5, "y": 5})
    page.keyboard.press("ArrowRight")
    expect(page.locator("#backlit-pager")).to_contain_text("2 of 4: 1.png")
    expect(page.locator("#backlit-numbers")).to_contain_text("72 × 48 pixels")
    page.wait_for_timeout(1500)
    page.reload()
    expect(page.locator("#backlit-pager")).to_contain_text("2 of 4: 1.png")
    expect(page.locator("#backlit-numbers .pl-sentence")).to_contain_text("With Auto gamma", timeout=LONG)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_all_views_share_one_zoom(bench: Workbench, page: Page, folder: Path) -> None:
    open_folder(page, bench, folder / "dark")
    choose(page, "right", "Camera 1")
    viewer = page.locator("#backlit-viewer")
    for _ in range(2):
        viewer.get_by_role("button", name="Larger").click()
    expect(viewer.locator("[data-part=zoom]")).to_have_text("225%")
    seen = set()
    for mode, shown in (
        ("Wipe", ".pl-wipe img"),
        ("Side by side", "[data-pane=left] img"),
        ("Flicker", "[data-pane=flicker] img"),
        ("Difference", "canvas"),
        ("Light map", "[data-pane=light] img"),
    ):
        viewer.get_by_role("button", name=mode, exact=True).click()
        picture = viewer.locator(shown).first
        expect(picture).to_be_visible()
        place = "element => getComputedStyle(element).transform.match(/[-.0-9]+/)[0]"
        seen.add(round(float(picture.evaluate(place)), 3))
    assert seen == {2.25}
    expect(viewer.locator("[data-pane=light]")).to_contain_text("Camera 1: light from 0.")
    viewer.get_by_role("button", name="Difference", exact=True).click()
    expect(viewer.locator("canvas")).to_have_attribute("data-drawn", "4")
    viewer.get_by_label("Difference times").fill("8")
    expect(viewer.locator("canvas")).to_have_attribute("data-drawn", "8")
    viewer.get_by_role("button", name="Flicker", exact=True).click()
    flicker = viewer.locator("[data-pane=flicker]")
    flicker.focus()
    page.keyboard.down(" ")
    expect(flicker.locator("[data-title]")).to_have_text("Photo")
    page.keyboard.up(" ")
    expect(flicker.locator("[data-title]")).to_have_text("Camera 1")
    viewer.get_by_role("button", name="Wipe", exact=True).click()
    stage = viewer.locator(".pl-wipe-stage")
    stage.hover(position={"x": 40, "y": 40})
    before = viewer.locator("[data-part=stage]").get_attribute("style")
    page.mouse.down()
    page.mouse.move(page.viewport_size["width"] / 2 if page.viewport_size else 600, 300, steps=4)
    page.mouse.up()
    assert viewer.locator("[data-part=stage]").get_attribute("style") != before  # moved, and the divider stayed
    assert viewer.get_by_role("slider", name="Divider").input_value() == "50"
    turn(page, "Next")
    expect(page.locator("#backlit-pager")).to_contain_text("1.png")
    expect(viewer.locator("[data-part=zoom]")).to_have_text("225%")


def test_all_methods_stand_beside_each_other(bench: Workbench, page: Page, folder: Path) -> None:
    open_folder(page, bench, folder / "dark" / "0.png")
    page.get_by_label("Show this photo by all methods").check()
    sheet = page.locator("#backlit-contact")
    for title in ("Photo", "Auto gamma", "CLAHE", "Retinex (MSRCR)", "Exposure fusion", "Camera 1"):
        expect(sheet.get_by_text(title, exact=True)).to_be_visible(timeout=LONG)
    sheet.get_by_text("CLAHE", exact=True).click()
    expect(page.locator("#backlit-numbers .pl-sentence")).to_contain_text("With CLAHE", timeout=LONG)
    expect(page.locator("#backlit-right input")).to_have_value("CLAHE")


def test_bad_and_deep_photos_are_told_and_saving_leaves_originals_alone(
    bench: Workbench, page: Page, folder: Path
) -> None:
    originals = {file: file.read_bytes() for file in (folder / "dark").iterdir()}
    open_folder(page, bench, folder / "dark")
    choose(page, "right", "Auto gamma")
    turn(page, "Next")
    turn(page, "Next")
    told = page.locator("#backlit-told")
    expect(told).to_contain_text("“text.jpg” cannot be enhanced: not a PNG, JPEG", timeout=LONG)
    expect(page.locator("#backlit-viewer .pl-wipe")).to_be_hidden()
    turn(page, "Next")
    expect(told).to_contain_text("“zdeep.tif” has 16 bits: its values may be measurements.", timeout=LONG)
    page.get_by_label("I know that these values may be measurements").check()
    expect(page.locator("#backlit-numbers")).to_contain_text("16 bits a channel", timeout=LONG)
    page.locator("#backlit-save").click()
    saved = page.locator("#backlit-saved")
    expect(saved).to_contain_text("1 enhanced photo saved.", timeout=LONG)
    with page.expect_download() as found:
        saved.get_by_role("link", name="how it was made").click()
    card = json.loads(Path(found.value.path()).read_text())
    assert (card["source"], card["recipe"]["method"]) == ("zdeep.tif", "auto-gamma")
    (output,) = bench.workspace.folder("exports").glob("enhanced/*/zdeep.tif")
    assert tifffile.imread(output).dtype == np.uint16
    page.locator("#backlit-save-all").click()
    expect(saved).to_contain_text("3 enhanced photos saved.", timeout=LONG)
    expect(saved).to_contain_text("1 photo could not be enhanced.")
    assert {file: file.read_bytes() for file in (folder / "dark").iterdir()} == originals
    page.reload()
    expect(page.locator("#backlit-saved")).to_contain_text("3 enhanced photos saved.")


def test_a_dicom_image_asks_first_and_names_nobody(bench: Workbench, page: Page, tmp_path: Path) -> None:
    values = np.linspace(0, 4000, 48 * 72).astype(np.uint16).reshape(48, 72)
    (tmp_path / "scan.dcm").write_bytes(encode(scan(values)))
    page.goto(bench.url + "backlit")
    page.locator("#backlit-files input[type=file]").set_input_files(tmp_path / "scan.dcm")
    told = page.locator("#backlit-told")
    expect(told).to_contain_text("“scan.dcm” is a DICOM image", timeout=LONG)
    expect(page.locator("#backlit-viewer .pl-wipe")).to_be_hidden()
    page.locator("#backlit-save").click()
    progress = page.locator("#backlit-progress")
    expect(progress).to_contain_text("“scan.dcm” is a DICOM image", timeout=LONG)
    expect(progress).to_contain_text("No photo could be enhanced.")
    page.get_by_label("I know that these values may be measurements").check()
    expect(page.locator("#backlit-numbers table")).to_be_visible(timeout=LONG)
    page.locator("#backlit-save").click()
    saved = page.locator("#backlit-saved")
    expect(saved).to_contain_text("1 enhanced photo saved.", timeout=LONG)
    with page.expect_download() as found:
        saved.get_by_role("link", name="how it was made").click()
    card = Path(found.value.path()).read_text()
    assert json.loads(card)["source"] == "scan.dcm"
    assert not any(secret in card + page.content() for secret in SECRETS)


def test_well_lit_originals_are_measured_against(bench: Workbench, page: Page, folder: Path, tmp_path: Path) -> None:
    backlit(0).save(tmp_path / "0.png")
    open_folder(page, bench, folder / "dark" / "0.png")
    choose(page, "right", "Auto gamma")
    expect(page.locator("#backlit-numbers")).not_to_contain_text("Near the reference")
    page.get_by_text("I have well-lit originals").click()
    place = page.locator("#backlit-reference").locator("input, textarea")
    place.fill(str(tmp_path))
    place.press("Enter")
    expect(page.locator("#backlit-numbers")).to_contain_text("Near the reference", timeout=LONG)
    place.fill(str(tmp_path / "nowhere"))
    place.press("Enter")
    expect(page.locator("#backlit-numbers")).not_to_contain_text("Near the reference", timeout=LONG)


def test_files_and_folders_are_dropped(bench: Workbench, page: Page, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.png").write_bytes(b"")
    page.goto(bench.url + "backlit")
    expect(page.locator("#backlit-empty")).to_be_visible()
    page.locator("#backlit-open").click()
    expect(page.get_by_text("Nothing was chosen yet.")).to_be_visible()
    files = [folder / "dark" / "0.png", tmp_path / "empty.png"]
    page.locator("#backlit-files input[type=file]").set_input_files(files)
    expect(page.locator("#backlit-pager")).to_contain_text("1 of 2: 0.png")
    turn(page, "Next")
    expect(page.locator("#backlit-told")).to_contain_text("“empty.png” cannot be enhanced: empty", timeout=LONG)
    page.locator("#backlit-folder input[type=file]").set_input_files(folder / "dark")
    expect(page.locator("#backlit-pager")).to_contain_text(re.compile("1 of 4: 0.png"))


def test_an_enhancer_is_trained_cancelled_gone_on_with_and_used(bench: Workbench, page: Page, folder: Path) -> None:
    open_folder(page, bench, folder / "dark" / "0.png")
    page.get_by_role("tab", name="Train your own").click()
    page.locator("#backlit-train").click()
    expect(page.get_by_text("Nothing was chosen yet.")).to_be_visible()
    page.locator("#backlit-name").locator("input, textarea").fill("Camera 2")
    page.locator("#backlit-dark").locator("input, textarea").fill(str(folder / "dark"))
    page.locator("#backlit-bright").locator("input, textarea").fill(str(folder / "bright"))
    page.locator("#backlit-advanced").get_by_text("Advanced").click()
    steps = {"prompt_steps": 6, "warm_up_steps": 2, "enhance_steps": 4}
    for name, value in {"rounds": 1, "extensions": 0, "size": 32, **steps}.items():
        page.locator(f"#backlit-{name} input").fill(str(value))
    page.locator("#backlit-train").click()
    training = page.locator("#backlit-training")
    training.get_by_role("button", name="Cancel").click()  # at once: so few steps are soon done
    expect(training).to_contain_text("Cancelled", timeout=LONG)
    page.reload()
    page.get_by_role("tab", name="Train your own").click()
    training.get_by_role("button", name="Try again").click()
    expect(training).to_contain_text("took enhanced photos for backlit", timeout=LONG)
    expect(training.locator("[aria-current]")).to_contain_text("Brightening, round 1", timeout=LONG)
    expect(page.locator("#backlit-use")).to_be_visible(timeout=LONG)
    expect(page.locator("#backlit-curve .scatterlayer .trace")).to_have_count(1)
    rounds = page.locator("#backlit-rounds .pl-rounds")
    expect(rounds).to_contain_text("after round 1", timeout=LONG)
    expect(rounds.locator("img")).to_have_count(6)  # text.jpg cannot be read
    page.locator("#backlit-use").click()
    expect(page.locator("#backlit-numbers .pl-sentence")).to_contain_text("With Camera 2", timeout=LONG)
    expect(page.locator("#backlit-right input")).to_have_value("Camera 2")
