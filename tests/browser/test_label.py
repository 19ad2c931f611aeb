"""Labelling with the machine, as a clinician does it: batches, a second reader, the search, the last word."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from playwright.sync_api import Browser, Page, expect
from sqlalchemy import select

from engines.data import ImportRequest, import_dataset
from engines.data.practice import practice_copy
from engines.labelling import Entry, effective_labels, label_settings, record, save_label_settings, standing
from engines.store import Annotation, Dataset, Job, JobState, Sample, SelectionRound, Verdict, Workspace
from engines.store.browse import classes
from tests.browser.conftest import PATIENCE, WINDOW, Workbench, watch
from tests.runs.conftest import COLOURS, write_shapes

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(1800)]
LONG = 240_000
"""Milliseconds for what computes: starting the worker, looking at the images, training."""
SHOWN = "#label-reader [data-shown]"
NOTE_WHAT_STANDS_THERE = """() => {
  const place = document.querySelector('#label-found');
  window.stood = [];
  new MutationObserver(() => window.stood.push(place.innerText.trim())).observe(
    place, {childList: true, subtree: true, characterData: true});
}"""


@pytest.fixture(scope="module")
def clinic(start_workbench: Callable[[Workspace], Workbench], tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    """A workbench with one small labelled data set; nobody wants its first tour."""
    folder = tmp_path_factory.mktemp("label")
    workspace = Workspace.open(folder / "clinic")
    source = write_shapes(folder / "shapes", train=15, test=10)
    import_dataset(workspace, ImportRequest(source=str(source), name="shapes"))
    with workspace.session() as session:
        session.add(Job(kind="sample", title="Sample data", state=JobState.CANCELLED))
    return start_workbench(workspace)


@pytest.fixture
def other_page(browser: Browser, problems: list[str]) -> Iterator[Page]:
    """The window of somebody else, with a memory of its own."""
    context = browser.new_context(**WINDOW)
    context.set_default_timeout(PATIENCE)
    opened = context.new_page()
    watch(opened, problems)
    yield opened
    context.close()


class Copy:
    """A practice copy of the shapes under a name of its own, with what its images really show."""

    def __init__(self, workspace: Workspace, dataset_id: int | None = None) -> None:
        self.workspace = workspace
        with workspace.session() as session:
            first = session.scalars(select(Dataset.id).where(Dataset.name == "shapes")).one()
        self.id = dataset_id or practice_copy(workspace, first)
        self.name = f"practice {uuid4().hex[:6]}"
        with workspace.session() as session:
            session.get_one(Dataset, self.id).name = self.name
            pool = select(Sample).where(Sample.dataset_id == self.id, Sample.split == "pool").order_by(Sample.position)
            self.files = {each.id: each.file for each in session.scalars(pool)}
        self.pool = list(self.files)
        self.keys = {each.name: str(place) for place, each in enumerate(classes(workspace, self.id), 1)}
        self.ids = {each.name: each.id for each in classes(workspace, self.id)}

    def truth(self, sample: int) -> str:
        return next(name for name in COLOURS if f"/{name}/" in self.files[sample])

    def round(self, samples: list[int], readers: int = 1) -> None:
        """A round that asks for these images."""
        with self.workspace.session() as session:
            picks = [{"sample": s, "why": "by hand", "predicted": None, "readers": readers} for s in samples]
            session.add(SelectionRound(dataset_id=self.id, number=1, strategy="random", budget=len(picks), picks=picks))

    def say(self, reader: str, sample: int, name: str) -> None:
        entry = Entry(
            dataset_id=self.id,
            sample_id=sample,
            annotator=reader,
            verdict=Verdict.LABEL,
            class_id=self.ids[name],
            event=uuid4().hex,
        )
        record(self.workspace, entry)

    def rows(self) -> list[Annotation]:
        with self.workspace.session() as session:
            query = select(Annotation).where(Annotation.sample_id.in_(self.pool)).order_by(Annotation.id)
            return list(session.scalars(query))

    def said(self, reader: str) -> dict[int, int | None]:
        return {sample: each.class_id for sample, each in standing(self.workspace, self.id, reader).items()}

    def open(self, page: Page, url: str, reader: str) -> None:
        page.goto(f"{url}label?data={self.name}")
        name = page.locator("#label-name input")
        expect(page.locator("#label-dataset input")).to_have_value(re.compile(self.name))
        if not name.is_visible():
            page.locator("#label-setup > button").click()
        name.fill(reader)
        name.press("Enter")
        expect(page.locator("#label-setup > button")).to_contain_text(reader)


def on_screen(page: Page) -> int:
    """The image that can be decided."""
    found = page.locator(SHOWN)
    expect(found).to_have_count(1)
    return int(found.get_attribute("data-shown") or 0)


def press(page: Page, key: str) -> int:
    """Press a key that leads to another image or the end; the image that was on screen."""
    before = on_screen(page)
    page.keyboard.press(key)
    expect(page.locator(f"{SHOWN[:-1]}='{before}']")).to_have_count(0)
    return before


def label(page: Page, copy: Copy, count: int) -> list[int]:
    """Label images rightly, by keyboard only."""
    return [press(page, copy.keys[copy.truth(on_screen(page))]) for _ in range(count)]


def label_the_rest(page: Page, copy: Copy) -> None:
    """Label until the screen says that nothing is left."""
    nothing_left = page.locator("#label-reader [data-part=empty]:visible")
    while True:
        expect(page.locator(SHOWN).or_(nothing_left).first).to_be_visible()
        if nothing_left.count():
            return
        label(page, copy, 1)


def test_a_newcomer_labels_a_round_by_keyboard_and_sees_the_curve(clinic: Workbench, page: Page) -> None:
    page.goto(f"{clinic.url}label?data=shapes")
    page.get_by_role("button", name="Practise on a copy without labels").click()
    expect(page.locator("#label-dataset input")).to_have_value(re.compile(r"practice"))
    with clinic.workspace.session() as session:
        newest = session.scalars(select(Dataset.id).order_by(Dataset.id.desc()).limit(1)).one()
    copy = Copy(clinic.workspace, newest)
    reader = f"Dr {uuid4().hex[:6]}"
    copy.open(page, clinic.url, reader)
    page.locator("#setting-budget input").fill("30")
    page.get_by_role("button", name="Next batch").click()
    expect(page.locator(SHOWN)).to_have_count(1, timeout=LONG)
    expect(page.locator("#label-beside")).to_contain_text("30 left in this round")

    label(page, copy, 30 - 5)
    for _ in range(3):
        press(page, "z")
    expect(page.locator("#label-beside")).to_contain_text("8 left in this round")
    assert len(copy.said(reader)) == 22
    page.reload()
    expect(page.locator("#label-beside")).to_contain_text("8 left in this round")
    label(page, copy, 8)
    expect(page.locator("#label-reader [data-part=empty]")).to_be_visible()
    said = copy.said(reader)
    assert said == {sample: copy.ids[copy.truth(sample)] for sample in said}
    assert len(said) == 30
    verdicts = Counter(row.verdict for row in copy.rows())
    assert verdicts == {Verdict.LABEL: 33, Verdict.UNDO: 3}

    page.get_by_role("button", name="Next batch").click()
    expect(page.locator(SHOWN)).to_have_count(1, timeout=LONG)
    expect(page.locator("#label-beside")).to_contain_text("30 left in this round")
    expect(page.locator("#label-outcome")).to_contain_text("With 30 labelled images it gets")
    expect(page.locator("#label-outcome")).to_contain_text("the ready-made prompt")
    expect(page.locator("#label-curve .scatterlayer .trace").first).to_be_visible()
    page.get_by_role("tab", name="Who said what").click()
    expect(page.locator("#label-history tbody tr").first).to_contain_text(reader)
    expect(page.locator("#label-history")).to_contain_text("of 36")
    page.get_by_role("button", name="Check that nothing was changed").click()
    expect(page.locator("#label-checked .good")).to_contain_text("as they were written")


def test_two_label_at_once_and_their_agreement_shows(clinic: Workbench, page: Page, other_page: Page) -> None:
    copy = Copy(clinic.workspace)
    twice, once = copy.pool[:8], copy.pool[8:16]
    copy.round(twice, readers=2)
    with clinic.workspace.session() as session:
        session.add(
            SelectionRound(
                dataset_id=copy.id,
                number=2,
                strategy="random",
                budget=8,
                picks=[{"sample": s, "why": "by hand", "predicted": None, "readers": 1} for s in once],
            )
        )
    readers = [f"{name} {uuid4().hex[:6]}" for name in ("Anna", "Ben")]
    for window, reader in zip((page, other_page), readers, strict=True):
        copy.open(window, clinic.url, reader)
        expect(window.locator(SHOWN)).to_have_count(1)
    for _ in range(8):
        for window in (page, other_page):
            label(window, copy, 1)
    for window in (page, other_page):
        label_the_rest(window, copy)
    rows = copy.rows()
    per_image = Counter(row.sample_id for row in rows)
    assert all(per_image[sample] == 2 for sample in twice)
    assert all(1 <= per_image[sample] <= 2 for sample in once)  # two may meet on an image
    assert len({(row.sample_id, row.annotator) for row in rows}) == len(rows)
    page.get_by_role("tab", name="Second reader").click()
    sentence = page.locator("#label-agreement .pl-sentence")
    expect(sentence).to_contain_text("said the same of 100.0%")
    for reader in readers:
        expect(sentence).to_contain_text(reader)
    expect(page.locator("#label-agreement table").first).to_contain_text("Krippendorff")


def test_searching_in_words_finds_images_and_opens_them(clinic: Workbench, page: Page) -> None:
    copy = Copy(clinic.workspace)
    reader = f"Dr {uuid4().hex[:6]}"
    copy.open(page, clinic.url, reader)
    page.locator("#label-words input, #label-words textarea").fill("red thing")
    page.get_by_role("button", name="Find", exact=True).click()
    expect(page.locator("#label-found")).to_contain_text("must be looked at once", timeout=LONG)
    page.get_by_role("button", name="Show what was found").click(timeout=LONG)
    found = page.locator("#label-found .pl-gallery button")
    expect(found).to_have_count(20)
    expect(page.locator("#label-found .pl-sentence")).to_contain_text("Closest to “red thing”", timeout=LONG)
    found.first.click()
    page.evaluate(NOTE_WHAT_STANDS_THERE)
    page.get_by_role("button", name="20 like this one").click()
    expect(page.locator("#label-found .pl-sentence")).to_contain_text("Most like that image", timeout=LONG)
    expect(found).to_have_count(20)
    assert page.evaluate("window.stood.includes('Searching …')")
    page.get_by_role("button", name="Label these").click()
    expect(page.locator("#label-place")).to_contain_text("Most like that image: 20 images")
    first = label(page, copy, 1)[0]
    assert copy.said(reader) == {first: copy.ids[copy.truth(first)]}
    shown = on_screen(page)  # one of those that were found
    expect(page.locator(f"#label-found [data-value='{shown}']")).to_have_count(1)
    page.get_by_role("button", name="20 like the one on screen").click()
    expect(page.locator(f"#label-found [data-value='{shown}']")).to_have_count(0)
    expect(found).to_have_count(20, timeout=LONG)


def test_a_third_reader_has_the_last_word(clinic: Workbench, page: Page) -> None:
    copy = Copy(clinic.workspace)
    sample = copy.pool[0]
    right, wrong = copy.truth(sample), next(name for name in copy.ids if name != copy.truth(sample))
    copy.say("Anna", sample, right)
    copy.say("Ben", sample, wrong)
    copy.say("Anna", copy.pool[1], copy.truth(copy.pool[1]))
    copy.say("Ben", copy.pool[1], copy.truth(copy.pool[1]))
    copy.open(page, clinic.url, "Anna")
    page.get_by_role("tab", name="Second reader").click()
    expect(page.locator("#label-disputes")).to_contain_text("a third reader decides")
    expect(page.locator("#label-agreement .pl-sentence")).to_contain_text("said the same of 50.0% of 2 images")
    copy.open(page, clinic.url, f"Chair {uuid4().hex[:6]}")
    page.get_by_role("tab", name="Second reader").click()
    expect(page.locator("#label-disputes .pl-gallery")).to_have_text("readers differ")
    page.get_by_role("button", name="Decide 1 now").click()
    expect(page.locator("#label-place")).to_contain_text("The last word where readers disagree")
    assert label(page, copy, 1) == [sample]
    expect(page.locator("#label-place")).to_contain_text("You have looked at all of these")
    page.get_by_role("tab", name="Find images").click()
    page.get_by_role("tab", name="Second reader").click()
    expect(page.locator("#label-disputes .pl-gallery")).to_contain_text(f"last word: {right}")


def test_a_warning_on_a_class_without_labels_leads_to_the_search(clinic: Workbench, page: Page) -> None:
    copy = Copy(clinic.workspace)
    reader = f"Dr {uuid4().hex[:6]}"
    sample = next(each for each in copy.pool if copy.truth(each) == "grey thing")
    copy.say(reader, sample, "grey thing")
    copy.open(page, clinic.url, reader)
    expect(page.locator("#label-beside")).to_contain_text("No image of 3 classes yet")
    page.get_by_role("button", name="Look for “red thing”").click()
    expect(page.locator("#label-words input, #label-words textarea")).to_have_value("red thing")
    expect(page.locator("#label-found")).to_contain_text(re.compile("must be looked at once|Closest to"), timeout=LONG)


def test_images_without_classes_are_given_some(clinic: Workbench, page: Page, tmp_path: Path) -> None:
    name = f"plain {uuid4().hex[:6]}"
    folder = tmp_path / name
    folder.mkdir()
    for place, file in enumerate(sorted(write_shapes(tmp_path / "s", 2, 1).rglob("*.png"))):
        file.rename(folder / f"{place}.png")
    imported = import_dataset(clinic.workspace, ImportRequest(source=str(folder), name=name))
    assert imported.dataset_id
    page.goto(f"{clinic.url}label?data={name}")
    expect(page.locator("#label-classes")).to_contain_text("has no class so far")
    page.locator("#label-class-names textarea").fill("red\n\nnot red\nred")
    page.get_by_role("button", name="Save the classes").click()
    expect(page.locator("#label-beside")).to_contain_text("not red")
    assert [each.name for each in classes(clinic.workspace, imported.dataset_id)] == ["red", "not red"]


def test_labels_are_exported_with_their_log(clinic: Workbench, page: Page) -> None:
    copy = Copy(clinic.workspace)
    reader = f"=cmd {uuid4().hex[:6]}"
    copy.say(reader, copy.pool[0], copy.truth(copy.pool[0]))
    copy.open(page, clinic.url, "Dr Who")
    page.get_by_role("tab", name="Export and import").click()
    page.get_by_role("button", name="Export", exact=True).click()
    link = page.locator("#label-exported").get_by_role("link", name="Download decisions.csv")
    expect(link).to_be_visible(timeout=LONG)
    with page.expect_download() as saved:
        link.click()
    text = Path(saved.value.path()).read_text(encoding="utf-8-sig")
    assert f"'{reader}" in text
    assert f",{reader}" not in text


def test_the_settings_are_kept(clinic: Workbench, page: Page) -> None:
    copy = Copy(clinic.workspace)
    save_label_settings(clinic.workspace, copy.id, label_settings(clinic.workspace, copy.id))
    copy.open(page, clinic.url, "Dr Who")
    budget = page.locator("#setting-budget input")
    budget.fill("6000")
    expect(page.locator("#setting-budget.pl-wrong")).to_contain_text("6,000 does not work here")
    budget.fill("7")
    expect(page.locator("#label-setup > button")).to_contain_text("7 images per round")
    page.locator("#setting-balanced input").uncheck()
    expect(page.locator("#label-setup > button")).not_to_contain_text("balanced")
    page.reload()
    expect(page.locator("#setting-budget input")).to_have_value("7")
    kept = label_settings(clinic.workspace, copy.id)
    assert (kept.budget, kept.balanced) == (7, False)


def test_a_wrong_label_is_found_and_put_right(clinic: Workbench, page: Page, tmp_path: Path) -> None:
    name = f"slips {uuid4().hex[:6]}"
    source = write_shapes(tmp_path / name, train=15, test=6)
    (source / "train" / "red thing" / "0.png").rename(source / "train" / "blue thing" / "slip.png")
    imported = import_dataset(clinic.workspace, ImportRequest(source=str(source), name=name)).dataset_id
    assert imported
    page.goto(f"{clinic.url}label?data={name}")
    page.locator("#label-offer").get_by_role("button", name="Look for wrong labels").click()
    expect(page.get_by_role("tab", name="Likely errors")).to_have_attribute("aria-selected", "true")
    hint = page.locator("#label-errors .pl-gallery button").first
    expect(hint).to_contain_text("blue thing → red thing?", timeout=LONG)
    page.locator("#label-name input").fill("Dr Who")
    page.locator("#label-name input").press("Enter")
    expect(page.locator("#label-setup > button")).to_contain_text("Dr Who")
    hint.click()
    expect(page.locator("#label-place")).to_contain_text("Labels that may be wrong: 1 image")
    red = next(each for each in classes(clinic.workspace, imported) if each.name == "red thing")
    sample = press(page, str(red.position + 1))
    with clinic.workspace.session() as session:
        assert session.get_one(Sample, sample).name.endswith("slip.png")
        assert effective_labels(session, imported)[sample] == red.id


def test_another_data_set_clears_what_the_tabs_showed(clinic: Workbench, page: Page) -> None:
    first, second = Copy(clinic.workspace), Copy(clinic.workspace)
    for reader in ("Anna", "Ben"):
        for place, copy in enumerate((first, second), 1):
            for sample in copy.pool[:place]:
                copy.say(reader, sample, copy.truth(sample))
    first.open(page, clinic.url, "Dr Who")
    page.get_by_role("tab", name="Second reader").click()
    expect(page.locator("#label-agreement .pl-sentence")).to_contain_text("of 1 image")
    page.locator("#label-dataset input").click()
    page.get_by_role("option", name=second.name).click()
    expect(page.locator("#label-setup > button")).to_contain_text(second.name)
    expect(page.get_by_role("tab", name="Find images")).to_have_attribute("aria-selected", "true")
    page.get_by_role("tab", name="Second reader").click()
    expect(page.locator("#label-agreement .pl-sentence")).to_contain_text("of 2 images")
