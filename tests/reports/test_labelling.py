"""A report of a labelling study: how many, by whom under a pseudonym, the curve, agreement with intervals."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from engines.errors import DataError
from engines.reports import make_slides, write_report
from engines.reports.study import study
from engines.store import Workspace
from tests.labelling.conftest import Clinic

READERS = ("Ada Lovelace", "Grace Hopper")
EVIL = "<script>x</script>"


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clinic]:
    """Twelve images, ten of them read by two readers who differ on two; two rounds that were measured."""
    workspace = Workspace.open(tmp_path_factory.mktemp("study") / "clinic")
    made = Clinic(workspace, images=12, name=f"smears {EVIL}")
    made.add_round(list(range(6)), summary={"labelled": 0, "accuracy": None, "zero_shot": None})
    for number, (labelled, right) in enumerate(((6, 0.5), (10, 0.75))):
        made.add_round(
            [6 + number],
            summary={
                "labelled": labelled,
                "accuracy": right,
                "accuracy_interval": [right - 0.1, right + 0.1],
                "zero_shot": 0.4,
            },
        )
    for image in range(10):
        made.say(image, "a" if image % 2 else "b", READERS[0], seconds=2.0 + image % 3, comment="Jane Doe")
        made.say(image, "c" if image in (3, 4) else "a" if image % 2 else "b", READERS[1], seconds=5.0)
    made.say(10, "unsure", READERS[0])
    yield made
    workspace.close()


@pytest.fixture(scope="module")
def text(clinic: Clinic) -> str:
    return write_report(clinic.workspace, dataset_id=clinic.id).read_text("utf-8")


def words(markup: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", re.sub(r"<(style|script)>.*?</\1>", " ", markup, flags=re.S)).split())


def test_readers_are_counted_under_pseudonyms(clinic: Clinic) -> None:
    found = study(clinic.workspace, clinic.id)
    assert [(r.name, r.images, r.unsure) for r in found.readers] == [("Reader 1", 11, 1), ("Reader 2", 10, 0)]
    assert found.readers[1].seconds == 5.0
    assert found.readers[0].seconds == 3.0  # the median of 2, 3, 4, 2, 3, 4, 2, 3, 4, 2


def test_the_sentence_gives_the_last_measurement_with_its_interval(clinic: Clinic) -> None:
    sentence = study(clinic.workspace, clinic.id).sentence
    assert "11 images were read by 2 readers in 3 rounds, and 8 to learn from have a label now" in sentence
    assert "75.0% of the test images right (65.0% to 85.0%); the ready-made prompt gets 40.0%" in sentence


def test_agreement_is_told_with_intervals(text: str) -> None:
    said = words(text)
    assert "10 images were read by two or more." in said
    assert "Same answer (share of the images) 80.0%" in said
    # Cohen's kappa by hand. Reader 1: a 5, b 5; reader 2: a 4, b 4, c 2. Chance: (5 * 4 + 5 * 4) / 100 = 0.4.
    assert f"{(0.8 - 0.4) / (1 - 0.4):.2f}" in said
    assert "Reader 1 and Reader 2 10 80.0%" in said
    assert "Only 10 images were read twice" in said


def test_the_curve_has_a_point_for_each_measured_round(text: str) -> None:
    (points,) = re.findall(r'<polyline points="([^"]+)"', text)
    assert len(points.split()) == 2
    assert "ready-made prompt 40.0%" in text


def test_nothing_gives_a_person_away(clinic: Clinic, text: str) -> None:
    for page in (text, make_slides(clinic.workspace, dataset_id=clinic.id)):
        for secret in (*READERS, "Jane Doe", ".png"):
            assert secret not in page
        assert EVIL not in page
        assert page.count("<script>") == 1
        assert "Reader 1" in page


def test_a_study_that_nobody_began_has_no_report(tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path / "clinic")
    made = Clinic(workspace)
    with pytest.raises(DataError, match="Nobody has read any image"):
        write_report(workspace, dataset_id=made.id)
    with pytest.raises(DataError):
        write_report(workspace, dataset_id=99)
    workspace.close()
