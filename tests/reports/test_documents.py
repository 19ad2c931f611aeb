"""A report says what came out with its uncertainty, shows it, and neither fetches, runs nor gives away anything."""

from __future__ import annotations

import io
import re
from base64 import b64decode
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from engines.errors import ConfigError, DataError
from engines.reports import make_slides, write_report
from engines.reports.document import document
from engines.reports.of_results import report_of_results
from engines.reports.pictures import picture
from engines.reports.results import difference_sentence, find_results, ready_made
from engines.store import Dataset, Run, Sample, Workspace
from engines.store.agreement import READY_MADE, agreement

EVIL = "<script>document.title='harmed'</script>"


class Parts(HTMLParser):
    """Elements with their attributes, and the words between them."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self._hidden = ""
        self.feed(markup)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self._hidden = tag if tag in ("style", "script") else self._hidden

    def handle_endtag(self, tag: str) -> None:
        self._hidden = "" if tag == self._hidden else self._hidden

    def handle_data(self, data: str) -> None:
        self.words += "" if self._hidden else f"{data} "


def addresses(parts: Parts) -> set[str]:
    """Everything that a browser might fetch or go to."""
    wanted = ("src", "href", "action", "data", "poster", "srcset", "background")
    return {value or "" for _, attributes in parts.found for name, value in attributes.items() if name in wanted}


@pytest.fixture(scope="module")
def one(trained: Workspace, keys: dict[str, str]) -> str:
    return write_report(trained, [keys["coop"]]).read_text("utf-8")


@pytest.fixture(scope="module")
def several(trained: Workspace, keys: dict[str, str]) -> str:
    return write_report(trained, [keys["coop"], keys["tip-adapter"], keys["linear-probe"]]).read_text("utf-8")


def test_a_report_of_one_result_has_all_its_parts(one: str) -> None:
    words = Parts(one).words
    for part in (
        "What was asked",
        "The images",
        "How it was done",
        "What came out",
        "Class by class",
        "How sure it is",
    ):
        assert part in words
    for part in ("Images it got wrong", "The limits of this result", "To do it again", "Not for diagnosis"):
        assert part in words
    assert "Learns the words in front of the class name" in words
    assert "arXiv 2109.01134" in words
    assert "torch" in words


def test_its_numbers_are_those_that_were_measured(trained: Workspace, keys: dict[str, str], one: str) -> None:
    (result,) = find_results(trained, [keys["coop"]])
    shares = [summary["accuracy"] for summary in result.summaries]
    mean = sum(shares) / 2
    spread = abs(shares[0] - shares[1]) / 2  # standard deviation of two values, by their number
    words = Parts(one).words
    assert f"{100 * mean:.1f}% ± {100 * spread:.1f}" in words
    with trained.session() as session:
        fingerprint = session.query(Dataset).one().fingerprint
    assert fingerprint in words
    assert re.search(r"Seeds\s+1, 2", words)


def test_one_seed_has_an_interval_over_its_images(trained: Workspace, keys: dict[str, str]) -> None:
    (result,) = find_results(trained, [keys["linear-probe"]])
    found = result.interval()
    assert found is not None
    # Wilson's interval by hand, of 24 test images.
    share, n, z = result.summary["accuracy"], 24, 1.959963984540054
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * (share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5
    assert (found.low, found.high) == pytest.approx((max(0, centre - half), min(1, centre + half)))


def test_a_run_alone_is_a_report_of_its_seed(trained: Workspace, keys: dict[str, str]) -> None:
    (whole,) = find_results(trained, [keys["coop"]])
    (alone,) = find_results(trained, [whole.runs[1].id])
    assert [run.seed for run in whole.runs] == [1, 2]
    assert [run.seed for run in alone.runs] == [2]


def test_a_comparison_puts_the_ready_made_prompt_beside_the_others(several: str) -> None:
    words = Parts(several).words
    for name in ("CoOp, 2 per class", "Tip-Adapter, 4 per class", "Linear probe, 4 per class", "Ready-made prompt"):
        assert name in words
    assert "different numbers of labelled images (2 and 4 per class)" in words


def test_a_difference_is_told_as_it_was_counted(trained: Workspace, keys: dict[str, str]) -> None:
    first, second = find_results(trained, [keys["linear-probe"], keys["coop"]])
    beside = ready_made(second)
    counted = agreement(trained, first.runs[0].id, READY_MADE)
    assert counted is not None
    sentence = difference_sentence(trained, first, beside)
    if counted.first_only != counted.second_only:
        assert f"right on {max(counted.first_only, counted.second_only)} of 24 images" in sentence
        assert ("surprising" in sentence) == (counted.p_value < 0.05)
    assert f"Both are right on {counted.both} images, both wrong on {counted.neither}." in sentence


@pytest.mark.parametrize("page", ["one", "several"])
def test_nothing_leaves_the_file(page: str, request: pytest.FixtureRequest) -> None:
    parts = Parts(request.getfixturevalue(page))
    assert all(each.startswith(("data:image/jpeg;base64,", "#")) for each in addresses(parts))
    text = request.getfixturevalue(page)
    assert "url(" not in text
    assert "@import" not in text
    policy = next(a["content"] for tag, a in parts.found if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    assert "'unsafe-inline'" not in policy.split("script-src")[1]


@pytest.mark.parametrize("page", ["one", "several"])
def test_no_file_name_and_no_patient_is_in_it(page: str, request: pytest.FixtureRequest) -> None:
    text = request.getfixturevalue(page)
    for secret in ("patient-", ".png", "clinic/"):
        assert secret not in text


def test_names_are_harmless(trained: Workspace, keys: dict[str, str]) -> None:
    with trained.session() as session:
        dataset, run = session.query(Dataset).one(), session.query(Run).filter_by(method="linear-probe").one()
        before = dataset.name, run.name
        dataset.name, run.name = EVIL, EVIL
    try:
        for page in (
            document(report_of_results(trained, [keys["linear-probe"]])),
            make_slides(trained, [keys["linear-probe"]]),
        ):
            parts = Parts(page)
            assert [tag for tag, _ in parts.found].count("script") == 1
            assert EVIL in parts.words
    finally:
        with trained.session() as session:
            session.query(Dataset).one().name = before[0]
            session.query(Run).filter_by(method="linear-probe").one().name = before[1]


def test_images_are_small_and_carry_nothing_but_pixels(trained: Workspace, several: str, tmp_path: Path) -> None:
    pictures = re.findall(r"data:image/jpeg;base64,([^\"]+)", several)
    assert pictures
    for each in pictures:
        with Image.open(io.BytesIO(b64decode(each))) as image:
            assert max(image.size) <= 160
    file = tmp_path / "named.jpg"
    Image.new("RGB", (900, 500), "teal").save(file, comment=b"Jane Doe", exif=_named())
    sample = Sample(file=str(file), sha256="f" * 64)
    for side in (160, 360):
        made = b64decode(picture(trained, sample, side).split(",")[1])
        assert b"Jane Doe" not in made
        with Image.open(io.BytesIO(made)) as image:
            assert max(image.size) == side
            assert not image.getexif()


def _named() -> Image.Exif:
    exif = Image.Exif()
    exif[0x010E] = "Jane Doe"
    return exif


def test_an_image_that_is_gone_is_left_out(trained: Workspace, tmp_path: Path) -> None:
    assert picture(trained, Sample(file=str(tmp_path / "none.png"), sha256="e" * 64)) == ""


def test_slides_are_in_order_and_only_the_first_is_shown(trained: Workspace, keys: dict[str, str]) -> None:
    page = make_slides(trained, [keys["coop"], keys["linear-probe"]], title="Tumour board")
    titles = re.findall(r"<h2>([^<]+)</h2>", page)
    assert titles[:4] == ["The question", "The images", "The result", "How many were right"]
    assert titles[4].startswith("Class by class")
    assert titles[-3].endswith("on which they differ")
    assert titles[-2:] == ["The limits", "Keys"]
    shown = [attributes for tag, attributes in Parts(page).found if tag == "section" and "hidden" not in attributes]
    assert len(shown) == 1
    parts = Parts(page)
    assert not {"button", "input", "a", "select", "textarea", "form"} & {tag for tag, _ in parts.found}
    assert "Tumour board" in parts.words


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        (["nobody"], "no result “nobody”"),
        (["a", "b", "c", "d", "e", "f", "g"], "too many"),
    ],
)
def test_refusals(trained: Workspace, wanted: list[str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        write_report(trained, wanted)
    with pytest.raises(ConfigError, match=told):
        make_slides(trained, wanted)


def test_nothing_is_reported_of_what_is_not_done(trained: Workspace) -> None:
    with trained.session() as session:
        run = Run(name="waiting", dataset_id=1, backbone="mini-clip", method="coop", experiment="waiting")
        session.add(run)
        session.flush()
        run_id = run.id
    try:
        with pytest.raises(ConfigError, match="not finished"):
            write_report(trained, ["waiting"])
    finally:
        with trained.session() as session:
            session.delete(session.get_one(Run, run_id))


def test_nobody_has_labelled_yet(trained: Workspace) -> None:
    with pytest.raises(DataError, match="Nobody has read any image"):
        write_report(trained, dataset_id=1)
