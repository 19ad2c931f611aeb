"""Labels out of the page and into it, as files: what arrives, what the page shows of it, and what a wrong file does."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest
from playwright.sync_api import Page, expect

from engines.data import ImportRequest, import_dataset
from engines.labelling import effective_labels, label_settings, save_label_settings
from engines.labelling.answers import imported_suggestions
from engines.store import Job, JobState, Sample, Verdict, Workspace
from tests.browser.conftest import Workbench
from tests.browser.test_label import LONG, SHOWN, Copy, on_screen
from tests.runs.conftest import write_shapes

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(1800)]
FORMULA = ("=", "+", "-", "@", "\t", "\r")
READER = "=cmd|' /C calc'!A1"
"""A name that a spreadsheet would run."""
Table = list[dict[str, str]]


@pytest.fixture(scope="module")
def clinic(start_workbench: Callable[[Workspace], Workbench], tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    folder = tmp_path_factory.mktemp("files")
    workspace = Workspace.open(folder / "clinic")
    source = write_shapes(folder / "shapes", train=6, test=2)
    import_dataset(workspace, ImportRequest(source=str(source), name="shapes"))
    with workspace.session() as session:
        session.add(Job(kind="sample", title="Sample data", state=JobState.CANCELLED))
    return start_workbench(workspace)


def open_files(copy: Copy, page: Page, url: str, reader: str) -> None:
    copy.open(page, url, reader)
    page.get_by_role("tab", name="Export and import").click()
    expect(page.locator("#label-export")).to_be_visible()


def ended(page: Page, copy: Copy, kind: str, click: Callable[[], None]) -> Job:
    """The job that a click begins, when it has ended."""
    before = {job.id for job in jobs_of(copy, kind)}
    click()
    for _ in range(LONG // 200):
        new = [job for job in jobs_of(copy, kind) if job.id not in before]
        if new and new[0].state.ended:
            return new[0]
        page.wait_for_timeout(200)
    raise AssertionError(f"{kind} did not end")


def jobs_of(copy: Copy, kind: str) -> list[Job]:
    with copy.workspace.session() as session:
        return [job for job in session.query(Job).filter_by(kind=kind) if job.payload["dataset_id"] == copy.id]


def export(page: Page, copy: Copy, format: str, audit: bool = True) -> dict[str, bytes]:
    """The files of an export as they are downloaded: in the ZIP, or one by one where none is offered."""
    page.locator("#label-format input").click()
    page.get_by_role("option", name=re.compile(format)).click()
    page.locator("#label-audit input").set_checked(audit)
    job = ended(page, copy, "export_labels", page.locator("#label-export").click)
    assert job.state is JobState.DONE
    names = [Path(job.result["archive"]).name] if job.result["archive"] else [Path(f).name for f in job.result["files"]]
    found: dict[str, bytes] = {}
    for name in names:
        link = page.locator(f"#label-exported a[download='{name}']")
        expect(link).to_be_visible()
        with page.expect_download() as saved:
            link.click()
        found[name] = Path(saved.value.path()).read_bytes()
    if not job.result["archive"]:
        return found
    with zipfile.ZipFile(io.BytesIO(found.popitem()[1])) as archive:
        top = Path(names[0]).stem
        assert all(name.startswith(f"{top}/") for name in archive.namelist())
        return {name.removeprefix(f"{top}/"): archive.read(name) for name in archive.namelist()}


def rows(content: bytes) -> Table:
    return list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline="")))


def harmless(content: bytes) -> bool:
    return not any(str(cell).startswith(FORMULA) for row in rows(content) for cell in (*row, *row.values()))


def test_exports_arrive_and_hold_what_was_said(clinic: Workbench, page: Page) -> None:
    copy = Copy(clinic.workspace)
    for sample in copy.pool[:5]:
        copy.say(READER, sample, copy.truth(sample))
    with copy.workspace.session() as session:
        labels = effective_labels(session, copy.id)
        digests = {s.sha256: s.id for s in session.query(Sample).filter_by(dataset_id=copy.id)}
    names = {class_id: name for name, class_id in copy.ids.items()}
    expected = {sha256: names[labels[sample]] for sha256, sample in digests.items() if sample in labels}
    assert len(expected) == 5 + 8

    def told(table: Table) -> dict[str, str]:
        return {row["sha256"]: row["label"] for row in table if row["label"]}

    def images(files: dict[str, bytes]) -> int:
        return sum(content.startswith(b"\x89PNG") for content in files.values())

    open_files(copy, page, clinic.url, "Dr Who")
    expect(page.locator("#label-zip")).to_be_hidden()
    files = export(page, copy, "Table", audit=False)
    assert set(files) == {"labels.csv"}
    assert told(rows(files["labels.csv"])) == expected
    assert harmless(files["labels.csv"])

    files = export(page, copy, "Table")
    assert told(rows(files["labels.csv"])) == expected
    log = rows(files["decisions.csv"])
    assert [(row["reader"], row["verdict"]) for row in log] == [(f"'{READER}", "label")] * 5
    assert harmless(files["labels.csv"])
    assert harmless(files["decisions.csv"])

    files = export(page, copy, "Folders", audit=False)
    assert told(rows(files["metadata.csv"])) == expected
    assert images(files) == 13
    assert "decisions.csv" not in files
    for row in rows(files["metadata.csv"]):
        assert row["file_name"] in files
        assert Path(row["file_name"]).parent.name == row["label"]

    files = export(page, copy, "COCO")
    document = json.loads(files["annotations.json"])
    categories = {each["id"]: each["name"] for each in document["categories"]}
    of_image = {each["image_id"]: categories[each["category_id"]] for each in document["annotations"]}
    assert {each["sha256"]: of_image[each["id"]] for each in document["images"]} == expected
    assert len(document["decisions"]) == 5
    assert images(files) == 13

    files = export(page, copy, "Hugging")
    tables = [content for name, content in files.items() if name.endswith("/metadata.csv")]
    assert {sha: label for table in tables for sha, label in told(rows(table)).items()} == expected
    assert b"load_dataset" in files["README.md"]
    assert len(rows(files["decisions.csv"])) == 5

    files = export(page, copy, "Croissant", audit=False)
    assert json.loads(files["croissant.json"])["conformsTo"] == "http://mlcommons.org/croissant/1.0"
    assert told(rows(files["labels.csv"])) == expected
    with zipfile.ZipFile(io.BytesIO(files["images.zip"])) as archive:
        assert len(archive.namelist()) == 13


def put(page: Page, file: Path, as_: str, source: str = "", create: bool = False) -> None:
    """Fill the form of an import."""
    page.locator("#label-source input, #label-source textarea").fill(source)
    page.locator("#label-treat").get_by_text(as_).click()
    page.locator("#label-create input").set_checked(create)
    if file.is_dir():
        page.locator("#label-import-place input, #label-import-place textarea").fill(str(file))
        return
    page.locator("#label-upload input[type=file]").set_input_files(file)
    expect(page.locator("#label-upload")).to_contain_text(file.stem)


def take_in(page: Page, copy: Copy) -> Job:
    return ended(page, copy, "import_labels", page.locator("#label-import").click)


def written(folder: Path, copy: Copy, samples: list[int], *more: list[str], probability: str = "") -> Path:
    """A table that tells the truth about these images, and `more`."""
    file = folder / f"old {uuid4().hex[:6]}.csv"
    with file.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(["file_name", "label", "probability"])
        for sample in samples:
            writer.writerow([copy.files[sample].split("/shapes/")[1], copy.truth(sample), probability])
        writer.writerows(more)
    return file


def test_labels_come_in_and_the_meter_shows_them(clinic: Workbench, page: Page, tmp_path: Path) -> None:
    copy = Copy(clinic.workspace)
    copy.round(copy.pool[:6])
    open_files(copy, page, clinic.url, "Dr Who")
    beside, said = page.locator("#label-beside"), page.locator("#label-imported")
    expect(beside).to_contain_text("0 labelled")

    unknown = [
        ["nowhere.png", "red thing", ""],
        ["nobody.png", "red thing", ""],
        ["train/red thing/0.png", "=pink", ""],
    ]
    put(page, written(tmp_path, copy, copy.pool[:4], *unknown), "as labels", "registry 2019")
    take_in(page, copy)
    expect(said).to_contain_text("4 labels")
    expect(said).to_contain_text("Could not be used: 3 lines")
    expect(said.locator("tr", has_text="no image of the data set is called so").first).to_contain_text("2")
    expect(said.locator("tr", has_text="=pink").first).to_contain_text("1")
    expect(beside).to_contain_text("4 labelled")

    coco = {
        "images": [{"id": s, "file_name": copy.files[s].split("/shapes/")[1]} for s in copy.pool[4:7]],
        "categories": [{"id": n, "name": name} for name, n in copy.ids.items()],
        "annotations": [
            {"id": s, "image_id": s, "category_id": copy.ids[copy.truth(s)], "bbox": [0, 0, 1, 1]}
            for s in copy.pool[4:7]
        ],
    }
    (tmp_path / "coco.json").write_text(json.dumps(coco), "utf-8")
    put(page, tmp_path / "coco.json", "as labels")
    take_in(page, copy)
    expect(said).to_contain_text("3 labels")
    expect(beside).to_contain_text("7 labelled")

    folder = tmp_path / "sorted"
    for sample in copy.pool[7:9]:
        (folder / copy.truth(sample)).mkdir(parents=True, exist_ok=True)
        shutil.copy(copy.files[sample], folder / copy.truth(sample) / f"renamed {sample}.png")
    put(page, folder, "as labels")
    take_in(page, copy)
    expect(said).to_contain_text("2 labels")
    expect(beside).to_contain_text("9 labelled")
    with copy.workspace.session() as session:
        found = effective_labels(session, copy.id)
    assert all(found[sample] == copy.ids[copy.truth(sample)] for sample in copy.pool[:9])
    assert [row.annotator for row in copy.rows()] == ["registry 2019"] * 4 + ["coco.json"] * 3 + ["sorted"] * 2


def test_suggestions_come_in_and_stand_beside_the_image(clinic: Workbench, page: Page, tmp_path: Path) -> None:
    copy = Copy(clinic.workspace)
    copy.round(copy.pool[:6])
    chosen = label_settings(copy.workspace, copy.id).model_copy(update={"blind": False})
    save_label_settings(copy.workspace, copy.id, chosen)
    reader = f"Dr {uuid4().hex[:6]}"
    open_files(copy, page, clinic.url, reader)
    shown, suggested = page.locator(SHOWN), page.locator("#label-reader [data-part=suggested]")
    expect(shown).to_have_count(1)
    first = on_screen(page)

    put(page, written(tmp_path, copy, copy.pool[:6]), "as suggestions", "the <b>registry</b>")
    take_in(page, copy)
    expect(suggested).to_have_text(f"Suggested by the <b>registry</b>: {copy.truth(first)}.")
    assert on_screen(page) == first  # nothing is taken out of the reader's hands

    put(page, written(tmp_path, copy, copy.pool[:6], probability="83 %"), "as suggestions", "model 7")
    take_in(page, copy)
    expect(suggested).to_contain_text(f"Suggested by model 7: {copy.truth(first)} 0.83.")
    expect(suggested).to_contain_text(f"Suggested by the <b>registry</b>: {copy.truth(first)}.")
    expect(page.locator("#label-beside")).to_contain_text("0 labelled")  # nothing counts before it is confirmed
    assert copy.said(reader) == {}

    page.get_by_role("button", name="Look at the suggested ones").click()
    expect(page.locator("#label-place")).to_contain_text("With a suggestion from a file: 6 images")
    expect(suggested).to_contain_text("Suggested by")
    sample = on_screen(page)
    page.keyboard.press(copy.keys[copy.truth(sample)])
    expect(page.locator("#label-beside")).to_contain_text("1 labelled")
    row = copy.rows()[-1]
    assert (row.sample_id, row.annotator, row.verdict) == (sample, reader, Verdict.LABEL)
    right = copy.ids[copy.truth(sample)]
    assert row.aids["offered"] == [[right, 0.83, "model 7"], [right, None, "the <b>registry</b>"]]
    assert row.model == ""


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("report.csv", b"patient,age\n1,40\n", "has no column of classes"),
        ("labels.csv", b"patient,label\n1,red thing\n", "does not say which image a row is about"),
        ("coco.json", b'{"images": []}', "is not a COCO file"),
        ("cut.json", b'{"images": [', "is not valid JSON"),
        ("cut.zip", b"PK\x03\x04 cut off", "its end is missing"),
    ],
)
def test_a_wrong_file_is_told_and_changes_nothing(
    clinic: Workbench, page: Page, tmp_path: Path, name: str, content: bytes, told: str
) -> None:
    copy = Copy(clinic.workspace)
    open_files(copy, page, clinic.url, "Dr Who")
    (tmp_path / name).write_bytes(content)
    put(page, tmp_path / name, "as labels", create=True)
    assert take_in(page, copy).state is JobState.FAILED
    expect(page.locator("#label-imported .pl-problem")).to_contain_text(told)
    assert copy.rows() == []
    assert imported_suggestions(copy.workspace, copy.id) == {}
    assert len(Copy(clinic.workspace, copy.id).ids) == 4


def test_nothing_chosen_is_told_at_once(clinic: Workbench, page: Page) -> None:
    copy = Copy(clinic.workspace)
    open_files(copy, page, clinic.url, "Dr Who")
    page.locator("#label-import").click()
    expect(page.get_by_text("Nothing was chosen yet.")).to_be_visible()
    assert jobs_of(copy, "import_labels") == []
