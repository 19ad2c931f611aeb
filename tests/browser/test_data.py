"""The Data page: importing, looking at images, keeping what was chosen, names that are markup."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import select

from engines.store import Dataset
from tests.browser.conftest import HARMFUL, Workbench, write_images

pytestmark = pytest.mark.browser


def open_data(page: Page, workbench: Workbench, dataset: str = "cells") -> None:
    page.goto(f"{workbench.url}data?data={dataset}")
    expect(page.locator("#data-gallery .pl-gallery button").first).to_be_visible()


def import_folder(page: Page, folder: Path | str) -> None:
    page.get_by_role("button", name="Add a data set").click()
    page.locator("#import-source textarea, #import-source input").fill(str(folder))
    page.locator("#import-start").click()


def test_a_folder_is_imported_and_looked_at(page: Page, workbench: Workbench, tmp_path: Path) -> None:
    source = write_images(tmp_path / "smears", {"blast": 6, "plasma cell": 5})
    (source / "blast" / "broken.png").write_bytes(b"not an image")
    open_data(page, workbench)
    import_folder(page, source)
    following = page.locator("#data-following")
    expect(following).to_contain_text("“smears” is here: 11 images.")
    expect(following).to_contain_text("1 file left out")
    expect(page.locator("#data-chooser input")).to_have_value("smears")
    expect(page.locator("#data-summary")).to_contain_text("11 images of 2 classes")
    expect(page.locator("#data-gallery .pl-gallery button")).to_have_count(11)
    page.get_by_role("tab", name="Import report").click()
    expect(page.locator("#data-report")).to_contain_text("11 images came in. 1 file was left out.")
    expect(page.locator("#data-report tr").filter(has_text="plasma cell")).to_contain_text("5")
    page.get_by_role("tab", name="Classes and balance").click()
    expect(page.locator("#data-balance .main-svg").first).to_be_visible()
    following.get_by_role("button", name="Dismiss").click()
    expect(following).not_to_be_visible()


def test_slides_are_cut_into_tiles(page: Page, workbench: Workbench, tmp_path: Path) -> None:
    pytest.importorskip("openslide")
    pytest.importorskip("tifffile")
    from tests.data.test_slides import scanned, write_svs

    for number, folder in enumerate(("tumour", "tumour", "normal", "normal")):
        write_svs(tmp_path / f"lymph nodes/{folder}/{number}.svs", scanned(seed=number))
    open_data(page, workbench)
    page.get_by_role("button", name="Add a data set").click()
    page.locator("#import-medical").get_by_role("button", name="Slides and DICOM").click()
    page.locator("#setting-slides").get_by_label("tiles").check()
    size = page.locator("#setting-tile_size input")
    size.fill("0")
    page.locator("#import-source textarea, #import-source input").fill(str(tmp_path / "lymph nodes"))
    page.locator("#import-start").click()
    expect(page.locator(".toast-body").first).to_contain_text("Tile size: 0 does not work here")
    size.fill("256")
    page.locator("#setting-tiles_per_slide input").fill("5")
    page.locator("#import-start").click()
    # 12 tiles of each slide show tissue.
    expect(page.locator("#data-following")).to_contain_text("“lymph nodes” is here: 20 images.")
    page.get_by_role("tab", name="Import report").click()
    expect(page.locator("#data-report")).to_contain_text("Slides: 4, cut into 20 tiles.")
    expect(page.locator("#data-report")).to_contain_text("Slides with more than 5 tiles")


def test_a_zip_file_is_uploaded(page: Page, workbench: Workbench, tmp_path: Path) -> None:
    write_images(tmp_path / "packed", {"fibre": 3, "knot": 3})
    shutil.make_archive(str(tmp_path / "fabric"), "zip", tmp_path / "packed")
    open_data(page, workbench)
    page.get_by_role("button", name="Add a data set").click()
    page.locator("#import-upload input[type=file]").set_input_files(tmp_path / "fabric.zip")
    expect(page.locator("#import-upload")).to_contain_text("fabric")
    page.locator("#import-name textarea, #import-name input").fill("Fabric by <b>mail</b>")
    page.locator("#import-start").click()
    expect(page.locator("#data-following")).to_contain_text("“Fabric by <b>mail</b>” is here: 6 images.")


def test_a_wrong_place_is_told_in_words(page: Page, workbench: Workbench) -> None:
    open_data(page, workbench)
    import_folder(page, "/there/is/no/such/folder")
    message = page.locator(".toast-body")
    expect(message).to_contain_text("There is no folder or file “folder” at that place.")
    expect(message).to_contain_text("choose it with Browse")
    assert "Traceback" not in message.inner_text()


def test_the_folder_browser_finds_the_place(page: Page, workbench: Workbench, tmp_path: Path) -> None:
    write_images(tmp_path / "slides", {"a": 1})
    open_data(page, workbench)
    page.get_by_role("button", name="Add a data set").click()
    source = page.locator("#import-source textarea, #import-source input")
    source.fill(str(tmp_path))
    page.locator("#import-browse").click()
    listing = page.locator("#import-browser")
    listing.get_by_role("button", name="slides").click()
    expect(listing.get_by_role("button", name="slides")).to_have_count(0)  # we are inside
    expect(listing).to_contain_text("no images directly in it")
    listing.get_by_role("button", name="Take this folder").click()
    expect(source).to_have_value(str(tmp_path / "slides"))


def test_pages_filters_and_the_chosen_image_survive_a_reload(page: Page, workbench: Workbench) -> None:
    open_data(page, workbench)
    gallery, cells = page.locator("#data-gallery"), page.locator("#data-gallery .pl-gallery button")
    expect(gallery).to_contain_text("1–60 of 130")
    page.keyboard.press("ArrowRight")
    expect(gallery).to_contain_text("61–120 of 130")
    page.locator("#data-class input").click()
    page.get_by_role("option", name="monocyte").click()
    expect(gallery).to_contain_text("1–50 of 50")
    cells.nth(3).focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(gallery.locator(".pl-viewer")).to_contain_text("32 × 32 pixels")
    chosen = cells.nth(4).get_attribute("title")
    page.goto(workbench.url + "data")
    expect(gallery).to_contain_text("1–50 of 50")
    expect(page.locator("#data-gallery [aria-pressed=true]")).to_have_attribute("title", str(chosen))
    assert page.locator("#data-gallery img").first.evaluate("image => image.naturalWidth") > 0


def test_a_class_name_that_is_markup_stays_text(page: Page, workbench: Workbench) -> None:
    open_data(page, workbench)
    page.locator("#data-class input").click()
    page.get_by_role("option", name=HARMFUL).click()
    cells = page.locator("#data-gallery .pl-gallery button")
    expect(cells).to_have_count(10)
    expect(cells.first).to_contain_text(HARMFUL)
    cells.first.click()
    expect(page.locator(".pl-viewer")).to_contain_text(HARMFUL)
    for tab in ("Import report", "Classes and balance", "Descriptions"):
        page.get_by_role("tab", name=tab).click()
        page.wait_for_timeout(500)
    assert "harmed" not in page.title()
    assert page.locator("img[src=x]").count() == 0


def test_rename_describe_remove_and_undo(page: Page, workbench: Workbench, tmp_path: Path) -> None:
    biopsies, renamed = f"biopsies {tmp_path.name}", f"Colon {tmp_path.name}"  # another try finds other names
    open_data(page, workbench)
    import_folder(page, write_images(tmp_path / biopsies, {"normal": 4, "tumour": 4}))
    expect(page.locator("#data-following")).to_contain_text(f"“{biopsies}” is here")
    expect(page.locator("#data-chooser input")).to_have_value(biopsies)
    page.locator("#data-rename").click()
    page.locator("#data-new-name textarea, #data-new-name input").fill("cells")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator(".toast-body")).to_contain_text("There is a data set called “cells” already.")
    page.locator("#data-new-name textarea, #data-new-name input").fill(renamed)
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator("#data-chooser input")).to_have_value(renamed)
    page.get_by_role("tab", name="Descriptions").click()
    page.locator("#describe-text textarea").fill("regular glands\n\nregular glands\npale cytoplasm")
    page.locator("#describe-save").click()
    expect(page.locator("#describe-saved")).to_contain_text("Saved: 2 for “normal”.")
    expect(page.locator("#describe-state")).to_contain_text("Not described yet: “tumour”.")
    (tmp_path / "sentences.csv").write_text("class,description\nTumour,crowded nuclei\nNormal,much mucus\n")
    with page.expect_file_chooser() as chooser:
        page.locator("#describe-upload").click()
    chooser.value.set_files(tmp_path / "sentences.csv")
    expect(page.locator("#describe-saved")).to_contain_text("2 sentences for 2 classes came in.")
    expect(page.locator("#describe-text textarea")).to_have_value("regular glands\npale cytoplasm\nmuch mucus")
    with page.expect_download() as download:
        page.locator("#describe-download").click()
    written = json.loads(Path(download.value.path()).read_text("utf-8"))
    assert written == {"normal": ["regular glands", "pale cytoplasm", "much mucus"], "tumour": ["crowded nuclei"]}
    page.locator("#describe-saved").get_by_role("button", name="Undo").click()
    expect(page.locator("#describe-state")).to_contain_text("Not described yet: “tumour”.")
    page.locator("#data-remove").click()
    expect(page.locator("#data-chooser input")).not_to_have_value(renamed)
    page.locator("#data-following").get_by_role("button", name="Undo").click()
    expect(page.locator("#data-chooser input")).to_have_value(renamed)
    with workbench.workspace.session() as session:
        kept = session.scalars(select(Dataset).where(Dataset.name == renamed)).one()
        assert kept.classes[0].descriptions == ["regular glands", "pale cytoplasm"]


def test_an_export_can_be_downloaded(page: Page, workbench: Workbench) -> None:
    open_data(page, workbench)
    page.locator("#data-export").click()
    with page.expect_download() as download:
        page.locator("#data-following").get_by_role("link", name="Download").click()
    assert download.value.suggested_filename.endswith(".zip")
    assert Path(download.value.path()).stat().st_size > 1000
