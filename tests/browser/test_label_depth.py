"""The reading screen on DICOM: windows to choose from, and grey levels that only a narrow window tells apart."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import select

from app.main import launch
from engines.data import ImportRequest, import_dataset
from engines.store import Sample, SelectionRound, Workspace
from tests.browser.conftest import PATIENCE, Workbench
from tests.browser.test_label_reading import reader_page
from tests.data.test_dicom import put, scan

pytest.importorskip("pydicom")
pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def reading(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workbench]:
    workspace = Workspace.open(tmp_path_factory.mktemp("depth") / "clinic")
    demo = reader_page(workspace)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    yield Workbench(launch(demo, workspace, port=port), workspace)
    demo.close(verbose=False)
    workspace.close()


def opened(reading: Workbench, page: Page, folder: Path, name: str) -> None:
    """A CT slice of 64 x 64 values from -1024 to 3071, open on the reading screen."""
    values = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    tags = {"BitsStored": 12, "HighBit": 11, "RescaleSlope": 1, "RescaleIntercept": -1024, "Modality": "CT"}
    put(folder / "ct/a.dcm", scan(values, **tags, WindowCenter=1024, WindowWidth=4096))
    report = import_dataset(reading.workspace, ImportRequest(source=str(folder / "ct"), name=name))
    with reading.workspace.session() as session:
        samples = list(session.scalars(select(Sample.id).where(Sample.dataset_id == report.dataset_id)))
        picks = [{"sample": one, "why": "", "readers": 1} for one in samples]
        session.add(SelectionRound(dataset_id=report.dataset_id, number=1, strategy="entropy", budget=1, picks=picks))
    page.goto(f"{reading.url}?dataset={report.dataset_id}&who=anna")
    expect(page.locator("[data-part=canvas]")).to_be_visible(timeout=PATIENCE)
    page.locator("[data-part=adjust] summary").click()


def shades(page: Page) -> int:
    """How many shades the picture has on screen, shown pixel by pixel."""
    script = """canvas => {
        const {data} = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
        const seen = new Set();
        for (let i = 0; i < data.length; i += 4) if (data[i + 3]) seen.add(data[i]);
        return seen.size;
    }"""
    return int(page.locator("[data-part=canvas]").evaluate(script))


def test_windows_are_offered_and_go_down_to_single_values(reading: Workbench, page: Page, tmp_path: Path) -> None:
    opened(reading, page, tmp_path, f"ct {tmp_path.name}")
    windows = page.locator("[data-part=presets] button")
    expect(windows).to_have_text(["1024 / 4096", "Soft tissue", "Lung", "Bone", "Brain"])
    expect(windows.first).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("w")
    expect(windows.nth(1)).to_have_attribute("aria-pressed", "true")
    expect(page.locator("[data-part=span-said]")).to_have_text("400")
    windows.nth(4).click()
    expect(page.locator("[data-part=centre-said]")).to_have_text("40")
    # Brain: 80 values wide. Eight bits of the whole range would give them five shades.
    assert shades(page) > 70
    page.keyboard.press(".")
    expect(page.locator("[data-part=span-said]")).to_have_text("64")
    page.keyboard.press(",")
    expect(windows.nth(4)).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("w")
    expect(windows.first).to_have_attribute("aria-pressed", "true")
