"""Finding defects in the browser: what can be trained, and where a finished prompt sees them."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, Page, expect

from engines.data import ImportRequest, import_dataset
from engines.runs.request import TrainRequest, create_runs
from engines.store import Sample, Workspace
from tests.browser.conftest import Workbench, write_images
from tests.runs.test_defects import write_textures
from tests.runs.test_perform import finish

pytestmark = [pytest.mark.browser, pytest.mark.slow]
LONG = 240_000


@pytest.fixture(scope="module")
def factory(start_workbench: Callable[[Workspace], Workbench], tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    """Textures with marked defects, others without labels of that kind, and one AnomalyCLIP that learned from them."""
    folder = tmp_path_factory.mktemp("factory")
    workspace = Workspace.open(folder / "factory")
    known = import_dataset(workspace, ImportRequest(source=str(write_textures(folder / "known", ["stripes", "rings"]))))
    other = import_dataset(
        workspace, ImportRequest(source=str(write_textures(folder / "parts", ["waves", "checks"], 8)))
    )
    import_dataset(workspace, ImportRequest(source=str(write_images(folder / "cells", {"blast": 4, "monocyte": 4}))))
    (run,) = create_runs(
        workspace,
        TrainRequest(
            dataset_id=known.dataset_id,
            method="anomalyclip",
            protocol="zero-shot-anomaly",
            seeds=[1],
            test_datasets=[other.dataset_id],
            training={"epochs": 3},
        ),
    )
    finish(workspace, run)
    return start_workbench(workspace)


def coloured(page: Page) -> tuple[float, str]:
    """(share of the overlay's pixels with a colour, a digest of all of them)"""
    share, digest = page.locator("#run-viewer canvas").evaluate(
        """canvas => {
          const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
          let coloured = 0, digest = 0;
          for (let i = 0; i < data.length; i += 4) {
            coloured += data[i + 3] > 0;
            digest = (digest * 31 + data[i] + data[i + 3]) >>> 0;
          }
          return [coloured / (data.length / 4), String(digest)];
        }"""
    )
    return float(share), str(digest)


def slide(slider: Locator, value: int) -> None:
    slider.evaluate(
        "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input', {bubbles: true})); }", value
    )


def test_where_it_sees_defects(factory: Workbench, page: Page) -> None:
    page.goto(factory.url + "runs")
    page.locator("#runs-table button", has_text="AnomalyCLIP").click()
    section = page.locator("#run-defects")
    expect(section.get_by_role("heading", name="Where it sees defects")).to_be_visible()
    expect(page.locator("#run-worth .pl-sentence")).to_contain_text("the damaged one got the higher score in")
    expect(page.locator("#run-worth tbody tr")).to_have_count(4)  # two textures, their mean, ready-made sentences
    cells = page.locator("#run-scores .pl-gallery button")
    expect(cells).to_have_count(24)
    expect(page.locator("#run-scores")).to_contain_text("1–24 of 32")
    scores = [float(text.split()[0]) for text in cells.locator(".pl-caption").all_inner_texts()]
    assert scores == sorted(scores, reverse=True)
    viewer = page.locator("#run-viewer")
    expect(viewer.locator("[data-part=said]")).to_have_text(f"Score {scores[0]:.2f} of 1")
    expect(viewer.locator("[data-part=image]")).to_be_visible()

    damaged = cells.filter(has_text="damaged").first
    damaged.click()
    expect(damaged).to_have_attribute("aria-pressed", "true")
    expect(viewer.locator("[data-part=why]")).to_contain_text("By its label it is damaged")
    mark = viewer.get_by_role("checkbox")
    expect(mark).to_be_visible()
    opacity, threshold = viewer.get_by_label("How strong"), viewer.get_by_label("Colour places")
    slide(threshold, 0)
    everywhere, before = coloured(page)
    assert everywhere > 0.5
    mark.uncheck()
    assert coloured(page)[1] != before
    slide(threshold, 60)
    expect(viewer.locator("[data-part=threshold-said]")).to_have_text("0.60")
    fewer, strong = coloured(page)
    assert 0 < fewer < everywhere
    expect(viewer.locator("[data-part=share]")).to_have_text(f"{100 * fewer:.1f}% of the image is coloured.")
    slide(opacity, 20)
    assert coloured(page) != (fewer, strong)
    slide(threshold, 100)
    assert coloured(page)[0] < fewer

    page.locator("#run-target").get_by_text("waves").click()
    expect(page.locator("#run-scores h3")).to_contain_text("16 images")
    expect(viewer.locator("[data-part=threshold-said]")).to_have_text("1.00")  # the sliders stay where they were put
    page.locator("#run-target").get_by_text("all").click()
    page.locator("#run-scores").get_by_role("button", name="Next page").click()
    expect(cells).to_have_count(8)
    sound = cells.filter(has_text="sound").last
    sound.click()
    expect(viewer.locator("[data-part=why]")).to_contain_text("it is sound")
    expect(mark).to_be_hidden()
    expect(cells).to_have_count(8)


def test_an_image_of_ones_own(factory: Workbench, page: Page) -> None:
    with factory.workspace.session() as session:
        damaged = session.query(Sample).filter(Sample.mask != "").first()
    image = factory.workspace.resolve(damaged.file)
    page.goto(factory.url + "runs")
    page.locator("#runs-table button", has_text="AnomalyCLIP").click()
    page.get_by_role("tab", name="Try your own image").click()
    page.locator("#run-upload input[type=file]").set_input_files(str(image))
    answer = page.locator("#run-answer")
    expect(answer.locator(".pl-share")).to_have_count(4, timeout=LONG)
    expect(answer).to_contain_text("anomalous")
    expect(answer.locator("img")).to_have_attribute("src", re.compile("^data:image/png"))


def test_training_is_offered_where_defects_are_marked(factory: Workbench, page: Page) -> None:
    page.goto(factory.url + "train")
    card = page.locator(".pl-method", has_text="AnomalyCLIP")
    expect(page.get_by_role("heading", name="You have only normal images")).to_be_visible()
    dataset = page.locator("#train-dataset input")
    for name, offered in (("cells", False), ("known", True)):
        dataset.click()
        page.get_by_role("option", name=re.compile(f"^{name} ")).click()
        if offered:
            expect(card).to_be_enabled()
        else:
            expect(card).to_be_disabled()
            expect(card).to_contain_text("these have no marks")
    card.click()
    expect(card).to_have_attribute("aria-checked", "true")
    expect(page.locator("#train-protocol")).to_contain_text("where the defects are")
    expect(page.locator("#train-targets")).to_contain_text("its own images that were set aside")
    expect(page.locator("#train-shots")).to_be_hidden()
    expect(page.locator("#train-choices .pl-estimate")).to_contain_text("15 passes", timeout=LONG)
